"""How metrics and settings are called, written and ordered."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .formats import DASH, as_number


@dataclass(frozen=True)
class Metric:
    """How one metric is written and read.

    Attributes:
        label: display name, such as ``"Dice"``.
        unit: unit text, empty for a metric without one.
        better: ``"higher"``, ``"lower"``, or ``""`` where neither is known.
        spec: format specification of a value, such as ``".3f"``.
    """

    label: str
    unit: str = ""
    better: str = "higher"
    spec: str = ".3f"

    @property
    def arrow(self) -> str:
        """``"↑"`` where higher is better, ``"↓"`` where lower is, else an empty string."""
        return {"higher": "↑", "lower": "↓"}.get(self.better, "")

    @property
    def heading(self) -> str:
        """Label, unit and direction, as a column is headed: ``"HD95 (mm) ↓"``."""
        unit = f"({self.unit})" if self.unit else ""
        return " ".join(part for part in (self.label, unit, self.arrow) if part)

    def format(self, value: float | None) -> str:
        """``value`` with this metric's digits; a dash for None, NaN and what is not a number."""
        number = as_number(value)
        return DASH if math.isnan(number) else format(number, self.spec)


# The order here is the order of columns.
METRICS: dict[str, Metric] = {
    "dice": Metric("Dice"),
    "dice_tumor_slices": Metric("Dice, labelled slices"),
    "aji": Metric("AJI"),
    "pq": Metric("PQ"),
    "sensitivity": Metric("Sensitivity"),
    # Background is most of an image, so specificity only differs in its later digits.
    "specificity": Metric("Specificity", spec=".4f"),
    "hd95": Metric("HD95", unit="mm", better="lower", spec=".1f"),
    # of the synthetic images themselves
    "fid": Metric("FID", better="lower", spec=".1f"),
    "mmd": Metric("MMD", better="lower"),
    "ssim": Metric("SSIM"),
    "gan_test": Metric("GAN-test (Dice)"),
    "false_foreground": Metric("False foreground", better="lower", spec=".4f"),
    "fixed_pattern": Metric("Fixed pattern", unit="×", better="lower", spec=".1f"),
    "fixed_pattern_rate": Metric("Most at one position", unit="share", better="lower"),
    "fixed_texture": Metric("Texture of the mean image", better="lower"),
    # 1 and 0.05 are where real patients are from each other: neither direction is the better one
    "neighbour_ratio": Metric("Distance to nearest, synthetic / real", better="", spec=".2f"),
    "neighbour_share": Metric("Share nearer to another patient than 95 % of real", better=""),
    "own_pair_share": Metric("Share nearest to its own pair", better=""),
    "images": Metric("Images", better="", spec=",.0f"),
    # of synthetic numbers themselves
    "w1": Metric("W1", better="lower"),
    "w1_component": Metric("W1 by component", better="lower"),
    "w1_data": Metric("W1 of the training data", better=""),
}

# Prefix of a setting's key -> (display name, what the segmenter was trained on), in the order of rows.
SETTINGS: dict[str, tuple[str, str]] = {
    "real_all": ("Real-All", "the real images of all sites pooled in one place: the upper reference"),
    "real_all_common": (
        "Real-All, common",
        "the real images of all sites pooled in one place, in the modalities that every site has",
    ),
    "real_all_filled": (
        "Real-All, filled",
        "the real images of all sites pooled in one place, black where a site lacks a modality",
    ),
    "real_subset": (
        "Real-Subset-{site}",
        "the real images of one site alone: what that site can do without the others",
    ),
    "syn_all": (
        "Syn-All",
        "synthetic images from a generator trained on the pooled real images: what the synthesis itself costs",
    ),
    "syn_subset": ("Syn-Subset-{site}", "synthetic images from a generator trained on one site alone"),
    "asyndgan": (
        "AsynDGAN",
        "synthetic images from the central generator, whose discriminators stayed at the sites with the real images",
    ),
    "real_subset_augmented": (
        "Real-Subset-{site}, augmented",
        "the real images of one site under the strongest plain augmentation: what is to be had without anybody else",
    ),
    "real_subset_plus_asyndgan": (
        "Real-Subset-{site} + AsynDGAN",
        "the real images of one site and AsynDGAN's synthetic ones together: what a site has that takes part",
    ),
    "asyndgan_then_real_subset": (
        "AsynDGAN, then Real-Subset-{site}",
        "AsynDGAN's synthetic images first, and then the real images of one site",
    ),
    "fedavg": (
        "FedAvg",
        "the real images of all sites, by federated averaging: every site trains the same segmenter on its own, and "
        "the weights are averaged",
    ),
    "fedprox": ("FedProx", "as FedAvg, with a term that keeps the sites' weights near the average"),
    "syn_subset_pooled": (
        "Syn-Subsets pooled",
        "synthetic images of generators that each site trained alone, put together",
    ),
    "labels_only": (
        "Labels-Only",
        "label maps painted with random intensities by class, without a generator: what label maps alone are worth",
    ),
    "teachers_only": (
        "Teachers-Only",
        "the images that the sites' teachers predicted for the label maps they released, without a generator: what the "
        "generator is worth beyond its teachers",
    ),
    "leave_out": ("AsynDGAN without {site}", "AsynDGAN's synthetic images, from a training without that site"),
    "leave_out_real_all": ("Real-All without {site}", "the real images of all other sites pooled in one place"),
    "leave_out_fedavg": ("FedAvg without {site}", "the real images of all other sites, by federated averaging"),
}

PAPER_KINDS = ("real_all", "real_subset", "syn_all", "syn_subset", "asyndgan")
# Kinds of settings beyond the paper's, by what they are read for.
BY_HOSPITAL = ("real_subset_augmented", "real_subset_plus_asyndgan", "asyndgan_then_real_subset")
OTHER_WAYS = ("fedavg", "fedprox", "syn_subset_pooled", "labels_only", "teachers_only")
LEFT_OUT = ("leave_out", "leave_out_real_all", "leave_out_fedavg")


def get_metric(name: str, results: Mapping[str, Any] | None = None) -> Metric:
    """
    The registered metric, or for an unknown name one that shows the name and claims no direction.

    Args:
        name: name of the metric, ``METRIC:CLASS`` for that of one class, or ``METRIC/GROUP`` or ``METRIC:CLASS/GROUP``
            for the mean over a group of cases.
        results: contents of results.json, whose block ``units`` (unit by metric) wins over the registered unit.
    """
    name, _, group = name.partition("/")
    name, _, of_class = name.partition(":")
    metric = METRICS.get(name, Metric(name, better=""))
    for part in filter(None, (of_class, group)):
        metric = replace(metric, label=f"{metric.label}, {part}")
    unit = ((results or {}).get("units") or {}).get(name)
    return metric if unit is None else replace(metric, unit=str(unit))


def kind_name(kind: str) -> str:
    """``"real_subset"`` as ``"Real-Subset-SITE"``; an unknown kind as it is."""
    return SETTINGS[kind][0].replace("{site}", "SITE") if kind in SETTINGS else kind


def display_name(setting: str) -> str:
    """``"real_subset/CS"`` as ``"Real-Subset-CS"``; an unknown setting as it is."""
    kind, _, site = setting.partition("/")
    if kind not in SETTINGS:
        return setting
    name = SETTINGS[kind][0]
    return name.replace("{site}", site) if "{site}" in name or not site else f"{name}/{site}"


def natural(text: str) -> list[tuple[int, int, str]]:
    """Sort key under which ``site2`` comes before ``site10``."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text) if part]
