"""What a site that lacks modalities of the task refuses."""

from __future__ import annotations

from collections.abc import Sequence

from bundle.site.release import ReleasePolicy

__all__ = ["check_checkpoint", "check_policy"]


def check_policy(site: str, policy: ReleasePolicy, modalities: Sequence[str]) -> None:
    """
    Raises:
        ValueError: for a policy with a teacher where modalities are missing.
    """
    if policy.teacher and modalities:
        raise ValueError(
            f"site {site}: its release policy, {policy.name}, has a teacher, which predicts every modality, and its "
            f"data list says that it has {', '.join(modalities)} alone (modalities): choose another policy"
        )


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
