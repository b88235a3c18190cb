"""JSON that people and other programs write: data lists, tables, descriptions. Read in one place, within bounds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from bundle.data.errors import DataError

MAX_BYTES = 2**26
"""Of a JSON file: a data list of 100,000 cases has about 50 MB."""

MAX_DEPTH = 16
"""Of lists and objects in each other; a data list has 4."""

MAX_DIGITS = 18
"""Of a whole number; there are none of more in a data list, and arithmetic with long ones takes for ever."""


def read_json(path: str | os.PathLike, what: str) -> Any:
    """
    Args:
        path: the file; a byte-order mark is allowed.
        what: what it is, for messages, e.g. ``"a data list"``.

    Raises:
        DataError: unreadable, no UTF-8 or JSON, a name twice in one object, or beyond :data:`MAX_BYTES`,
            :data:`MAX_DEPTH` or :data:`MAX_DIGITS`.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(f"{path}: has {size} bytes, expected {what} of at most {MAX_BYTES}")
        content = json.loads(path.read_text(encoding="utf-8-sig"), parse_int=_whole, object_pairs_hook=_named_once)
        deep = _deeper_than(content, MAX_DEPTH)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: unreadable, expected {what} in JSON ({error})") from error
    except _Twice as error:
        raise DataError(f"{path}: {error} is named twice in one object, expected once, in {what}") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: corrupt JSON in line {error.lineno}, expected {what} ({error.msg})") from error
    except RecursionError:
        deep = True
    except OverflowError as error:
        raise DataError(
            f"{path}: holds {error}, expected {what} with whole numbers of at most {MAX_DIGITS} digits"
        ) from None
    if deep:
        raise DataError(f"{path}: lists and objects lie in each other deeper than {MAX_DEPTH}, expected {what}")
    return content


class _Twice(ValueError):
    """A name that an object has twice: JSON's readers keep the last of them and say nothing."""


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(repr(next(name for name in names if names.count(name) > 1)))
    return found


def _whole(text: str) -> int:
    if len(text.lstrip("-")) > MAX_DIGITS:
        raise OverflowError(f"a number of {len(text.lstrip('-'))} digits")
    return int(text)


def _deeper_than(content: Any, depth: int) -> bool:
    level = [content]
    for _ in range(depth + 1):
        level = [
            inner
            for value in level
            if isinstance(value, (dict, list))
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
    return bool(level)
