"""A run in words: what was done and what came out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from . import synthesis_only
from .display_names import get_metric
from .formats import count, listed
from .scores import (
    best_subset,
    case_count,
    is_synthesis_only,
    key_metric,
    mean_and_std,
    order_settings,
    ratio_to_reference,
    seed_count,
    sites,
)
from .untrained import is_untrained, untrained_settings, warning


def what_was_done(results: Mapping[str, Any]) -> str:
    """The question of the run, and how it is answered."""
    if is_synthesis_only(results):
        return synthesis_only.what_was_done(results)
    names = sites(results)
    where = f"{count(len(names), 'site')} (a site is one hospital: {listed(names)})" if names else "several hospitals"
    tested = case_count(results)
    cases = f"the same {count(tested, 'held-out real case')}" if tested else "the same held-out real cases"
    # In the present tense: this describes the method, also on the page of a run that is half way.
    return (
        f"Can hospitals train a model together without handing over their images? In AsynDGAN one central generator "
        f"learns to draw images for {where}. Each site keeps its real images and a discriminator of its own, which "
        f"tells the generator what to improve; the generator itself sees label maps and the sites' feedback, no real "
        f"image. What it draws then trains a segmentation model, and that model is compared, on {cases}, with models "
        f"trained on real images and with one trained on the drawings of a generator that had all images in one place."
    )


def what_is_claimed(results: Mapping[str, Any]) -> str:
    """The paper's claim, in a sentence."""
    if is_synthesis_only(results):
        return synthesis_only.CLAIM
    return (
        "The paper claims that a segmentation model can learn from AsynDGAN's synthetic images about as well as from "
        "all real images in one place, and better than from the real images of any single site."
    )


def _against_subset(results: Mapping[str, Any], key: str) -> str:
    """AsynDGAN against the best single site, with what the spread over seeds allows to say."""
    subset = best_subset(results, key)
    mean, std = mean_and_std(results, "asyndgan", key)
    if subset is None or is_untrained(results, subset) or is_untrained(results, "asyndgan"):
        return ""
    metric = get_metric(key, results)
    other, other_std = mean_and_std(results, subset, key)
    if not (math.isfinite(mean) and math.isfinite(other)):
        return ""
    # The difference as the table's readers see it: of the rounded numbers.
    shown = round(float(metric.format(mean)) - float(metric.format(other)), 9)
    unit = f" {metric.unit}" if metric.unit else ""
    several = sum(s.startswith("real_subset/") for s in order_settings(results)) > 1
    who = "the best single site" if several else "the single site"
    reached = f"{who}, {subset.partition('/')[2]}, reached {metric.format(other)}{unit} with its own real images alone"
    if shown == 0:
        text = f"{reached}: the same as AsynDGAN"
    else:
        ahead = (shown > 0) == (metric.better == "higher")
        amount = f"{metric.format(abs(shown))}{unit}"
        text = f"{reached}: AsynDGAN is {amount} {'better' if ahead else 'worse'}"
    text = text[0].upper() + text[1:]
    if seed_count(results) > 1 and shown != 0 and math.isfinite(std) and math.isfinite(other_std):
        within = abs(mean - other) <= math.hypot(std, other_std)
        text += ", which is within the spread over seeds" if within else ", which is more than the spread over seeds"
    return text + ". "


def what_it_says(results: Mapping[str, Any]) -> tuple[str, str]:
    """The result in one sentence, and then what it compares with and how sure it is."""
    if is_synthesis_only(results):
        return synthesis_only.what_it_says(results)
    key = key_metric(results)
    if key is None:
        return "No setting has been scored yet; what there is so far is shown below.", ""
    metric = get_metric(key, results)
    unit = f" {metric.unit}" if metric.unit else ""
    mean, _ = mean_and_std(results, "asyndgan", key)
    reference, _ = mean_and_std(results, "real_all", key)
    if math.isnan(mean):
        return synthesis_only.NOT_YET, ""
    ratio = ratio_to_reference(results, "asyndgan", key)
    text = f"Trained on AsynDGAN's synthetic images only, the segmentation model reached a {metric.label} of "
    text += f"{metric.format(mean)}{unit}"
    if math.isfinite(ratio):
        pooled = f"the {metric.format(reference)}{unit} of Real-All, which pools all real images"
        if metric.better == "lower":
            text += f", {ratio:.2f} times {pooled} (lower is better)"
        else:
            text += f", {100 * ratio:.1f} % of {pooled}"
    headline = text + "."
    text = f"{warning(results)} ".lstrip() + _against_subset(results, key)
    synthetic, _ = mean_and_std(results, "syn_all", key)
    if not math.isnan(synthetic) and not untrained_settings(results):
        text += (
            f"Syn-All, whose generator saw all images in one place, reached {metric.format(synthetic)}{unit}: the gap "
            "from Real-All to Syn-All shows what synthesis costs, the gap from Syn-All to AsynDGAN what keeping the "
            "images apart costs. "
        )
    seeds = seed_count(results)
    if seeds == 1:
        text += (
            "All of this is from one seed: a repeated run would give other numbers, by how much is not known, so "
            "small differences between settings may be chance. "
        )
    elif seeds > 1:
        text += f"Numbers are means over {seeds} repeated runs with different seeds. "
    return headline, text.strip()
