"""A site's own record of all that left it."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import Any

from bundle.site.release.chain import GENESIS, LedgerError, canonical, plain, read, seal
from bundle.site.release.locks import InUse, hold, let_go
from bundle.site.release.torn_lines import keep_torn, sync_folder

__all__ = ["ReleaseLedger"]

logger = logging.getLogger(__name__)

OWN_FIELDS = {"number", "time", "site", "kind", "previous", "hash", "clock_went_back"}


def _now() -> datetime:
    return datetime.now(UTC)


class ReleaseLedger:
    """
    An append-only file at a site with an entry for each release, refusal and start, chained by hashes.

    One JSON object a line, UTF-8, keys sorted, no spaces. The ledger's own fields are ``number`` (from 1), ``time``
    (ISO 8601, UTC, to the second), ``site``, ``kind``, ``previous`` (hash of the entry before, 64 zeros for the first)
    and ``hash`` (SHA-256 of the canonical form of all other fields), and ``clock_went_back``, in seconds, where the
    time is before that of the entry before; the rest is the caller's. A change, a deletion, an insertion or another
    order of entries breaks the chain; what the chain does not show, :func:`check_head` says.

    An existing file is verified from its start when it is opened. A torn last line, left by a power cut, is cut off
    with a warning and its bytes are kept beside, in ``PATH.torn-1``, ``-2``, ... An entry is written before its release
    leaves: a torn one was not followed by a release. The file is locked for as long as the object lives, and open only
    while it is read or written; the lock is the operating system's (POSIX only), and goes with a killed process.
    Threads may share the object.

    Args:
        path: the file; made with its folder when needed, readable and writable by its owner alone.
        site: name of the site, in every entry.
        clock: the time, with its zone; for tests.

    Raises:
        LedgerError: when the file is in use by another ledger, of another site, or broken; it is left as it is then.
        OSError: when the file cannot be read or written.
    """

    def __init__(self, path: str | os.PathLike, site: str, clock: Callable[[], datetime] = _now) -> None:
        self.path = Path(path)
        self.site = site
        self._clock = clock
        self._mutex = RLock()
        self._number, self._head, self._size = 0, GENESIS, 0
        self._time: datetime | None = None
        self._last = b""  # the line of the last entry
        self._is_open = False
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            hold(self.path)
        except InUse:
            raise LedgerError(f"{self.path} is in use by another process") from None
        self._is_open = True
        try:
            with self._opened(os.O_CREAT) as handle:
                self._load(handle)
            sync_folder(self.path.parent)
        except BaseException:
            self.close()
            raise

    def append(self, kind: str, **fields: Any) -> dict:
        """
        Write an entry; when this returns, it is on the disk. To be called before the release leaves.

        Args:
            kind: such as ``start``, ``open``, ``reply``, ``conditions``, ``refusal`` or ``end``.
            fields: plain JSON (:func:`bundle.site.release.chain.plain`); an infinite number is written as ``"inf"``.

        Returns:
            The entry as it was written.

        Raises:
            ValueError: when a field is no plain JSON or has the name of one of the ledger's own.
            LedgerError: when the ledger is closed, or somebody else has changed, replaced or removed its file.
            OSError: when it could not be written. The file then ends with the entry before, and what was to be
                released must not be.
        """
        if not isinstance(kind, str) or not kind:
            raise ValueError(f"kind: expected a name, got {kind!r:.40}")
        if taken := OWN_FIELDS & set(fields):
            raise ValueError(f"{', '.join(sorted(taken))}: the ledger writes this field itself")
        with self._mutex:
            time = self._clock().astimezone(UTC).replace(microsecond=0)
            entry = seal(
                plain(fields, "fields")
                | {
                    "number": self._number + 1,
                    "time": time.isoformat(timespec="seconds"),
                    "site": plain(self.site, "site"),
                    "kind": plain(kind, "kind"),
                    "previous": self._head,
                }
                | self._went_back(time)
            )
            self._write(canonical(entry) + b"\n")
            self._number, self._head, self._time = entry["number"], entry["hash"], time
            return entry

    @property
    def head(self) -> tuple[int, str]:
        """Number and hash of the last entry, to be noted elsewhere; 0 and 64 zeros without any."""
        return self._number, self._head

    def entries(self) -> Iterator[dict]:
        """
        All entries, from the first to the last of this moment, read from the file and checked again.

        Raises:
            LedgerError: at an entry that breaks the chain.
        """
        end = self._size
        return (entry for entry, place in read(self.path) if place <= end)

    def close(self) -> None:
        """Let go of the file. More than once does no harm."""
        with self._mutex:
            if self._is_open:
                self._is_open = False
                let_go(self.path)

    def __del__(self) -> None:
        # a training that goes on in the same process opens the file again
        if getattr(self, "_is_open", False):
            self.close()

    def __enter__(self) -> ReleaseLedger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _opened(self, flags: int = 0) -> Iterator[int]:
        handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | flags, 0o600)
        try:
            yield handle
        finally:
            os.close(handle)

    def _in_use(self) -> AbstractContextManager[int]:
        if not self._is_open:
            raise LedgerError(f"{self.path}: the ledger is closed")
        if not self.path.exists():
            raise self._touched()
        return self._opened()

    def _load(self, handle: int) -> None:
        before = 0
        for entry, end in read(self.path):
            if entry["site"] != self.site:
                raise LedgerError(
                    f"{self.path}, line {entry['number']}: site is {entry['site']!r:.60}, expected {self.site!r}"
                )
            self._number, self._head = entry["number"], entry["hash"]
            self._time = datetime.fromisoformat(entry["time"]).astimezone(UTC)
            before, self._size = self._size, end
        self._last = os.pread(handle, self._size - before, before)
        size = os.fstat(handle).st_size
        if size > self._size:
            kept = keep_torn(self.path, os.pread(handle, size - self._size, self._size))
            os.ftruncate(handle, self._size)
            os.fsync(handle)
            logger.warning(
                "%s: the line after entry %d was not written to its end: its %d bytes were cut off and are in %s",
                self.path,
                self._number,
                size - self._size,
                kept,
            )

    def _went_back(self, time: datetime) -> dict[str, int]:
        if self._time is None or time >= self._time:
            return {}
        seconds = int((self._time - time).total_seconds())
        logger.warning("%s: the clock went back by %d s since the entry before", self.path, seconds)
        return {"clock_went_back": seconds}

    def _check_untouched(self, handle: int) -> None:
        if os.pread(handle, len(self._last) + 1, self._size - len(self._last)) != self._last:
            raise self._touched()

    def _touched(self) -> LedgerError:
        return LedgerError(f"{self.path} was changed, replaced or removed by somebody else while it was in use")

    def _write(self, line: bytes) -> None:
        with self._in_use() as handle:
            self._check_untouched(handle)
            try:
                written = os.write(handle, line)
                if written != len(line):
                    # what a disk does that becomes full in the middle
                    raise OSError(errno.ENOSPC, f"only {written} of {len(line)} bytes were written")
                os.fsync(handle)
            except BaseException as error:
                self._take_back(handle)
                if isinstance(error, OSError) and error.filename is None:
                    error.filename = str(self.path)
                raise
        self._size += len(line)
        self._last = line

    def _take_back(self, handle: int) -> None:
        """An entry that is not on the disk as a whole is not there at all."""
        try:
            os.ftruncate(handle, self._size)
            os.fsync(handle)
        except OSError as error:
            # then what is left of it is cut off when the ledger is opened again
            logger.error("%s could not be cut back to its last entry, and is closed: %s", self.path, error)
            self.close()
