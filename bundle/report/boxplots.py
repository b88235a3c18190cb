"""Figure: how the scores of a metric spread over the held-out cases."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from .display_names import LEFT_OUT, display_name, get_metric
from .drawing import INK, MUTED, PALETTE, RULE, literal, placeholder, save_figure
from .scores import case_values, order_settings


def metric_boxplot(results: Mapping[str, Any], metric: str, path: str | os.PathLike[str]) -> None:
    """Distribution of one metric over the test cases, a box per setting with its cases as points.

    Args:
        results: contents of results.json; of every setting ``[metric]["per_case"]`` is read,
            ``{case: [value per seed]}``, and averaged over seeds. Settings without it are left out; so are
            values that are not finite, and the figure says how many.
        metric: name of the metric, such as ``"dice"``.
        path: PNG file to write.
    """
    # those without a hospital are read on its cases alone
    shown = [setting for setting in order_settings(results) if setting.partition("/")[0] not in LEFT_OUT]
    found = {setting: list(case_values(results, setting, metric).values()) for setting in shown}
    values = {s: [v for v in means if math.isfinite(v)] for s, means in found.items()}
    values = {setting: numbers for setting, numbers in values.items() if numbers}
    left_out = {setting: sum(not math.isfinite(v) for v in found[setting]) for setting in found}
    if not values:
        placeholder(f"no {get_metric(metric).label} per case", path)
        return
    colours = {"real_all": PALETTE[0], "real_subset": PALETTE[5], "syn_all": PALETTE[1], "asyndgan": PALETTE[2]}
    colours |= {"real_subset_plus_asyndgan": PALETTE[2], "fedavg": PALETTE[4]}
    figure = Figure(figsize=(8.2, 0.95 + 0.46 * len(values)), layout="constrained")
    axes = figure.subplots()
    jitter = np.random.default_rng(0)
    names = []
    for place, (setting, numbers) in enumerate(values.items()):
        kind = setting.partition("/")[0]
        colour = colours.get(kind, MUTED)
        style = {"color": INK, "linewidth": 1.0}
        axes.boxplot(
            [numbers],
            positions=[place],
            orientation="horizontal",
            widths=0.56,
            showfliers=False,
            patch_artist=True,
            boxprops={"facecolor": (*to_rgb(colour), 0.28), "edgecolor": INK, "linewidth": 1.0},
            medianprops={"color": INK, "linewidth": 2.0},
            whiskerprops=style,
            capprops=style,
        )
        offsets = jitter.uniform(-0.17, 0.17, len(numbers))
        axes.plot(numbers, place + offsets, "o", markersize=4, color=colour, markeredgecolor=INK, markeredgewidth=0.4)
        left = left_out[setting]
        names.append(literal(display_name(setting)) + (f" ({left} left out)" if left else ""))
    axes.set_yticks(range(len(values)), names)
    axes.set_ylim(len(values) - 0.45, -0.55)
    if metric in ("dice", "aji", "sensitivity"):
        # Small differences should not look large: such a score is shown from 0 to 1.
        axes.set_xlim(-0.02, 1.02)
    label = get_metric(metric, results)
    hint = f", {label.better} is better" if label.better else ""
    cases = max(len(means) for means in found.values())
    axes.set_xlabel(
        literal(
            f"{label.label}{f' ({label.unit})' if label.unit else ''} of {cases} test case{'s' * (cases != 1)}{hint}"
        ),
        fontsize=10.5,
        color=INK,
    )
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=10.5, colors=INK)
    axes.tick_params(axis="x", labelsize=9.5, colors=MUTED)
    save_figure(figure, path)
