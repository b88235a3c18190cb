"""Reads the scores of ``results.json``: which there are, in which order, and what follows from them.

Everything tolerates what a run has not produced yet: a missing setting is not there, a missing number is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from .display_names import BY_HOSPITAL, LEFT_OUT, METRICS, OTHER_WAYS, SETTINGS, get_metric, natural
from .formats import as_number
from .untrained import is_untrained


def block(results: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A block of ``results`` by name; empty where it is missing or no mapping."""
    found = results.get(name)
    return found if isinstance(found, Mapping) else {}


def is_synthesis_only(results: Mapping[str, Any]) -> bool:
    """Whether synthetic data were scored and no segmentation was."""
    return bool(block(results, "quality")) and not block(results, "settings")


def setting_scores(results: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Scores by setting; where nothing is segmented, the synthetic data's own scores are the results."""
    settings = block(results, "quality" if is_synthesis_only(results) else "settings")
    return {name: scores or {} for name, scores in settings.items()}


def order_settings(results: Mapping[str, Any]) -> list[str]:
    """The settings that have scores (`setting_scores`) in the order of rows.

    Real-All, Real-Subset-* (sites sorted, numbers by value), Syn-All, Syn-Subset-*, AsynDGAN, those beyond the
    paper's, then settings that this module does not know. Empty without settings.
    """
    rank = {kind: number for number, kind in enumerate(SETTINGS)}

    def key(setting: str) -> tuple[int, list[tuple[int, int, str]]]:
        kind, _, site = setting.partition("/")
        return (rank[kind], natural(site)) if kind in rank else (len(rank), natural(setting))

    return sorted(setting_scores(results), key=key)


def settings_of(results: Mapping[str, Any], kinds: Container[str]) -> list[str]:
    """The settings of some kinds, in the order of rows."""
    return [setting for setting in order_settings(results) if setting.partition("/")[0] in kinds]


def has_gain(results: Mapping[str, Any]) -> bool:
    """Whether there are scores of settings beyond the paper's: what a hospital gains, and other ways to train."""
    return not is_synthesis_only(results) and bool(settings_of(results, (*BY_HOSPITAL, *OTHER_WAYS, *LEFT_OUT)))


def plain_settings(results: Mapping[str, Any]) -> list[str]:
    """
    The settings that are compared over all held-out cases, one by one: without those that hold a hospital's gain, which
    are compared with that hospital's own images, and those without a hospital, which are read on its cases alone.
    """
    apart = settings_of(results, (*BY_HOSPITAL, *LEFT_OUT))
    return [setting for setting in order_settings(results) if setting not in apart]


def case_sites(results: Mapping[str, Any]) -> dict[str, str]:
    """The site of every held-out case whose patient is known, from ``SITE/PATIENT``; empty for a case of none."""
    parts = {case: str(patient).partition("/") for case, patient in block(results, "test_patients").items()}
    return {case: site if slash else "" for case, (site, slash, _) in parts.items()}


def metric_names(results: Mapping[str, Any]) -> list[str]:
    """Names of the metrics that at least one setting has: registered ones first, in registry order; groups last."""
    found: dict[str, None] = {}
    for scores in setting_scores(results).values():
        for name, entry in scores.items():
            if isinstance(entry, Mapping) and ("mean" in entry or "per_seed" in entry):
                found[name] = None
    if is_synthesis_only(results):
        # what is a group of cases in the scores of segmentations, are references in those of images
        found = {name: None for name in found if "/" not in name}
    rank = {name: number for number, name in enumerate(METRICS)}
    # groups come after all that is of every case, in the order in which they were found
    groups = {
        name: number for number, name in enumerate(dict.fromkeys(["", *(name.partition("/")[2] for name in found)]))
    }
    return sorted(
        found, key=lambda name: (groups[name.partition("/")[2]], rank.get(name.partition("/")[0], len(METRICS)))
    )


def key_metric(results: Mapping[str, Any]) -> str | None:
    """The metric that settings are compared by: dice if there, else the first of `metric_names`; None without any."""
    names = metric_names(results)
    return "dice" if "dice" in names else (names[0] if names else None)


def key_metrics(results: Mapping[str, Any]) -> list[str]:
    """The metrics that the paper's tables compare by, Dice and AJI, as far as they are there; else `key_metric`."""
    names = metric_names(results)
    return [name for name in ("dice", "aji") if name in names] or names[:1]


def case_values(results: Mapping[str, Any], setting: str, metric: str) -> dict[str, float]:
    """One value per held-out case: the mean over its seeds; NaN where a seed has none or one that is not finite."""
    entry = setting_scores(results).get(setting, {}).get(metric)
    values = {}
    for case, of_seeds in block(entry, "per_case").items() if isinstance(entry, Mapping) else ():
        numbers = [as_number(value) for value in (of_seeds if isinstance(of_seeds, Sequence) else [of_seeds])]
        mean = math.fsum(numbers) / len(numbers) if numbers and all(map(math.isfinite, numbers)) else math.nan
        values[case] = mean
    return values


def mean_and_std(results: Mapping[str, Any], setting: str, metric: str) -> tuple[float, float]:
    """Mean and standard deviation over seeds, as floats; NaN for each that is not known (std with one seed)."""
    entry = setting_scores(results).get(setting, {}).get(metric)
    if not isinstance(entry, Mapping):
        return math.nan, math.nan
    mean = as_number(entry.get("mean"))
    if math.isnan(mean):
        per_seed = [as_number(value) for value in entry.get("per_seed") or []]
        mean = math.fsum(per_seed) / len(per_seed) if per_seed else math.nan
    return mean, as_number(entry.get("std"))


def mean_and_std_of_cases(
    results: Mapping[str, Any], setting: str, metric: str, cases: Container[str]
) -> tuple[float, float]:
    """As `mean_and_std`, over some of the cases; a value that is not finite is left out, as in the scores of all."""
    entry = setting_scores(results).get(setting, {}).get(metric)
    per_case = block(entry, "per_case") if isinstance(entry, Mapping) else {}
    chosen = [values for case, values in per_case.items() if case in cases and isinstance(values, Sequence)]
    per_seed = []
    for seed in range(max(map(len, chosen), default=0)):
        known = [v for values in chosen if math.isfinite(v := as_number(values[seed] if seed < len(values) else None))]
        per_seed += [mean(known)] if known else []
    return mean(per_seed) if per_seed else math.nan, stdev(per_seed) if len(per_seed) > 1 else math.nan


def mean_and_std_over_sites(results: Mapping[str, Any], kind: str, metric: str) -> tuple[float, float]:
    """
    Mean over the sites of a kind of setting, and the standard deviation over seeds of that mean; NaN where it is not
    known of every site.
    """
    settings = settings_of(results, (kind,))
    means = [mean_and_std(results, setting, metric)[0] for setting in settings]
    entries = [setting_scores(results)[setting].get(metric) for setting in settings]
    per_seed = [list(map(as_number, e.get("per_seed") or [])) if isinstance(e, Mapping) else [] for e in entries]
    std = math.nan
    if len({len(values) for values in per_seed}) == 1 and len(per_seed[0]) > 1:
        over_sites = [mean(values) for values in zip(*per_seed, strict=True)]
        std = stdev(over_sites) if all(map(math.isfinite, over_sites)) else math.nan
    return mean(means) if means else math.nan, std


def best_subset(results: Mapping[str, Any], metric: str | None = None) -> str | None:
    """The setting of a single site with the best mean, such as ``"real_subset/CS"``.

    A Real-Subset setting; where nothing was trained on real data, a Syn-Subset one.

    Args:
        results: contents of results.json.
        metric: metric to compare by; the key metric if None. The smallest mean wins where lower is
            better. Of equals the first in row order wins.

    Returns:
        None without subsets, without the metric, or where the metric's direction is not known.
    """
    metric = metric or key_metric(results)
    if metric is None or not get_metric(metric).better:
        return None
    sign = -1.0 if get_metric(metric).better == "lower" else 1.0
    kind = "syn_subset/" if is_synthesis_only(results) else "real_subset/"
    best, best_value = None, -math.inf
    for setting in order_settings(results):
        mean, _ = mean_and_std(results, setting, metric)
        if setting.startswith(kind) and not math.isnan(mean) and (best is None or sign * mean > best_value):
            best, best_value = setting, sign * mean
    return best


def ratio_to_reference(results: Mapping[str, Any], setting: str, metric: str | None = None) -> float:
    """
    Mean of ``setting`` divided by that of `reference_setting`; NaN where either is missing or untrained, or the latter
    is 0.
    """
    metric = metric or key_metric(results)
    if metric is None:
        return math.nan
    if any(is_untrained(results, one) for one in (setting, reference_setting(results))):
        return math.nan
    mean, _ = mean_and_std(results, setting, metric)
    reference, _ = mean_and_std(results, reference_setting(results), metric)
    return mean / reference if reference and math.isfinite(reference) else math.nan


def reference_setting(results: Mapping[str, Any]) -> str:
    """What others are compared with: Real-All, or Syn-All where nothing was trained on real data."""
    return "syn_all" if is_synthesis_only(results) else "real_all"


def sites(results: Mapping[str, Any]) -> list[str]:
    """Names of the sites, from the settings of single sites or from the bytes that crossed."""
    named = [s.partition("/")[2] for s in order_settings(results) if s.partition("/")[0].endswith("_subset")]
    return list(dict.fromkeys(named)) or sorted(block(block(results, "wire"), "per_site"))


def seed_count(results: Mapping[str, Any]) -> int:
    """How many seeds the compared numbers rest on: the fewest of any setting; 0 where nobody says."""
    key = key_metric(results)
    counts = []
    for scores in setting_scores(results).values():
        entry = scores.get(key)
        if isinstance(entry, Mapping) and entry.get("per_seed"):
            counts.append(len(entry["per_seed"]))
    return min(counts) if counts else len(results.get("seeds") or [])


def case_count(results: Mapping[str, Any]) -> int:
    """How many held-out cases there are segmentation scores of."""
    if is_synthesis_only(results):
        return 0
    key = key_metric(results)
    entries = [scores.get(key) for scores in setting_scores(results).values()]
    return max((len(e.get("per_case") or {}) for e in entries if isinstance(e, Mapping)), default=0)
