"""A training that goes on from an earlier one with other sites: some are new, some have left."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ignite.engine import Engine, Events

from bundle.checkpoints import load_checkpoint
from bundle.server.conditions import read_conditions, write_conditions
from bundle.server.federation import Federation
from bundle.server.replay import read_replay, write_replay
from bundle.server.teacher_images import read_teacher_images, write_teacher_images
from bundle.server.teacher_networks import weights_file

__all__ = ["Continuation", "EarlierTraining"]

logger = logging.getLogger(__name__)

SAME = ("task", "modalities", "label_groups", "image_range")
"""Keys of a configuration that say what the channels of conditions and images mean."""


class EarlierTraining:
    """
    What an earlier training left at the server.

    Args:
        folder: its ``output_dir``, such as ``runs/one/seed_0/asyndgan``.

    Attributes:
        state: its last checkpoint.
        sites: names of its sites, sorted.

    Raises:
        ValueError: when there is no checkpoint in it, or a damaged one.
    """

    def __init__(self, folder: str | PathLike) -> None:
        self.folder = Path(folder)
        path = self.folder / "gan" / "checkpoints" / "latest.pt"
        if not path.is_file():
            raise ValueError(
                f"earlier: expected the folder of a training, such as runs/one/seed_0/asyndgan, with "
                f"gan/checkpoints/latest.pt in it, got {folder}"
            )
        self.state = load_checkpoint(path)
        self.sites: tuple[str, ...] = tuple(sorted(self.state["trainer"]["sites"]))

    def config(self) -> dict[str, Any]:
        return _config(self.folder / "gan" / "config.yaml")

    def left_before(self) -> dict[str, tuple[list[np.ndarray], Mapping[str, Any]]]:
        """What it kept of sites that had left already: :func:`bundle.server.replay.read_replay`."""
        return read_replay(self.folder / "gan" / "replay")

    def kept(self) -> dict[str, tuple[list[np.ndarray], Mapping[str, Any]]]:
        """Of every site that let its conditions be kept: them, and the weights of what generated at the end."""
        path = self.folder / "gan" / "conditions.npz"
        own = read_conditions(path) if path.is_file() else {}
        return self.left_before() | {site: (conditions, self.state["average"]) for site, conditions in own.items()}

    def all(self) -> Iterator[Path]:
        """The folders of this training and of those that it went on from, as far as they are there."""
        folder: Path | None = self.folder
        seen: set[Path] = set()
        while folder is not None and folder.resolve() not in seen and folder.is_dir():
            seen.add(folder.resolve())
            yield folder
            before = _config(folder / "gan" / "config.yaml").get("earlier")
            folder = Path(before) if isinstance(before, str) and not before.startswith("$") else None

    def drop(self, sites: Iterable[str]) -> None:
        """Delete conditions, teachers' images and weights and replay of sites, here and in all trainings before."""
        gone = set(sites)
        for folder in self.all():
            gan = folder / "gan"
            _drop(gan / "conditions.npz", gone, read_conditions, write_conditions)
            _drop(gan / "teacher.npz", gone, read_teacher_images, write_teacher_images)
            for site in gone:
                weights_file(gan / "teachers", site).unlink(missing_ok=True)
            kept = read_replay(gan / "replay")
            if gone & kept.keys():
                write_replay(gan / "replay", {site: own for site, own in kept.items() if site not in gone})


