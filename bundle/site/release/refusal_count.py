"""What was refused, added up: whoever asks without end must not fill the site's disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bundle.site.release.chain import LedgerError

__all__ = ["Refusals"]

logger = logging.getLogger(__name__)

INTERVAL = 60.0
LONGEST = 300


@dataclass
class _Pending:
    count: int = 0
    last: str = ""
    written: float | None = None  # when an entry of this kind was


class Refusals:
    """
    Counts refusals by their kind, and has an entry written of each kind: of the first at once, then at most one a
    minute, and of what is left when it is flushed. All are counted, and the ledger holds a bounded number of entries.

    ``write`` of its methods writes an entry of the ledger: ``count`` refusals for ``reason``, ``last`` the words of the
    last of them. ``total`` is how many there were.

    Args:
        clock: seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pending: dict[str, _Pending] = {}
        self.total = 0

    def add(self, reason: str, last: str, write: Callable[..., Any]) -> None:
        """
        Args:
            reason: the kind of refusal, one of few.
            last: in words, what was refused this time; cut to 300 signs.
        """
        self.total += 1
        about = self._pending.setdefault(reason, _Pending())
        about.count += 1
        about.last = "".join(sign if sign.isprintable() else " " for sign in last)[:LONGEST]
        self.write_due(write)

    def write_due(self, write: Callable[..., Any]) -> None:
        """Write what has waited for a minute. What cannot be written waits on: it is a refusal all the same."""
        now = self._clock()
        for reason, about in self._pending.items():
            if about.count and (about.written is None or now - about.written >= INTERVAL):
                self._put(reason, about, now, write)

    def flush(self, write: Callable[..., Any]) -> None:
        """Write what waits."""
        for reason, about in self._pending.items():
            if about.count:
                self._put(reason, about, self._clock(), write)

    def _put(self, reason: str, about: _Pending, now: float, write: Callable[..., Any]) -> None:
        try:
            write("refusal", reason=reason, count=about.count, last=about.last)
        except (OSError, LedgerError) as error:
            logger.error("%d refusals (%s) could not be written down: %s", about.count, reason, error)
        else:
            about.count, about.written = 0, now
