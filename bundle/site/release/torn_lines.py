"""What a power cut leaves of a line, kept beside the ledger."""

from __future__ import annotations

import os
from pathlib import Path

from bundle.files import atomic_path

__all__ = ["keep_torn", "sync_folder"]


def keep_torn(path: Path, content: bytes) -> Path:
    """
    Write the bytes of a torn line to the first of ``PATH.torn-1``, ``-2``, ... that is free.

    Returns:
        The file, readable and writable by its owner alone; it is on the disk.

    Raises:
        OSError: when it cannot be written; there is none then.
    """
    number = 1
    while (target := path.with_name(f"{path.name}.torn-{number}")).exists():
        number += 1
    with atomic_path(target) as temporary:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(handle)
    sync_folder(target.parent)
    return target


def sync_folder(folder: Path) -> None:
    """A new file's name is on the disk when its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
