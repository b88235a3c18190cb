"""What a site's steps take, for who runs the site: written to its own log, and in no message."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bundle.site.site import Site
from bundle.timing import Laps

__all__ = ["SiteClock"]

logger = logging.getLogger(__name__)


class SiteClock:
    """
    Seconds of a site's steps by part, lapped by the site's end of a network:

    ``waiting``
        for the next message, from the answer to the last.
    ``messages``
        decoding and encoding.
    ``computing``
        what :class:`bundle.site.Site` does: drawing samples, D, the image gradient, and its checkpoints; also in
        seconds of the CPU, of all threads together.

    A line in the log at every checkpoint of the site gives the means over the steps since the line before::

        site A · step 700: 0.21 s computing (0.18 s of CPU), 0.004 s for messages, 0.4 s waiting a step
    """

    def __init__(self) -> None:
        self._wall = Laps()
        self._cpu = Laps(time.process_time)
        self._trained: int | None = None
        self._steps = 0

    @contextmanager
    def message(self) -> Iterator[None]:
        """Around all that a message of the server asks for."""
        self._lap("waiting")
        try:
            yield
        finally:
            self._lap("messages")

    def decoded(self) -> None:
        """What the site computes begins."""
        self._lap("messages")

    def computed(self, site: Site) -> None:
        """It ends: count the site's steps, and say what they took where a checkpoint was due."""
        self._lap("computing")
        before, self._trained = self._trained, site.trained
        if before is None or site.trained <= before:
            return  # it opened, went back, or gave the same answer again
        self._steps += site.trained - before
        if site.store is None or not site.store.due(before, site.trained):
            return
        steps, self._steps = self._steps, 0
        wall = {part: seconds / steps for part, seconds in self._wall.take().items()}
        logger.info(
            "site %s · step %d: %.3g s computing (%.3g s of CPU), %.3g s for messages, %.3g s waiting a step",
            *(site.name, site.trained, wall["computing"], self._cpu.take()["computing"] / steps),
            *(wall["messages"], wall["waiting"]),
        )

    def _lap(self, part: str) -> None:
        self._wall.lap(part)
        self._cpu.lap(part)
