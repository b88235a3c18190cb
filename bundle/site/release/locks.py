"""Which process writes a file, by locks of the operating system that need one open file a folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path
from threading import Lock

__all__ = ["InUse", "hold", "let_go"]

NAME = ".lock"


class InUse(RuntimeError):
    """Somebody holds the file, in this process or in another."""


_MUTEX = Lock()
_held: set[Path] = set()
_handles: dict[Path, int] = {}


def hold(path: str | os.PathLike) -> None:
    """
    Keep every other caller out, until :func:`let_go` or the end of this process, however it ends.

    The folder gets a file ``.lock``, of which each file has a byte of its own: a process that holds hundreds of files
    has one file open.

    Args:
        path: of the file, whose folder exists.

    Raises:
        InUse: when another process or another caller in this one holds it.
        OSError: when the folder cannot be written, or its file system knows no locks.
    """
    path = Path(os.path.realpath(path))
    with _MUTEX:
        if path in _held:
            raise InUse(str(path))
        # a process has one lock on a byte, however often it asks, and loses all when it closes the file once
        handle = _handles.get(path.parent)
        if handle is None:
            handle = os.open(path.parent / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            _handles[path.parent] = handle
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(path))
        except OSError as error:
            _close_unused(path.parent)
            if isinstance(error, BlockingIOError | PermissionError):
                raise InUse(str(path)) from None
            raise
        _held.add(path)


def let_go(path: str | os.PathLike) -> None:
    """The inverse of :func:`hold`; of a file that is not held, nothing."""
    path = Path(os.path.realpath(path))
    with _MUTEX:
        if path in _held:
            _held.remove(path)
            fcntl.lockf(_handles[path.parent], fcntl.LOCK_UN, 1, _place(path))
            _close_unused(path.parent)


def _close_unused(folder: Path) -> None:
    if not any(path.parent == folder for path in _held):
        os.close(_handles.pop(folder))


def _place(path: Path) -> int:
    return int.from_bytes(hashlib.sha256(path.name.encode("utf-8", "surrogateescape")).digest()[:6], "big")