def _config(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return content if isinstance(content, dict) else {}


def _drop(path: Path, gone: set[str], read: Any, write: Any) -> None:
    if not path.is_file():
        return
    content = read(path)
    left = {site: own for site, own in content.items() if site not in gone}
    if len(left) == len(content):
        return
    if left:
        write(path, left)
    else:
        path.unlink()


class Continuation:
    """
    Ignite handler: a training begins with what an earlier one ended with, and not with initial weights.

    Generator, average and optimiser are those of its last checkpoint; steps count from 1 and the schedule of the
    learning rate begins anew. Of a site that has left, and that let its conditions be kept, those conditions and the
    generator as it was are laid in ``replay_dir``, for :class:`bundle.server.replay.Replay`. A training that has a
    checkpoint of its own goes on from that.

    Args:
        earlier: folder of the earlier training (:class:`EarlierTraining`); None for none.
        load_dict: ``generator``, ``average`` and ``optimizer``.
        federation: the sites of this training.
        replay_dir: folder to write.
        config_path: the kept configuration of this training.
        forget: sites that have left and are not replayed: their conditions and their teachers' images or weights are
            deleted, here and in the folders of the earlier trainings. What G has learned from them is not.

    Raises:
        ValueError: when there is no such training, or it is this one; when it was of another task, modalities or
            classes; when ``forget`` names a site that never took part, or one that takes part now.
    """

    def __init__(
        self,
        earlier: str | PathLike | None,
        load_dict: Mapping[str, Any],
        federation: Federation,
        replay_dir: str | PathLike,
        config_path: str | PathLike,
        forget: Sequence[str] = (),
    ) -> None:
        self.load_dict = load_dict
        self.federation = federation
        self.replay_dir = Path(replay_dir)
        self.forget = tuple(forget)
        self.earlier: EarlierTraining | None = None
        if earlier is not None:
            if Path(earlier).resolve() == self.replay_dir.parent.parent.resolve():
                raise ValueError(f"earlier: {earlier} is the folder of this very training: choose another run_dir")
            self.earlier = EarlierTraining(earlier)
            here = _config(Path(config_path))
            if here.get("generator_guide"):
                raise ValueError(
                    "earlier: with generator_guide nothing reminds G of sites that have left: their teachers' images "
                    "are not kept. Train anew, or without generator_guide"
                )
            self._check_meaning(self.earlier, here)
        self._check_forget()

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        if self.earlier is None or engine.state.iteration:
            return
        self._load(self.earlier)
        if self.forget:
            self.earlier.drop(self.forget)
            logger.warning(
                "of %s nothing is kept that it released; what the generator has learned from it stays",
                _all(self.forget),
            )
        kept = {site: own for site, own in self.earlier.kept().items() if site not in self.federation.sites}
        write_replay(self.replay_dir, kept)
        self._tell(self.earlier, kept)

    def _tell(self, earlier: EarlierTraining, kept: Mapping[str, Any]) -> None:
        now, before = set(self.federation.sites), set(earlier.sites)
        if new := sorted(now - before):
            logger.info("new here: %s", _all(new))
        for site in sorted(before - now - set(self.forget)):
            if site in kept:
                logger.info(
                    "site %s has left: the generator is reminded by %d of its conditions", site, len(kept[site][0])
                )
            else:
                logger.warning("site %s has left and let no conditions be kept: nothing reminds of it", site)

    def _load(self, earlier: EarlierTraining) -> None:
        state = earlier.state
        optimizer = self.load_dict["optimizer"]
        rates = [{key: group[key] for key in ("lr", "initial_lr") if key in group} for group in optimizer.param_groups]
        try:
            for name in ("generator", "average"):
                self.load_dict[name].load_state_dict(state[name])
            optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise ValueError(
                f"earlier: the generator of {earlier.folder} is not one of generator_def here: {error}"
            ) from error
        # the schedule begins anew: at the end of the training before, the rate was 0
        for group, own in zip(optimizer.param_groups, rates, strict=True):
            group.update(own)

    def _check_meaning(self, earlier: EarlierTraining, here: Mapping[str, Any]) -> None:
        there = earlier.config()
        for key in SAME:
            if key in here and key in there and here[key] != there[key]:
                raise ValueError(
                    f"earlier: {earlier.folder} is of {key} {there[key]!r}, this training of {here[key]!r}: "
                    "what its generator has learned would mean something else"
                )

    def _check_forget(self) -> None:
        if not self.forget:
            return
        if self.earlier is None:
            raise ValueError(f"forget names {_all(self.forget)}, and no earlier training (earlier) that they were in")
        known = {*self.earlier.sites, *self.earlier.left_before(), *_sites_before(self.earlier)}
        now = self.federation.sites
        for site in self.forget:
            if site in now:
                raise ValueError(
                    f"forget: {site} is a site of this training: {', '.join(now)}. Leave it out of the list"
                )
            if site not in known:
                named = f"{', '.join(sorted(known))} ({self.earlier.folder})"
                raise ValueError(f"forget: {site} took part in no training before; those that did are {named}")


def _sites_before(earlier: EarlierTraining) -> set[str]:
    """The sites of the trainings before it, as far as their folders are there."""
    found: set[str] = set()
    for folder in earlier.all():
        if (folder / "gan" / "checkpoints" / "latest.pt").is_file():
            found |= set(EarlierTraining(folder).sites)
    return found


def _all(sites: Sequence[str]) -> str:
    return ("site " if len(sites) == 1 else "sites ") + ", ".join(sites)
