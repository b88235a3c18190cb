"""Where the time of a step goes: always measured, for a clock costs less than a microsecond."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Laps"]


class Laps:
    """
    Time by part, without gaps: every lap counts the time since the one before it.

    Accelerators compute after the call that asked for it has returned. Nothing waits for them here, so what they still
    do when a part ends is counted in the part that first needs the result.

    Args:
        now: seconds of a clock that never goes back: wall time, or ``time.process_time`` for the CPU's.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._seconds: dict[str, float] = {}
        self._last: float | None = None

    def lap(self, part: str) -> float:
        """
        Count what has passed since the last lap as ``part``; the first lap of all starts the clock.

        Returns:
            The seconds counted.
        """
        now = self._now()
        passed = 0.0 if self._last is None else now - self._last
        self._last = now
        self._seconds[part] = self._seconds.get(part, 0.0) + passed
        return passed

    def take(self) -> dict[str, float]:
        """Seconds by part since they were last taken; the clock goes on."""
        seconds, self._seconds = self._seconds, {}
        return seconds
