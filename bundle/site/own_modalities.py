"""What a site that lacks modalities of the task refuses."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["check_checkpoint"]


def check_checkpoint(site: str, made_with: Sequence[str], modalities: Sequence[str]) -> None:
    """
    Raises:
        ValueError: for a checkpoint that was made with other modalities.
    """
    if list(made_with) != list(modalities):
        before, now = (", ".join(names) or "every modality" for names in (made_with, modalities))
        raise ValueError(
            f"site {site}: its checkpoint was made with {before}, and its data list says {now} (modalities): bring "
            "back that list, or remove the checkpoints"
        )
