"""One sentence in the place of a traceback: MONAI wraps what a component says in layers that name expressions."""

from __future__ import annotations

import logging
import sys
from types import TracebackType

__all__ = ["end_in_a_sentence", "plain_cause", "sentence"]


# of the engines that bundles run; MONAI's StatsHandler logs there as well
_LOGGERS = [f"ignite.engine.engine.{name}" for name in ("SupervisedTrainer", "SupervisedEvaluator")]


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


def end_in_a_sentence() -> None:
    """
    From now on, this process ends with one sentence on stderr where a component has refused something.

    For the first line of a config's ``run``: MONAI's own command shows every error as some hundred lines, whose last
    is not the cause. What is no refusal, that is neither ValueError nor OSError, keeps its traceback.
    """
    sys.excepthook = _say
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_without_traceback)


def _say(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    cause = plain_cause(error)
    if isinstance(cause, ValueError | OSError):
        print(f"error: {cause}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


def _without_traceback(record: logging.LogRecord) -> bool:
    """Ignite's engines and MONAI's handlers log an error before it ends the process, and then it is shown twice."""
    return not (record.exc_info or "due to exception" in record.msg)
