"""Keeps a training of a federation going: what ended without success is submitted again, and goes on where it was.

FLARE ends a job for everybody when a site's process of it dies, and takes no site into a job that is running. The
server keeps checkpoints, and so does every site: the same job, submitted again, goes on from the last of them.
"""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvflare.apis.job_def import RunStatus

from bundle.flare.administrator import Administrator
from bundle.flare.failures import is_passing, is_permanent, last_error
from bundle.flare.progress import ProgressLines

__all__ = ["ACTIVE", "GivenUp", "Policy", "Supervisor"]

logger = logging.getLogger(__name__)

FAREWELL = 30.0
"""Seconds that FLARE gets to end a job whose training is finished, or that it was told to end."""
GONE = 15.0
"""Seconds after which a job that runs, and has no process at the server, is taken for lost."""
ACTIVE = (RunStatus.SUBMITTED, RunStatus.APPROVED, RunStatus.DISPATCHED, RunStatus.RUNNING)
"""FLARE's words for the state of a job that has not ended."""
REMINDER = 60.0
"""Seconds after which it is said again what is waited for."""


class GivenUp(RuntimeError):
    """The training did not finish, and the supervisor does nothing more about it; the message says why."""


@dataclass(frozen=True)
class Policy:
    """
    How patient a supervisor is.

    Args:
        max_restarts: how often in a row the job is submitted again without a new checkpoint in between.
        delay: seconds before it is submitted again; twice as many each time that there is no new checkpoint.
        longest_delay: at most so many.
        interval: seconds between two looks at the job.
        patience: seconds without the server, or without enough sites, after which the supervisor gives up.
        report: seconds between two lines that say how far the training is; infinity for no such lines.
    """

    max_restarts: int = 5
    delay: float = 5.0
    longest_delay: float = 300.0
    interval: float = 5.0
    patience: float = 600.0
    report: float = 30.0


