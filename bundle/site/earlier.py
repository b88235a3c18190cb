"""The critics that sites had at the end of an earlier training, for one that goes on from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from bundle.checkpoints import load_checkpoint
from bundle.files import below
from bundle.site.site import Site
from bundle.site.store import SiteStore

__all__ = ["begin_with", "critics_of", "stored_critics"]

Critics = Callable[[str], Mapping[str, Any] | None]
"""From the name of a site to its state at the end of the earlier training; None where it took no part."""


def critics_of(folder: str | PathLike | None) -> Critics | None:
    """
    Where all sites were in one process: in the server's checkpoint.

    Args:
        folder: ``output_dir`` of the earlier training; None for none.
    """
    if folder is None:
        return None
    path = Path(folder) / "gan" / "checkpoints" / "latest.pt"
    states = load_checkpoint(path)["federation"].get("sites", {}) if path.is_file() else {}
    return states.get


def stored_critics(checkpoint_dir: str | PathLike, training: str | None) -> Critics | None:
    """
    Where a site keeps its own.

    Args:
        checkpoint_dir: of the site in this training; those of others lie beside it.
        training: identity of the earlier job (:attr:`bundle.declarations.job.Job.identity`); None for none.
    """
    if training is None:
        return None
    return lambda name: SiteStore(below(Path(checkpoint_dir).parent / training, name), training=training).newest()


def begin_with(site: Site, state: Mapping[str, Any] | None) -> None:
    """
    Have a site begin with its critic of an earlier training; with initial weights where it has none.

    Raises:
        ValueError: when it is not one of the settings that the site has now. The message names the site.
    """
    if state is None:
        return
    try:
        site.begin(dict(state))
    except (ValueError, RuntimeError, KeyError) as error:
        raise ValueError(
            f"site {site.name} comes back with other settings than it had in the earlier training: its discriminator "
            f"of then does not fit ({error}). Give it those settings, or another name"
        ) from error
