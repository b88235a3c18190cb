"""How sure a table is: intervals over patients, and paired tests between AsynDGAN and the other settings.

The unit is the held-out patient, with all seeds and cases together: a case's value is its mean over seeds. What is
said here is about other patients, not about other trainings; the standard deviation over seeds is about those.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .formats import as_number
from .scores import block, case_values, is_synthesis_only, metric_names, plain_settings

CONFIDENCE = 0.95
RESAMPLES = 9999
REFERENCE = "asyndgan"
"""The setting that the others are compared with."""

Interval = list[float] | None


def compute_statistics(results: Mapping[str, Any]) -> dict[str, Any]:
    """
    The block ``statistics`` of results.json; docs/explanation/metrics.md describes it.

    Args:
        results: contents of results.json: ``settings`` and, where a patient has several held-out cases,
            ``test_patients`` (patient by case).

    Returns:
        ``{"confidence", "resamples", "metrics": {metric: {setting: {...}}}}``; plain numbers and None, so that it can
        be written as JSON. Empty without any setting that has scores, and where nothing was segmented: the scores of
        synthetic data are of sites or components, which are no patients.
    """
    if is_synthesis_only(results):
        return {}
    patients = block(results, "test_patients")
    metrics = {}
    for metric in metric_names(results):
        values = {setting: case_values(results, setting, metric) for setting in plain_settings(results)}
        values = {setting: scores for setting, scores in values.items() if any(map(math.isfinite, scores.values()))}
        if values:
            metrics[metric] = _of_metric(values, patients)
    return {"confidence": CONFIDENCE, "resamples": RESAMPLES, "metrics": metrics} if metrics else {}


def _of_metric(values: Mapping[str, Mapping[str, float]], patients: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for setting, scores in values.items():
        sums, counts, _ = _by_patient([scores], patients)
        found[setting] = {"cases": int(counts.sum()), "patients": len(counts), "interval": mean_interval(sums, counts)}
        if "real_all" in values and setting != "real_all":
            found[setting]["ratio_to_real_all"] = ratio(scores, values["real_all"], patients)
    others = [setting for setting in values if setting != REFERENCE] if REFERENCE in values else []
    for setting in others:
        found[setting]["asyndgan"] = compare(values[REFERENCE], values[setting], patients)
    adjusted = holm([found[setting]["asyndgan"]["p"] for setting in others])
    for setting, p in zip(others, adjusted, strict=True):
        found[setting]["asyndgan"]["p_holm"] = p
    return found


def _by_patient(
    scores: Sequence[Mapping[str, float]], patients: Mapping[str, str]
) -> tuple[np.ndarray, np.ndarray, int]:
    """
    Sums and numbers of cases by patient, over the cases that have a value in all of ``scores``.

    Returns:
        Sums, float64 of shape ``(len(scores), patients)``, or ``(patients,)`` of a single one; numbers of cases,
        ``(patients,)``; how many cases were left out because a value is missing in one of ``scores``.
    """
    names = dict.fromkeys(case for values in scores for case in values)
    complete = [c for c in names if all(math.isfinite(as_number(values.get(c))) for values in scores)]
    cases_of: dict[str, list[str]] = {}
    for case in complete:
        cases_of.setdefault(str(patients.get(case, case)), []).append(case)
    sums = np.array([[sum(v[case] for case in cases) for cases in cases_of.values()] for v in scores], dtype=float)
    counts = np.array([len(cases) for cases in cases_of.values()], dtype=float)
    return (sums[0] if len(scores) == 1 else sums), counts, len(names) - len(complete)


def _bootstrap(data: Sequence[np.ndarray], statistic: Any) -> Interval:
    """
    Percentile interval over patients, who are drawn with replacement, each with all cases and seeds.

    The percentile interval, because it always lies among values that the statistic can take and is defined also where
    all resamples agree, where BCa is not; with a dozen patients BCa does not cover better (tests/report measures it).
    """
    if len(data[0]) < 2:
        return None
    from scipy.stats import bootstrap  # late: it takes half a second, and tables and pages do without

    with np.errstate(divide="ignore", invalid="ignore"):
        found = bootstrap(
            tuple(data),
            statistic,
            paired=True,
            vectorized=True,
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            method="percentile",
            # the same patients are drawn for every metric and setting
            rng=np.random.default_rng(0),
        ).confidence_interval
    low, high = float(found.low), float(found.high)
    return [low, high] if math.isfinite(low) and math.isfinite(high) else None


def _quotient(sums: np.ndarray, others: np.ndarray, axis: int = -1) -> np.ndarray:
    return sums.sum(axis) / others.sum(axis)


def mean_interval(sums: np.ndarray, counts: np.ndarray) -> Interval:
    """
    Bootstrap interval of the mean over cases.

    Args:
        sums: sum over the cases of each patient, shape ``(patients,)``.
        counts: number of cases of each patient, same shape.

    Returns:
        Lower and upper end, or None with fewer than two patients.
    """
    return _bootstrap((sums, counts), _quotient)


def ratio(scores: Mapping[str, float], reference: Mapping[str, float], patients: Mapping[str, str]) -> dict[str, Any]:
    """
    Mean of ``scores`` divided by that of ``reference``, over the cases of both, with its interval (paired resampling).

    Args:
        scores: value by case; NaN is missing.
        reference: the same.
        patients: patient by case; a case that is not in it is a patient of its own.

    Returns:
        ``{"ratio": float or None, "interval": [low, high] or None}``.
    """
    sums, _, _ = _by_patient([scores, reference], patients)
    if sums.size == 0 or sums[1].sum() == 0:
        return {"ratio": None, "interval": None}
    return {"ratio": float(sums[0].sum() / sums[1].sum()), "interval": _bootstrap((sums[0], sums[1]), _quotient)}


def compare(scores: Mapping[str, float], other: Mapping[str, float], patients: Mapping[str, str]) -> dict[str, Any]:
    """
    ``scores`` against ``other``, over the cases that have a value in both.

    The test is Wilcoxon's signed-rank test, two-sided, on a value per patient (the mean over the cases). Patients
    without a difference take part in the ranking, and then neither side gets their ranks (Pratt 1959). Exact for up to
    50 patients without ties, and for up to 13 with ties; else by the normal approximation (SciPy's rule).

    Args:
        scores: value by case; NaN is missing.
        other: the same.
        patients: patient by case; a case that is not in it is a patient of its own.

    Returns:
        ``difference`` of the means (``scores`` − ``other``) with ``difference_interval``, ``ratio`` with
        ``ratio_interval``, ``p`` (None with fewer than two patients), and what it rests on: ``cases``, ``patients``,
        ``left_out`` (cases without a value in one of both), ``equal`` (patients without a difference).
    """
    sums, counts, left_out = _by_patient([scores, other], patients)
    found: dict[str, Any] = {"difference": None, "difference_interval": None, "ratio": None, "ratio_interval": None}
    found |= {"p": None, "cases": int(counts.sum()), "patients": len(counts), "left_out": left_out, "equal": 0}
    if len(counts) == 0:
        return found
    # rounding must not tell apart what is equal: ties and zeros decide how the test is computed
    difference = np.round(sums[0] - sums[1], 12)
    quotient = ratio(scores, other, patients)
    return found | {
        "difference": float(difference.sum() / counts.sum()),
        "difference_interval": mean_interval(difference, counts),
        "ratio": quotient["ratio"],
        "ratio_interval": quotient["interval"],
        "p": signed_rank_p(difference / counts),
        "equal": int((difference == 0).sum()),
    }


def signed_rank_p(differences: np.ndarray) -> float | None:
    """p of `compare`; 1 where nobody differs; None for fewer than two differences."""
    if len(differences) < 2:
        return None
    if not np.any(differences):
        return 1.0
    from scipy.stats import wilcoxon

    return float(wilcoxon(differences, zero_method="pratt", method="auto").pvalue)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """
    p-values corrected for their number by Holm's step-down procedure (Holm 1979); None stays and is not counted.

    The k-th smallest of m is multiplied by m − k + 1, is at most 1, and at least the one before it.
    """
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[place] = largest
    return adjusted
