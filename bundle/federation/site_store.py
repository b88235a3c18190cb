"""A site's own checkpoints, on its own disk."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import torch

from bundle.files import save_torch

__all__ = ["SiteStore"]

logger = logging.getLogger(__name__)

NAME = re.compile(r"step_([0-9]+)\.pt")


class SiteStore:
    """
    The last checkpoints of one site in one run, one file each.

    A server that was killed goes back to its own last checkpoint, which is older than what its sites have reached. So a
    site keeps more than its newest state; with the server's interval between checkpoints and ``keep=2``, the one that
    the server goes back to is among them, also when the server was killed before it wrote its newest.

    Args:
        folder: folder of the files, of this site and run alone; made when needed.
        keep: number of checkpoints to keep, at least 2.
        interval: steps between two checkpoints: that of the server's (``epoch_length`` · ``checkpoint_epochs``).

    Raises:
        ValueError: for fewer than 2 checkpoints, or an interval below 1.
    """

    def __init__(self, folder: str | PathLike, keep: int = 2, interval: int = 50) -> None:
        if keep < 2 or interval < 1:
            raise ValueError(f"expected to keep at least 2 checkpoints at an interval >= 1, got {keep} and {interval}")
        self.folder = Path(folder)
        self.keep = keep
        self.interval = interval

    def due(self, before: int, after: int) -> bool:
        """Whether a checkpoint belongs between these two numbers of steps."""
        return after // self.interval > before // self.interval

    def save(self, step: int, state: dict) -> None:
        """
        Write the checkpoint of a step; older ones go, and those of later steps too: the site went back before them.

        Raises:
            OSError: when the file cannot be written; the others are still there then.
        """
        save_torch(self.folder / f"step_{step:09d}.pt", state)
        earlier = [number for number in self._steps() if number <= step]
        for number, path in self._files().items():
            if number not in earlier[: self.keep]:
                path.unlink(missing_ok=True)

    def load(self, at_most: int, above: int = -1) -> Iterator[tuple[int, dict]]:
        """
        The checkpoints of steps up to ``at_most`` and after ``above``, newest first; one that cannot be read is logged
        and passed over. Tensors are on the CPU.
        """
        for step in self._steps():
            if above < step <= at_most:
                path = self._files()[step]
                try:
                    state = torch.load(path, map_location="cpu", weights_only=True)
                except Exception as error:  # of whatever kind: torch raises half a dozen for a damaged file
                    logger.error("the checkpoint %s cannot be read, an older one has to do: %r", path, error)
                    continue
                yield step, state

    def _files(self) -> dict[int, Path]:
        found = ((NAME.fullmatch(path.name), path) for path in self.folder.glob("step_*.pt"))
        return {int(match[1]): path for match, path in found if match}

    def _steps(self) -> list[int]:
        return sorted(self._files(), reverse=True)
