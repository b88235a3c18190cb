"""Server and sites as processes of this machine: :class:`Participants`."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

__all__ = ["Participants"]

logger = logging.getLogger(__name__)


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
