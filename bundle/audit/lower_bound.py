"""What an attack proves of ε, from how often it is right."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["epsilon_lower_bound"]


def epsilon_lower_bound(
    without: Sequence[float], with_it: Sequence[float], delta: float, confidence: float = 0.95
) -> float:
    """
    A lower bound on ε, from scores of trainings without a patient and with him.

    A mechanism that is (ε, δ)-differentially private has P(say yes | with) <= e^ε · P(say yes | without) + δ, whatever
    the attack (Jagielski et al. 2020, https://arxiv.org/abs/2006.07709, section 4). Both probabilities are bounded by
    Clopper and Pearson, each with half of the error. The threshold, and which side of it is a yes, are chosen on the
    first half of the trainings, and what is bounded is counted on the other: so the bound holds for the best threshold.

    Args:
        without, with_it: one score for each training, in any order that does not depend on them; at least 4 of each.
        delta: δ that is granted, in [0, 1).
        confidence: with which ε is at least what is returned.

    Returns:
        ε >= 0; 0 where nothing was proved.

    Raises:
        ValueError: for fewer scores.
    """
    sides = [np.asarray(scores, dtype=float) for scores in (without, with_it)]
    if min(map(len, sides)) < 4:
        raise ValueError(f"expected at least 4 trainings of each kind, got {len(sides[0])} and {len(sides[1])}")
    chosen, counted = ([scores[start::2] for scores in sides] for start in (0, 1))
    thresholds = np.unique(np.concatenate(chosen))
    # a yes above the threshold, or below it; for a test that says no, the two trainings change places
    best = max(
        ((sign, at, swap) for sign in (1, -1) for at in thresholds for swap in (False, True)),
        key=lambda rule: _bound(*_counts(chosen, *rule), delta, confidence),
    )
    return max(0.0, _bound(*_counts(counted, *best), delta, confidence))


def _counts(sides: Sequence[np.ndarray], sign: int, threshold: float, swap: bool) -> tuple[int, int, int, int]:
    false, true = (int((sign * scores >= sign * threshold).sum()) for scores in sides)
    pairs = (false, len(sides[0])), (true, len(sides[1]))
    first, second = pairs[::-1] if swap else pairs
    return (*first, *second)


def _bound(false: int, of_false: int, true: int, of_true: int, delta: float, confidence: float) -> float:
    from scipy.stats import beta

    error = (1 - confidence) / 2
    least = float(beta.ppf(error, true, of_true - true + 1)) if true else 0.0
    most = float(beta.ppf(1 - error, false + 1, of_false - false)) if false < of_false else 1.0
    return math.log((least - delta) / most) if least > delta else -math.inf
