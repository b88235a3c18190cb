"""How well scores tell members from non-members, with intervals over patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy.stats import rankdata

__all__ = [
    "CONFIDENCE",
    "FALSE_POSITIVES",
    "auc",
    "clustered_interval",
    "discrimination",
    "excess",
    "roc_curve",
    "tpr_at_fpr",
    "weighted_auc",
    "weighted_tpr",
]

CONFIDENCE = 0.95
RESAMPLES = 2000
FALSE_POSITIVES = 0.01
"""The rate of false positives at which attacks are compared (Carlini et al. 2022, https://arxiv.org/abs/2112.03570)."""


def auc(members: np.ndarray, nonmembers: np.ndarray) -> float:
    """
    The area under the ROC curve: the probability that a member has a higher score than a non-member, ties counting
    half (Mann and Whitney's U / (n·m)).

    Args:
        members, nonmembers: scores, one-dimensional and finite; higher means more likely a member.

    Returns:
        In [0, 1]; 0.5 for scores that tell nothing.

    Raises:
        ValueError: no scores on one side, another shape, or scores that are not finite.

    >>> auc(np.array([3.0, 2.0]), np.array([2.0, 1.0]))
    0.875
    """
    members, nonmembers = _scores(members, nonmembers)
    ranks = rankdata(np.concatenate([members, nonmembers]))[: len(members)]
    u = ranks.sum() - len(members) * (len(members) + 1) / 2
    return float(u / (len(members) * len(nonmembers)))


def tpr_at_fpr(members: np.ndarray, nonmembers: np.ndarray, fpr: float = FALSE_POSITIVES) -> float:
    """
    The share of members above the lowest threshold that at most ⌊fpr · n⌋ of the n non-members are above.

    With fewer than 1 / ``fpr`` non-members none may be above it. Arguments and errors as for :func:`auc`, and
    ValueError for ``fpr`` outside [0, 1).

    >>> tpr_at_fpr(np.array([3.0, 2.0, 0.0, 5.0]), np.array([2.0, 1.0]))
    0.5
    """
    members, nonmembers = _scores(members, nonmembers)
    if not 0 <= fpr < 1:
        raise ValueError(f"fpr: expected a rate in [0, 1), got {fpr}")
    allowed = int(_allowed(fpr, len(nonmembers)))
    threshold = np.partition(nonmembers, len(nonmembers) - 1 - allowed)[len(nonmembers) - 1 - allowed]
    return float((members > threshold).mean())


def roc_curve(members: np.ndarray, nonmembers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    False-positive and true-positive rates, float64 in [0, 1], both from 0 to 1, of every threshold there is.

    Straight lines between the points bound an area of :func:`auc`. Arguments and errors as there.
    """
    members, nonmembers = _scores(members, nonmembers)
    thresholds = np.unique(np.concatenate([members, nonmembers]))[::-1]
    rates = [
        1 - np.searchsorted(np.sort(scores), thresholds, side="left") / len(scores) for scores in (nonmembers, members)
    ]
    return np.concatenate([[0.0], rates[0]]), np.concatenate([[0.0], rates[1]])


def weighted_auc(
    members: np.ndarray,
    nonmembers: np.ndarray,
    weights: tuple[np.ndarray, np.ndarray],
    compared: np.ndarray | None = None,
) -> np.ndarray:
    """
    :func:`auc` of R samples in which score ``i`` stands ``weights[side][r, i]`` times: R float64. Of the pairs of a
    member and a non-member those count that are ``compared``, bool N×M; None for all.
    """
    wins = (members[:, None] > nonmembers[None]) + 0.5 * (members[:, None] == nonmembers[None])
    if compared is None:
        total = weights[0].sum(axis=1) * weights[1].sum(axis=1)
    else:
        wins, total = wins * compared, ((weights[0] @ compared.astype(float)) * weights[1]).sum(axis=1)
    return ((weights[0] @ wins) * weights[1]).sum(axis=1) / total


def weighted_tpr(
    members: np.ndarray, nonmembers: np.ndarray, weights: tuple[np.ndarray, np.ndarray], fpr: float = FALSE_POSITIVES
) -> np.ndarray:
    """:func:`tpr_at_fpr` of R samples in which score ``i`` stands ``weights[side][r, i]`` times: R float64."""
    order = np.argsort(-nonmembers)
    above = np.cumsum(weights[1][:, order], axis=1)
    first = (above > _allowed(fpr, above[:, -1:])).argmax(axis=1)
    found = members[None] > nonmembers[order][first][:, None]
    return (weights[0] * found).sum(axis=1) / weights[0].sum(axis=1)


def clustered_interval(
    members: np.ndarray,
    nonmembers: np.ndarray,
    member_patients: Sequence[str],
    nonmember_patients: Sequence[str],
    statistic: Callable[[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]], np.ndarray] = weighted_auc,
    resamples: int = RESAMPLES,
    seed: int = 0,
    strata: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[float, float] | None:
    """
    Percentile bootstrap interval of :data:`CONFIDENCE` over patients.

    Slices of a patient look alike, and members and non-members are different patients: a difference between a few
    patients looks like membership. So member patients and non-member patients are drawn with replacement, separately,
    and each brings all of its slices. Where no resample mixes the two sides, both ends are the same: the interval says
    nothing about patients that are unlike all of these.

    Args:
        members, nonmembers: as for :func:`auc`.
        member_patients, nonmember_patients: the patient of every score.
        statistic: of scores of members and of non-members, in samples given by how often each occurs.
        resamples: how many.
        seed: of the draws.
        strata: of members and of non-members, within which patients are drawn; None for one.

    Returns:
        Lower and upper end; None with fewer than two patients on one side, where nothing can be drawn.

    Raises:
        ValueError: as :func:`auc`, and when scores and patients are not equally many.
    """
    members, nonmembers = _scores(members, nonmembers)
    for name, scores, patients in (
        ("members", members, member_patients),
        ("nonmembers", nonmembers, nonmember_patients),
    ):
        if len(scores) != len(patients):
            raise ValueError(f"{name}: expected a patient for each of {len(scores)} scores, got {len(patients)}")
    strata = strata or (np.zeros(len(members), dtype=int), np.zeros(len(nonmembers), dtype=int))
    weights = _drawn(member_patients, nonmember_patients, resamples, seed, strata)
    return None if weights is None else _percentiles(statistic(members, nonmembers, weights))


def excess(
    scores: np.ndarray,
    control: np.ndarray,
    member: np.ndarray,
    patients: Sequence[str] | np.ndarray,
    resamples: int = RESAMPLES,
    seed: int = 0,
    strata: Sequence[str] | np.ndarray | None = None,
) -> dict[str, Any]:
    """
    By how much an attack's AUC is above that of a control, which tells the same patients apart without knowing more.

    Members and non-members are different patients, and a few of them are never quite alike: a control of 0.58 says that
    an attack's 0.60 need be no sign of membership. Both are measured in the same resamples of the patients, so the
    interval is of the difference.

    Args:
        scores, control: N, finite, of the same candidates; higher means more likely a member.
        member: N, bool.
        patients, resamples, seed, strata: as for :func:`discrimination`.

    Returns:
        For JSON: ``auc``, the difference, and ``interval``, its percentile bootstrap interval over patients; None as
        there.

    Raises:
        ValueError: when scores and control are not equally many.
    """
    member, names = np.asarray(member, dtype=bool), np.asarray(patients)
    if np.shape(scores) != np.shape(control):
        raise ValueError(f"expected as many scores as of the control, got {np.shape(scores)} and {np.shape(control)}")
    if member.all() or not member.any():
        return {"auc": None, "interval": None}
    ours, theirs = (_scores(values[member], values[~member]) for values in (np.asarray(scores), np.asarray(control)))
    groups = np.zeros(len(member), dtype=int) if strata is None else np.asarray(strata)
    compared = groups[member][:, None] == groups[~member][None]
    once = np.ones((1, len(ours[0]))), np.ones((1, len(ours[1])))
    found = [float(weighted_auc(*values, once, compared)[0]) for values in (ours, theirs)]
    weights = _drawn(names[member], names[~member], resamples, seed, (groups[member], groups[~member]))
    ends = None
    if weights is not None:
        ends = _percentiles(weighted_auc(*ours, weights, compared) - weighted_auc(*theirs, weights, compared))
    return {"auc": found[0] - found[1], "interval": None if ends is None else list(ends)}


def _drawn(
    member_patients: Sequence[str],
    nonmember_patients: Sequence[str],
    resamples: int,
    seed: int,
    strata: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray] | None:
    """How often each slice of either side is in each resample of a stratum's patients; None where there are too few."""
    rng = np.random.default_rng(seed)
    weights = []
    for patients, groups in zip((member_patients, nonmember_patients), strata, strict=True):
        drawn = np.empty((resamples, len(groups)))
        for group in np.unique(groups):
            names, patient = np.unique(np.asarray(patients)[groups == group], return_inverse=True)
            if len(names) < 2:
                return None
            times = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
            drawn[:, groups == group] = times[:, patient]
        weights.append(drawn)
    return weights[0], weights[1]


def _percentiles(found: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def discrimination(
    scores: np.ndarray,
    member: np.ndarray,
    patients: Sequence[str] | np.ndarray,
    resamples: int = RESAMPLES,
    seed: int = 0,
    strata: Sequence[str] | np.ndarray | None = None,
) -> dict[str, Any]:
    """
    All that is reported of an attack on some candidates.

    Args:
        scores: N, finite; higher means more likely a member.
        member: N, bool.
        patients: of every candidate.
        resamples, seed: of the intervals.
        strata: of every candidate, such as its site; each has members and non-members. Then the AUC is over pairs of
            one stratum, and patients are drawn within each: what tells strata apart is no membership. None for one.

    Returns:
        For JSON: ``auc``, ``interval``; ``tpr`` and ``tpr_interval`` at ``fpr``; ``false_positives_allowed``, how many
        non-members that rate stands for (0: the rate cannot be resolved, and the true-positive rate is that without
        any); numbers of slices and patients. AUC and rates are None where one side has no candidates, intervals where
        one has fewer than two patients.
    """
    scores, member, names = np.asarray(scores, dtype=float), np.asarray(member, dtype=bool), np.asarray(patients)
    sides, clusters = (scores[member], scores[~member]), (names[member], names[~member])
    found: dict[str, Any] = {"auc": None, "interval": None, "fpr": FALSE_POSITIVES, "tpr": None, "tpr_interval": None}
    found["false_positives_allowed"] = int(_allowed(FALSE_POSITIVES, len(sides[1])))
    for side, values, of in zip(("member", "nonmember"), sides, clusters, strict=True):
        found |= {f"{side}_slices": len(values), f"{side}_patients": len(np.unique(of))}
    if min(map(len, sides)):
        groups = np.zeros(len(member), dtype=int) if strata is None else np.asarray(strata)
        apart = groups[member], groups[~member]
        compared = apart[0][:, None] == apart[1][None]
        once = np.ones((1, len(sides[0]))), np.ones((1, len(sides[1])))
        within = partial(weighted_auc, compared=compared)
        for value, interval, statistic in (("auc", "interval", within), ("tpr", "tpr_interval", weighted_tpr)):
            ends = clustered_interval(*sides, *clusters, statistic, resamples, seed, apart)
            known = float(statistic(*_scores(*sides), once)[0])
            found |= {value: known, interval: None if ends is None else list(ends)}
    return found


def _allowed(fpr: float, nonmembers: np.ndarray | int) -> np.ndarray:
    # 0.29 · 100 is 28.999999999999996
    return np.floor(fpr * np.asarray(nonmembers) + 1e-9).astype(int)


def _scores(members: np.ndarray, nonmembers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sides = {"members": np.asarray(members, dtype=float), "nonmembers": np.asarray(nonmembers, dtype=float)}
    for name, scores in sides.items():
        if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
            raise ValueError(f"{name}: expected one or more finite scores, one-dimensional, got shape {scores.shape}")
    return sides["members"], sides["nonmembers"]
