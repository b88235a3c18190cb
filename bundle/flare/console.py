"""
What the processes of FLARE that wait for jobs load of this package: lines about the connection for who runs a site, and
the check of a kit at its start.

They live as long as the federation, and torch and MONAI would cost them 400 MB: nothing here imports them.
"""

from __future__ import annotations

import copy
import logging
import re
import subprocess
import sys
import threading

__all__ = ["CheckAtStart", "ConnectionLines", "why_not_connected"]

logger = logging.getLogger(__name__)

# as FLARE 2.9 says it
_CONNECTED = re.compile(r"Successfully registered client:([\w-]+) for project")
_FAILED = re.compile(r"Connector \[\S+ ACTIVE \w+://([\w.:-]+)\S*\] failed with exception (.+)", re.DOTALL)
_AGAIN = re.compile(r"Connection \[\S+ \S+ => \S+ SSL \S+\] is created")
_JOINED = re.compile(r"(?:New client ([\w-]+)@|Re-activate the client: ([\w-]+) )")
_LEFT = re.compile(r"Client Name:([\w-]+) left\.")
_REASONS = {
    r"Connect call failed|Connection refused": "nothing answers there, the server is down or a firewall is between",
    r"Name or service not known|name resolution|No address assoc|nodename": "no machine of that name is known here",
    r"(?i)alert.{0,20}(expired|unknown.ca|bad.cert|required|unknown)": "the server refuses the kit's certificate",
    r"(?i)EOF occurred|reset by peer|broken pipe": "the server ends the connection, as one that refuses the kit's "
    "certificate does",
    r"(?i)hostname mismatch|is not valid for": "the server's certificate is for another name",
    r"(?i)certificate has expired": "the server's certificate has expired",
    r"(?i)certificate.verify.failed": "the server's certificate is not of the authority in startup/rootCA.pem",
    r"(?i)timed? ?out": "no answer in time, a firewall may be between",
}


def why_not_connected(text: str) -> str:
    """What an error of a connection means, for who runs a site; the start of the text where it is not known."""
    found = (reason for pattern, reason in _REASONS.items() if re.search(pattern, text))
    return next(found, " ".join(text.split())[:120])


class ConnectionLines(logging.StreamHandler):
    """Says of all that FLARE logs about connections what matters at a site and at the server, once each time."""

    def __init__(self, stream=None) -> None:
        super().__init__(stream)
        self._site: str | None = None
        self._failure: tuple[str, str] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        said = self._line(record.getMessage()) if record.name.startswith(("nvflare", "root")) else None
        if said is not None:
            line = copy.copy(record)
            line.levelno, line.levelname = (logging.WARNING, "WARNING") if self._failure else (logging.INFO, "INFO")
            line.name, line.msg, line.args, line.exc_info, line.exc_text = "connection", said, (), None, None
            super().emit(line)

    def _line(self, text: str) -> str | None:
        if found := _CONNECTED.search(text):
            self._site, self._failure = found[1], None
            return f"connected to the server as {self._site}; waiting for jobs"
        if found := _FAILED.search(text):
            failure = (found[1], why_not_connected(found[2]))
            if failure == self._failure:
                return None
            self._failure = failure
            return f"no connection to {failure[0]}: {failure[1]}; it is tried again and again"
        if self._site is not None and self._failure is not None and _AGAIN.search(text):
            self._failure = None
            return f"connected to the server as {self._site} again"
        if text == "Server started":
            return "the server is started; waiting for sites"
        if found := _JOINED.search(text):
            return f"site {found[1] or found[2]} is connected"
        if found := _LEFT.search(text):
            return f"site {found[1]} is not connected any more"
        return None


class CheckAtStart:
    """
    Runs :func:`bundle.flare.preflight.check_kit` in a process of its own when FLARE starts from a kit, and writes what
    it says to the log: an expired certificate, for one, is nothing that FLARE would say a word about.

    Made by FLARE, which works in the kit's folder.
    """

    def __init__(self) -> None:
        threading.Thread(target=self._check, name="check of the kit", daemon=True).start()

    def _check(self) -> None:
        code = "import sys; from bundle.flare.preflight import check_kit; sys.exit(not check_kit())"
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )
        with process.stdout:
            for line in process.stdout:
                logger.log(logging.INFO if line.startswith("ok") else logging.ERROR, "%s", line.rstrip())
