"""What the page says of a run without a segmentation: synthetic data that are measured themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .display_names import display_name, get_metric
from .formats import count, listed
from .scores import best_subset, key_metric, mean_and_std, ratio_to_reference, seed_count, sites

NOT_YET = "AsynDGAN has not been scored yet, so the comparison is still open; the table shows what is there."
HEADING = "Synthetic data against held-out real data"
LEGEND = "What each generator was trained on"
CLAIM = (
    "The paper claims that one generator learns the whole mixture, although no discriminator sees more than one site's "
    "part of it."
)
MEANINGS = {
    "syn_all": "the real data of all sites pooled in one place: what the synthesis itself can do",
    "syn_subset": "the real data of one site alone: what that site can do without the others",
    "asyndgan": "no real data: the discriminators stayed at the sites with them",
}


def what_was_done(results: Mapping[str, Any]) -> str:
    names = sites(results)
    where = f"{count(len(names), 'site')} ({listed(names)})" if names else "several sites"
    return (
        "Can several places train one generator together without handing over their data? In AsynDGAN one central "
        f"generator learns to draw data for {where}. Each site keeps its real data and a discriminator of its own, "
        "which tells the generator what to improve. Here the synthetic data themselves are compared with held-out real "
        "data of all sites, and so are those of a generator that had all data in one place, and of generators of one "
        "site each."
    )


def what_it_says(results: Mapping[str, Any]) -> tuple[str, str]:
    """The result in one sentence, and then what it compares with."""
    key = key_metric(results)
    mean, _ = mean_and_std(results, "asyndgan", key) if key else (math.nan, math.nan)
    if math.isnan(mean):
        return NOT_YET, ""
    metric = get_metric(key, results)
    unit = f" {metric.unit}" if metric.unit else ""
    text = f"AsynDGAN's synthetic data reached a {metric.label} of {metric.format(mean)}{unit}"
    ratio = ratio_to_reference(results, "asyndgan", key)
    if math.isfinite(ratio):
        pooled, _ = mean_and_std(results, "syn_all", key)
        text += f", {ratio:.2f} times the {metric.format(pooled)}{unit} of Syn-All, which pools all real data"
    better = f" ({metric.better} is better)" if metric.better else ""
    headline = f"{text}{better}."
    subset = best_subset(results, key)
    rest = ""
    if subset is not None:
        other, _ = mean_and_std(results, subset, key)
        rest = f"The best generator of a single site, {display_name(subset)}, reached {metric.format(other)}{unit}"
        rest += f": AsynDGAN's is {mean / other:.2f} times that. " if other else ". "
    seeds = seed_count(results)
    rest += (
        f"Numbers are means over {seeds} runs with different seeds." if seeds > 1 else "All of this is from one seed."
    )
    return headline, rest
