"""Handlers that keep checkpoints and go on from them; every one is named in a config."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers.checkpoint import BaseSaveHandler
from monai.handlers import CheckpointLoader, CheckpointSaver

from bundle.checkpoints import DamagedCheckpoint, load_checkpoint, previous_path, save_checkpoint
from bundle.engines.handlers import called

__all__ = ["AtomicCheckpointSaver", "Resume", "StoppedAtStep"]

logger = logging.getLogger(__name__)


class StoppedAtStep(RuntimeError):
    """The next step was not begun, and what there is is whole: a run that ends with it can go on from here."""


class _Latest(BaseSaveHandler):
    """Save handler that replaces one file, whole, and keeps the one before."""

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        self.identity = identity

    def __call__(self, checkpoint: Mapping, filename: str, metadata: Mapping | None = None) -> None:
        save_checkpoint(self.path, checkpoint, called(self.identity), keep_previous=True)

    def remove(self, filename: str) -> None:
        """The file that is to be removed has been replaced."""


class AtomicCheckpointSaver(CheckpointSaver):
    """
    MONAI's CheckpointSaver, keeping the latest checkpoint under one name that always is a whole file.

    MONAI's writes in place and deletes the old file before the new one is there: a process killed in between has none.
    The checkpoint before is kept (:func:`bundle.checkpoints.previous_path`), for a disk that damages the latest.

    A run that ends with :class:`StoppedAtStep` is saved as well, where it stopped. One that ends
    with another error is not: what that left half done is not known. Ignite takes an error for handled when a handler
    saw it and raised none, so this one raises all of them again.

    ``engine.state.saved`` is the number of the last iteration that a checkpoint holds, 0 for none.

    Args:
        save_dir: folder of the checkpoint.
        save_dict: objects with ``state_dict``, by name.
        save_interval: epochs between two checkpoints.
        filename: name of the file.
        identity: what it is a checkpoint of, plain values by name (:func:`bundle.checkpoints.save_checkpoint`);
            callables are called, with no arguments.
    """

    def __init__(
        self,
        save_dir: str,
        save_dict: dict,
        save_interval: int = 1,
        filename: str = "latest.pt",
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(save_dir=save_dir, save_dict=dict(save_dict), save_interval=save_interval, n_saved=1)
        self._interval_checkpoint.save_handler = _Latest(Path(save_dir) / filename, identity or {})

    def attach(self, engine: Engine) -> None:
        # a config cannot name the engine here: the engine's own arguments name this handler
        self._interval_checkpoint.to_save["trainer"] = engine
        engine.state.saved = 0
        super().attach(engine)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._stopped)

    def interval_completed(self, engine: Engine) -> None:
        super().interval_completed(engine)
        engine.state.saved = engine.state.iteration

    def _stopped(self, engine: Engine, error: BaseException) -> None:
        # an error passes here twice, on its way out of the epoch and of the run; the epoch's checkpoint is written once
        if isinstance(error, StoppedAtStep):
            self._interval_checkpoint(engine)
            engine.state.saved = engine.state.iteration
        raise error


class Resume(CheckpointLoader):
    """
    MONAI's CheckpointLoader for the engine it is attached to as well, and only if there is a checkpoint.
    ``engine.state.saved`` is the iteration that it holds then (:class:`AtomicCheckpointSaver`).

    A checkpoint that is damaged is set aside as ``NAME.damaged.pt``, and the one before is taken.

    Args:
        load_path: file of an :class:`AtomicCheckpointSaver`.
        load_dict: the objects of its ``save_dict``.
        map_location: device for the tensors.
        identity: its ``identity``.

    Raises:
        DamagedCheckpoint: when the run begins, where there is no whole checkpoint before it.
        CheckpointError: when the run begins, where the checkpoint is of something else.
    """

    load_path: str

    def __init__(
        self, load_path: str, load_dict: dict, map_location: Any = None, identity: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(load_path=load_path, load_dict=dict(load_dict), map_location=map_location)
        self.identity = identity or {}

    def attach(self, engine: Engine) -> None:
        self.load_dict["trainer"] = engine
        super().attach(engine)

    def __call__(self, engine: Engine) -> None:
        latest = Path(self.load_path)
        path = self._whole(latest, previous_path(latest))
        if path is not None:
            self.load_path = str(path)
            super().__call__(engine)
            self.load_path = str(latest)
            engine.state.saved = engine.state.iteration

    def _whole(self, latest: Path, previous: Path) -> Path | None:
        """The checkpoint to go on from; None where there is none."""
        for path in (latest, previous):
            if not path.exists():
                continue
            try:
                load_checkpoint(path, called(self.identity))
            except DamagedCheckpoint as error:
                if path == previous or not previous.exists():
                    raise DamagedCheckpoint(
                        f"{error}; there is no other one. Restore it from a backup, or delete it to start over"
                    ) from None
                aside = path.with_suffix(f".damaged{path.suffix}")
                logger.warning("%s; it is kept as %s, and the training goes on from %s", error, aside.name, previous)
                os.replace(path, aside)
            else:
                return path
        return None
