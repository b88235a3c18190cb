"""The losses of a reply, of sites with folds and of others alike."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

__all__ = ["OF_FOLD", "of_all_folds"]

OF_FOLD = "adversarial."
"""Before a number: the adversarial term of one fold's images in the batch."""


def of_all_folds(losses: Mapping[str, float]) -> dict[str, float]:
    """
    The mean over the folds of a batch in the place of one term for each.

    >>> of_all_folds({"adversarial.1": 1.0, "adversarial.2": 2.0})
    {'adversarial': 1.5}
    """
    of_folds = [value for name, value in losses.items() if name.startswith(OF_FOLD)]
    others = {name: value for name, value in losses.items() if not name.startswith(OF_FOLD)}
    return others | ({"adversarial": fmean(of_folds)} if of_folds else {})
