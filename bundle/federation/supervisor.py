"""Keeps a training of a federation going: what ended without success is submitted again, and goes on where it was.

FLARE ends a job for everybody when a site's process of it dies, and takes no site into a job that is running. The
server keeps checkpoints, and so does every site: the same job, submitted again, goes on from the last of them.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import psutil

__all__ = ["GivenUp", "Participants", "Policy", "Supervisor"]

logger = logging.getLogger(__name__)

FAREWELL = 30.0
"""Seconds that FLARE gets to end a job whose training is finished, or that it was told to end."""
GONE = 15.0
"""Seconds after which a job that runs, and has no process at the server, is taken for lost."""
ACTIVE = ("SUBMITTED", "APPROVED", "DISPATCHED", "RUNNING")
"""FLARE's words for the state of a job that has not ended."""
PASSING = ("TooFewSites", "JobEnded", "another process is writing")
"""In reasons that may be gone the next time: sites that are away, a process of the server that has not died yet."""


class GivenUp(RuntimeError):
    """The training did not finish, and the supervisor does nothing more about it; the message says why."""


class Server(Protocol):
    """What the supervisor asks of a FLARE server: :class:`bundle.federation.flare.Administrator`."""

    def submit(self, folder: Path) -> str: ...

    def status(self, job: str) -> str: ...

    def jobs(self) -> list[dict[str, str]]: ...

    def running(self) -> list[str]: ...

    def sites(self) -> dict[str, list[str]]: ...

    def progress(self, job: str, pause: bool = False) -> dict[str, Any] | None: ...

    def abort(self, job: str) -> None: ...

    def download(self, job: str, folder: Path) -> Path: ...


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
    """

    max_restarts: int = 5
    delay: float = 5.0
    longest_delay: float = 300.0
    interval: float = 5.0
    patience: float = 600.0


class Supervisor:
    """
    Submits a job and watches it until its training is finished. Where a job of that name is active already, by another
    supervisor or by one that is gone, it is watched and none is submitted: the name says which training it is.

    Submitted again is a job that ended without success, and one that a site is not part of that is there: that site was
    started again. The latter is ended after a checkpoint, so that no step is done twice.

    Args:
        server: the FLARE server.
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
        server: Server,
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
            GivenUp: see the policy, when somebody else ended the job, when one of another training is active, and when
                the server's process failed twice in a row, without a new checkpoint in between, for the same reason.
        """
        if self._active() is None:
            self._wait_for_sites(max(len(self.sites), self.min_sites), "the job starts without them")
        in_vain, delay = 0, self.policy.delay
        while True:
            saved, error, self._error = self._saved, self._error, None
            job = self.start()
            reason = self._watch(job)
            if reason is None:
                logger.info("job %s: the training is finished", job)
                return job
            if self._saved > saved:
                in_vain, delay = 0, self.policy.delay
            elif self._error is not None and self._error == error:
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
            if job in self.jobs or status not in ACTIVE or (status == "RUNNING" and job not in running):
                continue
            if about["job_name"] != name:
                raise GivenUp(
                    f"job {job} ({about['job_name']}, {status}) is of another training than {name}: "
                    "let it finish, or end it with stop"
                )
            if found is None or status == "RUNNING":
                found = job
        return found

    def _watch(self, job: str) -> str | None:
        """Why the job ended without success; None when it did with."""
        returned: set[str] = set()
        wanted, alive = "", self._clock()
        while True:
            if self._is_finished():
                self._let_end(job)
                return None
            status = self._insist(lambda: self.server.status(job))
            if status not in ACTIVE:
                if self._is_finished() or (self.finished is None and status == "FINISHED:COMPLETED"):
                    return None
                if status == "FINISHED:ABORTED" and not wanted:
                    raise GivenUp(f"job {job}: somebody ended it; the same command goes on with the training")
                return wanted or f"ended as {status}: {self._why(job)}"
            about = self._progress(job, pause=bool(wanted)) if status == "RUNNING" else None
            if status != "RUNNING" or about is not None or job in self._insist(self.server.running):
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
        error = None
        with tempfile.TemporaryDirectory() as place, suppress(OSError, TypeError):  # FLARE may have nothing to give
            for log in sorted(self.server.download(job, Path(place)).rglob("error_log.txt"))[:1]:
                error = _last_error(log.read_text(encoding="utf-8", errors="replace"))
        if error is None:
            return f"{job}/log.txt in the server's kit may say why"
        self._error = None if any(word in error for word in PASSING) else error
        return f"{error} ({job}/log.txt in the server's kit)"

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
        told: list[str] | None = None
        while True:
            here = sorted(set(self._insist(self.server.sites)) & set(self.sites or self._insist(self.server.sites)))
            if len(here) >= number:
                return
            if told != here:
                logger.info("%d of %d sites are there: %s", len(here), number, ", ".join(here) or "none")
                told = here
            if self._clock() > end:
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
        end, told = self._clock() + self.policy.patience, False
        while True:
            try:
                answer = question()
            except ConnectionError as error:
                if self._clock() > end:
                    raise GivenUp(f"the server does not answer since {self.policy.patience:.0f} s: {error}") from error
                if not told:
                    logger.warning("the server does not answer and is asked again: %s", error)
                told = True
                self._pause(self.policy.interval)
            else:
                if told:
                    logger.info("the server answers again")
                return answer

    def _pause(self, seconds: float) -> None:
        self._sleep(seconds)
        if self.at_each_look is not None:
            self.at_each_look()


class Participants:
    """
    Server and sites as processes of this machine, for a trial: started from their startup kits, started again when they
    die, ended with the block.

    Args:
        kits: startup kits by name, in the order in which they are started.
        logs: folder of their consoles' output, one file each.
        environment: of the processes.
        shown: whose console is shown here as well.
        revive: seconds after which a participant that died is started again; None for never.
    """

    def __init__(
        self,
        kits: Mapping[str, Path],
        logs: Path,
        environment: Mapping[str, str],
        shown: Sequence[str] = (),
        revive: float | None = 5.0,
    ) -> None:
        self.kits = dict(kits)
        self.logs = logs
        self.environment = dict(environment)
        self.shown = frozenset(shown)
        self.revive = revive
        self._processes: dict[str, subprocess.Popen] = {}
        self._died: dict[str, float] = {}

    def __enter__(self) -> Participants:
        self.logs.mkdir(parents=True, exist_ok=True)
        try:
            for name in self.kits:
                self._start(name)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def look(self) -> None:
        """Start again who died long enough ago."""
        now = time.monotonic()
        for name, process in self._processes.items():
            code = process.poll()
            if code is None:
                continue
            if name not in self._died:
                self._died[name] = now
                logger.warning("the process of %s ended (%s)", name, _exit(code))
            elif self.revive is not None and now - self._died[name] >= self.revive:
                logger.info("%s is started again", name)
                del self._died[name]
                _kill(self._of(name))
                self._start(name)

    def stop(self, patience: float = 5.0) -> None:
        """End all of them, jobs' processes too."""
        left = [process for name in self.kits for process in self._of(name)]
        for process in left:
            with suppress(psutil.Error):
                process.terminate()
        psutil.wait_procs(left, patience)
        _kill([process for name in self.kits for process in self._of(name)])
        for process in self._processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(patience)

    def _start(self, name: str) -> None:
        process = subprocess.Popen(
            [str(self.kits[name].resolve() / "startup" / "sub_start.sh"), "--once"],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us: they are ended in order
        )
        self._processes[name] = process
        threading.Thread(target=self._copy, args=(name, process.stdout), daemon=True).start()

    def _copy(self, name: str, console: IO[bytes]) -> None:
        with (self.logs / f"{name}.log").open("ab") as file, console:
            for line in console:
                file.write(line)
                file.flush()
                if name in self.shown:
                    print(f"[{name}] {line.decode(errors='replace').rstrip()}", file=sys.stderr, flush=True)

    def _of(self, name: str) -> list[psutil.Process]:
        """A participant's processes: they all are told where its kit is."""
        kit = str(self.kits[name].resolve())
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.pid != os.getpid() and any(kit in word for word in process.cmdline()):
                    found.append(process)
        return found


def _last_error(log: str) -> str | None:
    """The error that ended a job, by FLARE's log of its process at the server: its class and the text's first line."""
    said = re.findall(r"exception occurred: (.+)", log)
    if not said:
        return None
    kinds = re.findall(rf"^(?:\w+\.)*(\w+): {re.escape(said[-1])}", log, re.MULTILINE)
    return f"{kinds[-1]}: {said[-1]}" if kinds else said[-1]


def _kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.kill()


def _exit(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