class Supervisor:
    """
    Submits a job and watches it until its training is finished. Where a job of that name is active already, by another
    supervisor or by one that is gone, it is watched and none is submitted: the name says which training it is.

    Submitted again is a job that ended without success, and one that a site is not part of that is there: that site was
    started again. The latter is ended after a checkpoint, so that no step is done twice.

    Args:
        server: the FLARE server, as an administrator sees it.
        folder: the job, of the job's name.
        sites: of the run; at first all are waited for. Empty for those that are there.
        min_sites: how many are waited for before the job is submitted again.
        policy: see :class:`Policy`.
        finished: whether the training is finished, by what can be seen from here; None to believe what the server's
            process of the job says.
        at_each_look: called before every look at the job.
        clock: seconds.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        server: Administrator,
        folder: Path,
        sites: Iterable[str] = (),
        min_sites: int = 1,
        policy: Policy | None = None,
        finished: Callable[[], bool] | None = None,
        at_each_look: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.server = server
        self.folder = folder
        self.sites = tuple(sorted(sites))
        self.min_sites = min_sites
        self.policy = Policy() if policy is None else policy
        self.finished = finished
        self.at_each_look = at_each_look
        self._clock = clock
        self._sleep = sleep
        self._said_finished = False
        self._saved = 0
        self._error: str | None = None
        self.jobs: list[str] = []

    def run(self) -> str:
        """
        Returns:
            The id of the job that finished the training.

        Raises:
            GivenUp: see the policy, when somebody else ended the job, when one of another training is active, when the
                server's process failed for a reason that stays until a person changes something, and when it failed
                twice in a row, without a new checkpoint in between, for the same reason.
        """
        if self._active() is None:
            self._wait_for_sites(max(len(self.sites), self.min_sites), "the job starts without them")
        in_vain, delay = 0, self.policy.delay
        while True:
            saved, error, self._error = self._saved, self._error, None
            job = self.start()
            reason = self._watch(job)
            if reason is None:
                logger.info("job %s: finished", job)
                return job
            if self._saved > saved:
                in_vain, delay = 0, self.policy.delay
            if self._error is not None and is_permanent(self._error):
                raise GivenUp(f"job {job}: {reason}; the next would end so too, and none is submitted")
            if self._saved <= saved and self._error is not None and self._error == error:
                raise GivenUp(f"job {job}: {reason}; so did the one before, and the next would")
            in_vain += 1
            if in_vain > self.policy.max_restarts:
                raise GivenUp(f"job {job}: {reason}; {in_vain} jobs in a row ended without a new checkpoint")
            logger.warning("job %s: %s; it is submitted again in %.0f s (%d)", job, reason, delay, len(self.jobs))
            self._pause(delay)
            delay = min(2 * delay, self.policy.longest_delay)
            self._wait_for_sites(self.min_sites, None)

    def start(self) -> str:
        """
        Returns:
            The id of the training's active job, or of a new one where there is none.

        Raises:
            GivenUp: when a job of another training is active, or the server does not answer.
        """
        job = self._active()
        if job is not None:
            logger.info("job %s: runs already and is watched", job)
        else:
            job = self._insist(lambda: self.server.submit(self.folder))
            logger.info("job %s: submitted", job)
        self.jobs.append(job)
        return job

    def _active(self) -> str | None:
        """The training's job that somebody else submitted and that has not ended."""
        running, name = self._insist(self.server.running), self.folder.name
        found = None
        for about in self._insist(self.server.jobs):
            job, status = about["job_id"], about["status"]
            # one without a process has ended, whatever FLARE still waits for
            if job in self.jobs or status not in ACTIVE or (status == RunStatus.RUNNING and job not in running):
                continue
            if about["job_name"] != name:
                raise GivenUp(
                    f"job {job} ({about['job_name']}, {status}) is of another training than {name}: "
                    "let it finish, or end it with stop"
                )
            if found is None or status == RunStatus.RUNNING:
                found = job
        return found

    def _watch(self, job: str) -> str | None:
        """Why the job ended without success; None when it did with."""
        returned: set[str] = set()
        lines = None if math.isinf(self.policy.report) else ProgressLines(self.policy.report, self._clock)
        wanted, alive = "", self._clock()
        while True:
            if self._is_finished():
                self._let_end(job)
                return None
            status = self._insist(lambda: self.server.status(job))
            if status not in ACTIVE:
                if self._is_finished() or (self.finished is None and status == RunStatus.FINISHED_COMPLETED):
                    return None
                if status == RunStatus.FINISHED_ABORTED and not wanted:
                    raise GivenUp(f"job {job}: somebody ended it; the same command goes on with the training")
                return wanted or f"ended as {status}: {self._why(job)}"
            about = self._progress(job, pause=bool(wanted)) if status == RunStatus.RUNNING else None
            if lines is not None:
                lines.look(job, status, about)
            if status != RunStatus.RUNNING or about is not None or job in self._insist(self.server.running):
                alive = self._clock()
            elif self._clock() - alive > GONE:
                # a server that was started again says so of jobs that it does not have any more
                self._end(job)
                return "its process at the server is gone"
            if about is not None:
                if about["paused"] and wanted:
                    self._end(job)
                    return f"{wanted}, ended after step {about['saved']}"
                outside = self._outside(job, about)
                # twice: a job that has just begun is not at every site yet
                if outside & returned and not wanted:
                    names = ", ".join(sorted(outside & returned))
                    wanted = f"started again so that site {names} takes part"
                    logger.warning("job %s: site %s is there and not in it; it ends at the next checkpoint", job, names)
                returned = outside
            self._pause(self.policy.interval)

    def _why(self, job: str) -> str:
        """What the server's process of a job that has ended failed with; kept when it would fail so again."""
        error, log = None, f"log.txt in jobs/{job}/workspace, a ZIP file of the server's kit,"
        with tempfile.TemporaryDirectory() as place, suppress(OSError, TypeError):  # FLARE may have nothing to give
            error = last_error(self.server.download(job, Path(place)))
        if error is None:
            return f"{log} may say why"
        self._error = None if is_passing(error) else error
        return f"{error} ({log} has the rest)"

    def _is_finished(self) -> bool:
        return self._said_finished or (self.finished is not None and self.finished())

    def _progress(self, job: str, pause: bool) -> dict[str, Any] | None:
        with suppress(ConnectionError):
            about = self.server.progress(job, pause)
            if about is not None:
                self._saved = max(self._saved, about["saved"])
                self._said_finished = about["finished"]
            return about
        return None

    def _outside(self, job: str, about: Mapping[str, Any]) -> set[str]:
        """Sites that answer and do not take part in the job."""
        missing = {site for site, its in about["sites"].items() if its["state"] == "missing"}
        if not missing or about["step"] <= about["saved"]:  # nothing was done since: they may all be about to open
            return set()
        with suppress(ConnectionError):
            return {site for site, jobs in self.server.sites().items() if site in missing and job not in jobs}
        return set()

    def _let_end(self, job: str) -> None:
        """FLARE may wait long for sites that are gone; what they have to say is not needed."""
        end = self._clock() + FAREWELL
        with suppress(ConnectionError):
            while self._clock() < end:
                if self.server.status(job) not in ACTIVE:
                    return
                self._pause(self.policy.interval)
            logger.info("job %s: FLARE still waits for sites, and is told not to", job)
            self.server.abort(job)

    def _end(self, job: str) -> None:
        end = self._clock() + FAREWELL
        with suppress(ConnectionError):
            self.server.abort(job)
        while self._clock() < end and self._insist(lambda: self.server.status(job)) in ACTIVE:
            self._pause(self.policy.interval)

    def _wait_for_sites(self, number: int, otherwise: str | None) -> None:
        """Until so many answer; after the patience without, go on all the same if ``otherwise`` says so, or give up."""
        end = self._clock() + self.policy.patience
        told, remind = None, 0.0
        while True:
            there = self._insist(self.server.sites)
            here = sorted(set(there) & set(self.sites or there))
            if len(here) >= number:
                return
            now = self._clock()
            if told != here or now >= remind:
                names, left = ", ".join(here) or "none", max(0.0, end - now)
                logger.info("%d of %d sites are there: %s; waiting %.0f s more", len(here), number, names, left)
                told, remind = here, now + REMINDER
            if now > end:
                if otherwise is not None and len(here) >= self.min_sites:
                    logger.warning("%s: %s", ", ".join(sorted(set(self.sites) - set(here))), otherwise)
                    return
                raise GivenUp(
                    f"{len(here)} of at least {self.min_sites} sites are there after {self.policy.patience:.0f} s: "
                    f"{', '.join(here) or 'none'}; the same command goes on with the training when they are"
                )
            self._pause(self.policy.interval)

    def _insist(self, question: Callable[[], Any]) -> Any:
        """Ask until the server answers; give up after the patience."""
        end, remind = self._clock() + self.policy.patience, None
        while True:
            try:
                answer = question()
            except ConnectionError as error:
                now = self._clock()
                if now > end:
                    raise GivenUp(
                        f"the server does not answer since {self.policy.patience:.0f} s: {error}; the same command "
                        "goes on with the training when it does"
                    ) from error
                if remind is None or now >= remind:
                    logger.warning("the server does not answer and is asked for %.0f s more: %s", end - now, error)
                    remind = now + REMINDER
                self._pause(self.policy.interval)
            else:
                if remind is not None:
                    logger.info("the server answers again")
                return answer

    def _pause(self, seconds: float) -> None:
        self._sleep(seconds)
        if self.at_each_look is not None:
            self.at_each_look()
