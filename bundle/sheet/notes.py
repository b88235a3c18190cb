"""Why a value of a sheet is null."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from bundle.sheet.fields import pointer_to

__all__ = ["PLACE", "Notes", "nulls", "plain"]

UNSAID = "the run does not say"
PLACE = re.compile(r"(?:(?<=[\s'\"(=,:])|^)(?:~?/[^\s'\"/]+|\.{1,2}(?=/)|[A-Za-z]:[\\/]|\\\\|file:)[^\s'\",;)]*")
"""What looks like a place on a disk. An address of the web is none."""


class Notes(dict[str, str]):
    """Reasons by JSON pointer."""

    def missing(self, reason: str, *names: Any) -> Any:
        """Note a reason; returns None, which is the value."""
        self[pointer_to(*names)] = reason
        return None


def plain(value: Any) -> Any:
    """What JSON knows: numbers that are not finite become null, and what looks like a place on a disk ``(path)``."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return PLACE.sub("(path)", value) if isinstance(value, str) else value


def nulls(value: Any, *names: Any) -> Iterator[str]:
    """Pointers of all that is null."""
    if value is None:
        yield pointer_to(*names)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from nulls(item, *names, key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from nulls(item, *names, index)
