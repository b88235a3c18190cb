"""Progress for people: a bar on a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
logger = logging.getLogger(__name__)


def progress(iterable: Iterable[T], description: str, total: int, every: float = 10.0) -> Iterator[T]:
    """Yield from `iterable` and show how far it is.

    Args:
        iterable: what to go through.
        description: what is being done, e.g. ``"check files"``.
        total: number of elements.
        every: seconds between log lines where standard error is no terminal.
    """
    if not total:
        return
    if sys.stderr.isatty():
        yield from tqdm(iterable, desc=description, total=total, leave=False)
        return
    last = time.monotonic()
    for done, element in enumerate(iterable, start=1):
        yield element
        if time.monotonic() - last >= every:
            logger.info("%s: %d of %d", description, done, total)
            last = time.monotonic()
    logger.info("%s: %d done", description, total)
