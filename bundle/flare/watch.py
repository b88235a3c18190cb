"""What an administrator sees of a job at the server, and how a training is ended: :class:`Watch`."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ignite.engine import Engine, Events
from nvflare.collab import collab

from bundle.flare.agreed import TOPIC
from bundle.flare.federation import JobEnded

__all__ = ["TrainingWatch", "Watch"]

logger = logging.getLogger(__name__)

PAUSE_TIMEOUT = 120.0
FAREWELL_TIMEOUT = 15.0


class Watch:
    """
    Tells an administrator how far a job is.

    Args:
        about: what to tell: ``step`` of ``steps``, up to which step something is ``saved``, ``bytes_to_sites`` and
            ``bytes_from_sites``, and ``sites``: by name, with a ``state``.
    """

    def __init__(self, about: Callable[[], dict[str, Any]]) -> None:
        self._about = about
        self._pause = threading.Event()
        self._paused = False
        self._finished = False
        self._asked = False
        self._told = threading.Event()
        collab.fl_ctx.get_engine().register_app_command(TOPIC, self.answer)

    def answer(self, topic: str, data: Any, context: Any) -> dict[str, Any]:
        """What FLARE calls, in a thread of its own, when an administrator asks."""
        self._asked = True
        if isinstance(data, Mapping) and data.get("pause"):
            self._pause.set()
        if self._finished:
            self._told.set()
        return self._about() | {"paused": self._paused, "finished": self._finished}

    def say_goodbye(self) -> None:
        """When somebody has been asking, wait until they know that the job is finished."""
        self._finished = True
        if self._asked:
            self._told.wait(FAREWELL_TIMEOUT)


class TrainingWatch(Watch):
    """
    Tells how far a training is, and lets it be ended where nothing is lost: after a checkpoint.

    Args:
        workflow: the training, not yet run.
    """

    def __init__(self, workflow: Any) -> None:
        self._engine = workflow.make("train::trainer")
        self._ledger = workflow.make("federation_def").ledger
        # behind the handler that writes the checkpoint
        self._engine.add_event_handler(Events.EPOCH_COMPLETED, self._after_epoch)
        super().__init__(self._progress)

    def _progress(self) -> dict[str, Any]:
        state, wire = self._engine.state, self._ledger.summary()
        return {
            "step": int(state.iteration),
            "steps": int((state.epoch_length or 0) * (state.max_epochs or 0)),
            "saved": int(state.saved),
            "bytes_to_sites": int(wire["bytes_to_sites"]),
            "bytes_from_sites": int(wire["bytes_from_sites"]),
            "sites": {site: dict(about) for site, about in state.sites.items()},
        }

    def _after_epoch(self, engine: Engine) -> None:
        if engine.state.saved != engine.state.iteration:
            return
        wire = self._ledger.summary()
        logger.info(
            "step %d is saved · %.1f MB to and %.1f MB from the sites so far",
            engine.state.saved,
            wire["bytes_to_sites"] / 1e6,
            wire["bytes_from_sites"] / 1e6,
        )
        # behind the last step nothing is left to be ended: the training finishes
        if not self._pause.is_set() or engine.state.epoch == engine.state.max_epochs:
            return
        self._paused = True
        logger.info("the job waits for being ended")
        end = time.monotonic() + PAUSE_TIMEOUT
        while time.monotonic() < end and not collab.is_aborted:
            time.sleep(0.2)
        raise JobEnded(f"the job was ended after step {engine.state.saved}, which is saved")
