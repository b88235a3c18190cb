"""Entries that are chained by their hashes: how they are written as lines, and how a file of them is checked."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

__all__ = ["GENESIS", "LedgerError", "Verification", "canonical", "check_head", "plain", "read", "seal", "verify"]

GENESIS = "0" * 64
"""``previous`` of the first entry."""

_DECODER = json.JSONDecoder()


class LedgerError(RuntimeError):
    """A ledger that cannot be trusted or used as it is; the message names file, line and what is wrong."""


@dataclass(frozen=True)
class Verification:
    """
    What a ledger's file holds.

    Args:
        entries: number of entries, counted from the first to the last, or to the one before the break.
        whole: whether the chain has no break. Says nothing of a tail that was cut at an entry's end, nor of a chain
            that was written anew from the start: see :func:`check_head`.
        torn: bytes after the last entry that are the beginning of one: a power cut, or a writer at work right now.
        head: hash of the last of these entries, 64 zeros without any.
        first, last: time of the first and last of these entries, ISO 8601; None without any.
        problem: line and reason of the break; empty when whole.
    """

    entries: int
    whole: bool
    torn: int
    head: str
    first: str | None
    last: str | None
    problem: str = ""


def plain(value: Any, field: str) -> Any:
    """
    A value as strict JSON reads it back: tuples become lists, an infinite number the text ``"inf"``.

    Args:
        value: of dictionaries with text keys, lists, tuples, text, whole and real numbers, truth values and None.
        field: its name, for the error.

    Raises:
        ValueError: naming the field, for NaN, minus infinity, text that is no Unicode, and all other types.
    """
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {plain(key, field): plain(item, f"{field}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{field}[{place}]") for place, item in enumerate(value)]
    if isinstance(value, float) and value == math.inf:
        return "inf"
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, str) and value.encode("utf-8", "replace").decode() == value:
        return value
    raise ValueError(f"{field}: expected plain JSON, got {value!r:.60} ({type(value).__name__})")


def canonical(value: Any) -> bytes:
    """The one way to write a value as JSON: UTF-8, keys sorted, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def seal(entry: dict) -> dict:
    """The entry with its ``hash``: SHA-256, hexadecimal, of the canonical form of all its other fields."""
    return entry | {"hash": hashlib.sha256(canonical(entry)).hexdigest()}


def read(path: str | os.PathLike) -> Iterator[tuple[dict, int]]:
    """
    The entries of a ledger in their order, each checked, with the offset in bytes at which its line ends.

    A torn last line ends the iteration without an error: the last line, when no JSON can be read from it or when
    nothing but its newline is missing. The file is only read.

    Raises:
        FileNotFoundError: when there is no such file.
        LedgerError: at a line that is not the next entry of the chain, when it comes to it.
    """
    path = Path(path)
    previous, end = GENESIS, 0
    with open(path, "rb") as file:
        # a line of bytes ends at a newline and at nothing else that Unicode knows as one
        for number, line in enumerate(file, 1):
            is_last = not file.peek(1)
            try:
                # a byte that is no UTF-8 becomes another sign, which the hash tells from what was written
                entry, _ = _DECODER.raw_decode(line.decode("utf-8", "replace"))
            except (ValueError, RecursionError):
                if is_last and _may_be_torn(line, number):
                    return
                raise LedgerError(f"{path}, line {number}: no entry can be read from it") from None
            problem = _problem(entry, line, number, previous)
            if is_last and problem == _NO_NEWLINE:
                return
            if problem:
                raise LedgerError(f"{path}, line {number}: {problem}")
            previous, end = entry["hash"], end + len(line)
            yield entry, end


def verify(path: str | os.PathLike) -> Verification:
    """
    Check a ledger without changing it, also while it is being written.

    Raises:
        FileNotFoundError: when there is no such file.
    """
    count, end, head, first, last, problem = 0, 0, GENESIS, None, None, ""
    # before it is read: a writer may add whole entries meanwhile
    size = os.path.getsize(path)
    try:
        for entry, end in read(path):  # noqa: B007, the last one is needed
            count, head, last = entry["number"], entry["hash"], entry["time"]
            first = first or last
    except LedgerError as error:
        problem = str(error).removeprefix(f"{Path(path)}, ")
    torn = 0 if problem else max(0, size - end)
    return Verification(count, not problem, torn, head, first, last, problem)


def check_head(path: str | os.PathLike, number: int, hash: str) -> bool:
    """
    Whether the ledger still holds the entry that was its head when somebody noted its number and hash elsewhere.

    The chain alone finds what was changed by accident or by somebody who does not know how it is made. It does **not**
    stop somebody who may write the file: they can cut its tail, or change what they like and compute every hash anew,
    and the file verifies. So the head is to be noted where they cannot write: on paper, in a mail to the data
    protection officer, at another site. An entry with that hash at that number proves that all entries up to it are the
    ones of that day (two contents with one SHA-256 are not known); of the entries after it, it proves nothing.

    Args:
        path: the ledger.
        number: of the noted entry, from 1.
        hash: of the noted entry, 64 hexadecimal digits.

    Raises:
        ValueError: when number or hash cannot be of an entry, as when it was mistyped.
        FileNotFoundError: when there is no such file.
        LedgerError: when the chain breaks at or before that entry.
    """
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ValueError(f"number: expected a whole number >= 1, got {number!r}")
    if len(hash) != 64 or set(hash.lower()) - set("0123456789abcdef"):
        raise ValueError(f"hash: expected 64 hexadecimal digits, got {hash!r:.80}")
    return any(entry["number"] == number and entry["hash"] == hash.lower() for entry, _ in read(path))


_NO_NEWLINE = "its newline is missing"
_TEXTS = ("time", "site", "kind", "previous", "hash")


def _may_be_torn(line: bytes, number: int) -> bool:
    """Whether it is the beginning of an entry, as far as it was written; a file of another kind must not be cut."""
    return number > 1 or b'{"'.startswith(line.rstrip(b"\n\0")[:2])


def _problem(entry: Any, line: bytes, number: int, previous: str) -> str:
    """What is wrong with an entry that was read from this line, the first thing found; empty for nothing."""
    if not isinstance(entry, dict) or not all(isinstance(entry.get(name), str) for name in _TEXTS):
        return "it is not an entry of a ledger"
    try:
        datetime.fromisoformat(entry["time"])
        written = canonical(entry)
        sealed = seal({name: value for name, value in entry.items() if name != "hash"})
    except (ValueError, RecursionError):
        return "it is not an entry of a ledger"
    if sealed["hash"] != entry["hash"]:
        return "its content was changed: it is not what its hash says"
    # also refuses what another program may read differently, as a key that is there twice
    if line.rstrip(b"\n\0") != written:
        return "it is not written as the ledger writes"
    if type(entry.get("number")) is not int or entry["number"] != number:
        return f"it is entry {entry.get('number')!r:.20}, not {number}: entries are missing, added or in another order"
    if entry["previous"] != previous:
        return "it does not follow the entry before"
    return "" if line == written + b"\n" else _NO_NEWLINE
