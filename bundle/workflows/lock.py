"""One process at a time for a stage's outputs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bundle.workflows.config_checks import ConfigError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = ["exclusive"]


@contextmanager
def exclusive(path: str | os.PathLike) -> Iterator[None]:
    """
    Keep every other process that asks for the same path out, until the block ends or this process is killed.

    The operating system holds the lock, so a killed process leaves none; where the file system knows no locks, nothing
    is kept out.

    Args:
        path: a file whose folder is made; the lock is a hidden file beside it, which goes with the block.

    Raises:
        ConfigError: when another process is in.
        OSError: when the folder cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    handle = _open_locked(lock, path)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(handle)


def _open_locked(lock: Path, path: Path) -> int:
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # the former owner may have removed the file that was just opened
            if lock.exists() and os.path.samestat(os.fstat(handle), os.stat(lock)):
                return handle
        except BlockingIOError:
            os.close(handle)
            raise ConfigError(
                f"another process is writing what {path} belongs to: wait for it, or choose another run_dir"
            ) from None
        except OSError:  # no locks here, as on some network file systems
            return handle
        os.close(handle)
