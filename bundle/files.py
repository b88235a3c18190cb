"""Files that are there whole or not at all."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

__all__ = [
    "atomic_folder",
    "atomic_path",
    "below",
    "digest",
    "require_file",
    "save_torch",
    "write_json",
    "write_text",
    "write_torch",
]


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """A full disk says that it is full, and not which file had no place."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """
    A temporary path beside ``path`` to write to; it becomes ``path`` when the block ends, and goes when it fails.

    The temporary name keeps the suffixes of ``path``, from which writers of image files tell the format.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # one name for each process: two runs must not write into each other's
    temporary = path.with_name(f".{os.getpid()}.partial.{path.name}")
    _remove_left_overs(path)
    try:
        with _named(path):
            yield temporary
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_left_overs(path: Path) -> None:
    """Remove what killed processes were writing; a checkpoint can be large."""
    for left_over in path.parent.glob(f".*.partial.{glob.escape(path.name)}"):
        owner = left_over.name.split(".")[1]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            left_over.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: str | os.PathLike) -> Iterator[Path]:
    """
    As :func:`atomic_path` for a folder: readers see the former folder, none, or the complete new one.

    What a killed process left is removed.
    """
    target = Path(target)
    temporary, former = (target.with_name(f".{what}.{target.name}") for what in ("partial", "former"))
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(former, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        with _named(target):
            yield temporary
            # removing a folder takes time: it is renamed first, so that no half of it is ever seen
            if target.exists():
                os.replace(target, former)
            os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, content: Any) -> None:
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def save_torch(path: str | os.PathLike, content: Any) -> None:
    with atomic_path(path) as temporary:
        write_torch(temporary, content)


def write_torch(path: str | os.PathLike, content: Any) -> None:
    """Write in place, for who sees to the rest: a file that :func:`atomic_path` gave."""
    import torch  # here only: reports and command lines that need no torch start ten times as fast

    # to an open file: to a path, torch writes the path's name into the file, and equal contents get different bytes
    with open(path, "wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # torch's writer hides what the file system said behind what it had expected
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def below(folder: str | os.PathLike, *parts: str) -> str:
    """
    ``folder`` joined with names and relative paths that must not lead out of it, whoever said them.

    Raises:
        ValueError: when one is empty, absolute, or holds ``..``.
    """
    for part in parts:
        if not part or "\0" in part or os.path.isabs(part) or ".." in Path(part).parts:
            raise ValueError(f"{part!r:.80} cannot be a part of a path below {folder}: expected a name")
    return os.path.join(folder, *parts)


def digest(path: str | os.PathLike) -> str:
    """SHA-256 of a file's content, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_file(path: str | os.PathLike, hint: str) -> str:
    """
    Args:
        path: a file that a stage needs.
        hint: how the user gets it.

    Raises:
        FileNotFoundError: naming ``path`` and the hint.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is missing: {hint}")
    return str(path)
