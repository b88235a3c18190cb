"""A site's own checkpoints, on its own disk."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from bundle.checkpoints import DamagedCheckpoint, load_checkpoint, save_checkpoint

__all__ = ["SiteStore"]

logger = logging.getLogger(__name__)

NAME = re.compile(r"step_([0-9]+)_run_([0-9]+)\.pt")


class _Kept(NamedTuple):
    step: int
    run: int

    @property
    def course(self) -> int:
        """Steps of one course, done one after the other, have it in common."""
        return self.step - self.run

    @property
    def name(self) -> str:
        return f"step_{self.step:09d}_run_{self.run:09d}.pt"


class SiteStore:
    """
    Checkpoints of one site in one run, one file each.

    A server that was killed goes back to its own last checkpoint, or to the one before it, which are older than what
    its sites have reached. So a site keeps more than its newest state: the newest up to the end of each interval
    between the server's checkpoints. With ``keep=3`` the one that the server goes back to is among them, also when the
    server was killed before it wrote its newest.

    A server chooses the numbers of the steps, and must not make a site lose what it has learnt by a leap to a far step
    or back to the first one. So the newest checkpoints of the course that the site is on are kept, and those of the
    longest one: with the most steps that were done one after the other.

    Args:
        folder: folder of the files, of this site and run alone; made when needed.
        keep: of how many intervals of a course a checkpoint is kept, at least 2.
        interval: steps between two checkpoints: that of the server's (``epoch_length`` · ``checkpoint_epochs``).
        training: names the training among others, in the identity of every checkpoint.

    Raises:
        ValueError: for fewer than 2 checkpoints, or an interval below 1.
    """

    def __init__(self, folder: str | PathLike, keep: int = 3, interval: int = 50, training: str = "") -> None:
        if keep < 2 or interval < 1:
            raise ValueError(f"expected to keep at least 2 checkpoints at an interval >= 1, got {keep} and {interval}")
        self.folder = Path(folder)
        self.keep = keep
        self.interval = interval
        self.training = training

    def due(self, before: int, after: int) -> bool:
        """Whether a checkpoint belongs between these two numbers of steps."""
        return after // self.interval > before // self.interval

    def save(self, step: int, run: int, state: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
        """
        Write the checkpoint of a step.

        Args:
            step: its number.
            run: how many steps up to it were done one after the other.
            state: of the site.
            identity: whose it is; role and training are added.

        Raises:
            OSError: when the file cannot be written; the others are still there then.
        """
        now = _Kept(step, run)
        save_checkpoint(self.folder / now.name, state, self._identity(identity))
        there = self._there()
        own = [kept for kept in there if kept.course == now.course and kept.step <= step]
        farthest = max(there, key=lambda kept: (kept.run, kept.step))
        longest = [kept for kept in there if kept.course == farthest.course]
        for kept in set(there) - {*self._last(own), *self._last(longest)}:
            (self.folder / kept.name).unlink(missing_ok=True)

    def _last(self, course: list[_Kept]) -> list[_Kept]:
        """Of a course, newest first, the newest of each of the last intervals."""
        newest: dict[int, _Kept] = {}
        for kept in course:
            newest.setdefault(-(-kept.step // self.interval), kept)
        return list(newest.values())[: self.keep]

    def load(self, at_most: int, identity: Mapping[str, Any], above: int = -1) -> Iterator[dict[str, Any]]:
        """
        The states of steps up to ``at_most`` and after ``above``, newest first; a damaged one is logged and passed
        over. Tensors are on the CPU.

        Raises:
            CheckpointError: at a checkpoint of something else.
        """
        for kept in self._there():
            if above < kept.step <= at_most:
                try:
                    state = load_checkpoint(self.folder / kept.name, self._identity(identity))
                except DamagedCheckpoint as error:
                    logger.error("%s; an older one has to do", error)
                    continue
                yield state

    def newest(self) -> dict[str, Any] | None:
        """The last state of the longest course, whatever the seed of the training; None where there is none."""
        for kept in sorted(self._there(), key=lambda kept: (kept.run, kept.step), reverse=True):
            try:
                return load_checkpoint(self.folder / kept.name)
            except DamagedCheckpoint as error:
                logger.error("%s; an older one has to do", error)
        return None

    def save_part(self, name: str, state: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
        """
        Write something that is made once in a training, under a name of its own.

        Raises:
            OSError: when the file cannot be written.
        """
        save_checkpoint(self.folder / f"{name}.pt", state, self._identity(identity))

    def load_part(self, name: str, identity: Mapping[str, Any]) -> dict[str, Any] | None:
        """
        What :meth:`save_part` wrote, on the CPU; None where there is none, or it is damaged, which is logged.

        Raises:
            CheckpointError: when it is of something else.
        """
        path = self.folder / f"{name}.pt"
        if not path.exists():
            return None
        try:
            return load_checkpoint(path, self._identity(identity))
        except DamagedCheckpoint as error:
            logger.error("%s; it is made anew", error)
            return None

    def _identity(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        return {"role": "site", "training": self.training, **identity}

    def _there(self) -> list[_Kept]:
        """Newest first, and of one step that of the longest course."""
        found = (NAME.fullmatch(path.name) for path in self.folder.glob("step_*.pt"))
        return sorted((_Kept(int(match[1]), int(match[2])) for match in found if match), reverse=True)
