"""One sentence in the place of a traceback: MONAI wraps what a component says in layers that name expressions."""

from __future__ import annotations

import logging
import sys
import traceback
from pathlib import Path
from types import TracebackType

__all__ = ["end_in_a_sentence", "is_refusal", "name_errors_once", "plain_cause", "sentence"]

# MONAI's StatsHandler logs there as well
_ENGINES = ("SupervisedTrainer", "SupervisedEvaluator", "DistributedGanTrainer")
_HERE = str(Path(__file__).resolve().parent)


def plain_cause(error: BaseException) -> BaseException:
    """
    What a component has said, out of the layers around it.

    ValueError and OSError are what components say to users; their own causes are details.
    """
    while error.__cause__ is not None and not isinstance(error, ValueError | OSError):
        error = error.__cause__
    return error


def sentence(error: BaseException) -> str:
    """
    What a component has said, on one line: readers of images go on with advice for programmers.

    >>> sentence(ValueError("a.nii.gz: expected three dimensions"))
    'a.nii.gz: expected three dimensions'
    """
    cause = plain_cause(error)
    return next(iter(str(cause).strip().splitlines()), "") or type(cause).__name__


def is_refusal(error: BaseException) -> bool:
    """
    Whether an error says all that a user needs: of a file, of a kind of this package, or raised in words by it.

    A ValueError that comes from elsewhere is somebody's fault, and where it came from helps to find out whose.
    """
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0] == __name__.partition(".")[0]:
        return True
    places = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    return isinstance(error, ValueError) and bool(places) and places[-1].startswith(_HERE)


def end_in_a_sentence() -> None:
    """
    From now on, this process ends with one sentence on stderr where a component has refused something.

    For the first line of a config's ``run``: MONAI's own command shows every error as some hundred lines, whose last
    is not the cause. What is no refusal keeps its traceback.
    """
    sys.excepthook = _say
    name_errors_once()


def name_errors_once() -> None:
    """Engines log an error before it ends the process: that, and their handlers' tracebacks, are left out."""
    for name in _ENGINES:
        logging.getLogger(f"ignite.engine.engine.{name}").addFilter(_of_no_error)


def _say(kind: type[BaseException], error: BaseException, place: TracebackType | None) -> None:
    cause = plain_cause(error)
    if is_refusal(cause):
        print(f"error: {cause}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, place)


def _of_no_error(record: logging.LogRecord) -> bool:
    return not (record.exc_info or "due to exception" in record.msg)
