"""What a job of a training failed with, by FLARE's log of its process at the server, and whether the next would too."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["is_passing", "is_permanent", "last_error"]

PERMANENT = ("ConfigError", "DataError", "JobError", "LedgerError", "PermissionError", "PolicyError")
"""Errors that stay until a person changes something: what a file says, who may write where."""
PASSING = ("TooFewSites", "JobEnded")
"""Errors that may be gone the next time: sites were away, somebody ended the job."""
OCCUPIED = "another process is writing"
"""A process of the server that has not died yet."""
HOPELESS = "this run cannot go on"
REFUSED = "refused: "
"""Too few sites take part because they do not want to."""


def last_error(folder: Path) -> str | None:
    """
    Args:
        folder: what an administrator downloaded of a job.

    Returns:
        The error that ended the job, its class and the text's first line: ``JobError: server.yaml: …``; None for none.
    """
    for path in sorted(folder.rglob("error_log.txt"))[:1]:
        log = path.read_text(encoding="utf-8", errors="replace")
        if said := re.findall(r"exception occurred: (.+)", log):
            kinds = re.findall(rf"^(?:\w+\.)*(\w+): {re.escape(said[-1])}", log, re.MULTILINE)
            return f"{kinds[-1]}: {said[-1]}" if kinds else said[-1]
    return None


def is_permanent(error: str) -> bool:
    """Whether a job that is submitted again would fail with this again."""
    return HOPELESS in error or (error.startswith(PERMANENT) and OCCUPIED not in error)


def is_passing(error: str) -> bool:
    """Whether it says nothing about the next job that the one before failed with the same."""
    return OCCUPIED in error or (error.startswith(PASSING) and HOPELESS not in error and REFUSED not in error)
