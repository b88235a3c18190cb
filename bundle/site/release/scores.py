"""Which sums of held-out cases' scores tell of many cases at once: :func:`releasable`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Sums", "releasable"]


@dataclass(frozen=True)
class Sums:
    """
    Attributes:
        count: cases that have a score.
        total: sum of their scores.
        squares: sum of their squared scores.
    """

    count: int
    total: float
    squares: float

    @classmethod
    def of(cls, scores: Mapping[str, float | None]) -> Sums:
        """Of a metric's scores by case; one that is None or not finite is none."""
        values = [value for value in scores.values() if value is not None and math.isfinite(value)]
        return cls(len(values), float(sum(values)), float(sum(value * value for value in values)))


def releasable(scores: Mapping[str, Mapping[str, float | None]], min_cases: int) -> dict[str, Sums]:
    """
    Sums by metric, of those from which no sum over fewer than ``min_cases`` cases follows.

    A metric that fewer cases have is left out. Scores of groups (``METRIC/GROUP``) could be taken from one another:
    those of all cases less those of a group of all but one are the score of one. So a metric's groups are let out
    together, and only if the smallest parts that they divide its cases into are empty or large enough.

    Args:
        scores: by metric and case, None where a case has no score.
        min_cases: at least 1.

    >>> sorted(releasable({"dice": {"a": 0.5, "b": 1.0}, "dice/odd": {"a": 0.5}, "hd95": {"a": 3.0, "b": None}}, 2))
    ['dice']
    """
    found = {}
    for metric in sorted(name for name in scores if "/" not in name):
        own = _cases(scores[metric])
        if len(own) < min_cases:
            continue
        found[metric] = Sums.of(scores[metric])
        groups = {name: _cases(of) for name, of in scores.items() if name.startswith(f"{metric}/")}
        parts = Counter(tuple(case in cases for cases in groups.values()) for case in own)
        if all(size >= min_cases for size in parts.values()):
            found |= {name: Sums.of(scores[name]) for name in sorted(groups) if groups[name]}
    return found


def _cases(scores: Mapping[str, float | None]) -> set[str]:
    return {case for case, value in scores.items() if value is not None and math.isfinite(value)}
