"""How far a training is, in lines for who submitted it: :class:`ProgressLines`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from nvflare.apis.job_def import RunStatus

__all__ = ["ProgressLines"]

logger = logging.getLogger(__name__)

WAITS = {RunStatus.SUBMITTED: "waits to be started", RunStatus.APPROVED: "waits to be started"}


class ProgressLines:
    """
    Lines about a job in the log: where it stands, at every checkpoint and otherwise every ``interval`` seconds how many
    steps are done, what was sent, and which sites answer; at once when that changes.

    Args:
        interval: seconds between two lines about steps.
        clock: seconds.
    """

    def __init__(self, interval: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.interval = interval
        self._clock = clock
        self._stage = ""
        self._told: tuple[int, str] | None = None
        self._step = 0
        self._next = 0.0

    def look(self, job: str, status: str, about: Mapping[str, Any] | None) -> None:
        """
        Args:
            job: its id.
            status: FLARE's word for its state.
            about: what :meth:`Administrator.progress` gave; None when the job did not say.
        """
        if about is None or (about["step"] <= about["saved"] and not _present(about["sites"])):
            stage = WAITS.get(status, "server and sites start, read their data and open")
            if stage != self._stage and self._told is None:
                logger.info("job %s: %s", job, stage)
            self._stage = stage
            return
        now, sites = self._clock(), _sites(about["sites"])
        news = (about["saved"], sites)
        if news == self._told and (about["step"] == self._step or now < self._next):
            return
        logger.info(
            "step %d of %d, saved up to %d · %.1f MB to and %.1f MB from the sites · %s",
            *(about["step"], about["steps"], about["saved"]),
            *(about["bytes_to_sites"] / 1e6, about["bytes_from_sites"] / 1e6, sites),
        )
        self._told, self._step, self._next = news, about["step"], now + self.interval


def _present(states: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [site for site, its in states.items() if its["state"] == "present"]


def _sites(states: Mapping[str, Mapping[str, Any]]) -> str:
    """``A, B answer; C: missing``."""
    present = _present(states)
    said = [f"{', '.join(present)} {'answers' if len(present) == 1 else 'answer'}"] if present else []
    return "; ".join(said + [f"{site}: {its['state']}" for site, its in states.items() if site not in present])
