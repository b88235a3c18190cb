"""Figure: synthetic numbers against the real ones, a panel per setting in one row."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from .display_names import display_name
from .drawing import INK, MUTED, PALETTE, RULE, literal, save_figure

_ALPHA = 0.55


def histogram_row(
    panels: Mapping[str, Mapping[str, np.ndarray]],
    data: np.ndarray,
    path: str | os.PathLike[str],
    weights: np.ndarray | None = None,
    scores: Mapping[str, float] | None = None,
    score: str = "W1",
    bins: int = 90,
    outline: bool = True,
) -> None:
    """Densities of synthetic numbers, stacked in the colours of their components, under the outline of the data.

    Every panel has the same axes, so that heights compare: a generator of one site alone puts everything on one of the
    humps.

    Args:
        panels: by setting in the order of the panels, numbers by name of the component, (N,) each; at least one panel.
        data: numbers of the mixture, (M,); not none.
        path: PNG file to write.
        weights: of ``data``, (M,); None for equal ones.
        scores: by setting, a number for the panel's title; a setting that is not there has none.
        score: what the numbers are.
        bins: of all histograms.
        outline: whether the data are drawn; without, they only say how wide and how high the axes are.

    Raises:
        ValueError: no panels or no data.
    """
    if not panels or not len(data):
        raise ValueError("expected at least one panel and some data")
    everything = np.concatenate([data, *(values for parts in panels.values() for values in parts.values())])
    low, high = np.percentile(everything, [0.05, 99.95])
    edges = np.linspace(low, high, bins + 1)
    width = edges[1] - edges[0]
    share = np.full(len(data), 1 / len(data)) if weights is None else weights / weights.sum()
    real = np.histogram(data, edges, weights=share)[0] / width
    names = list(dict.fromkeys(name for parts in panels.values() for name in parts))
    figure = Figure(figsize=(0.4 + 2.45 * len(panels), 2.75), layout="constrained")
    row: Sequence = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    tallest = real.max()
    for axes, (setting, parts) in zip(row, panels.items(), strict=True):
        total = sum(len(values) for values in parts.values())
        below = np.zeros(bins)
        for number, name in enumerate(names):
            heights = np.histogram(parts.get(name, ()), edges)[0] / (max(total, 1) * width)
            colour = PALETTE[number % len(PALETTE)]
            axes.stairs(below + heights, edges, baseline=below, fill=True, color=colour, alpha=_ALPHA)
            below = below + heights
        if outline:
            axes.stairs(real, edges, color=INK, linewidth=1.1)
        tallest = max(tallest, below.max())
        axes.set_title(literal(display_name(setting)), fontsize=11, color=INK, loc="left", pad=17)
        known = (scores or {}).get(setting, math.nan)
        if known is not None and math.isfinite(known):
            axes.text(0, 1.03, f"{score} {known:.3f}", transform=axes.transAxes, fontsize=9.5, color=MUTED)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(labelsize=9, colors=MUTED)
        axes.tick_params(axis="y", left=False)
        axes.grid(axis="y", color=RULE, linewidth=0.5)
        axes.set_axisbelow(True)
    row[0].set_ylim(0, 1.04 * tallest)
    row[0].set_ylabel("density", fontsize=9.5, color=MUTED)
    handles: list = [Line2D([], [], color=INK, linewidth=1.1, label="held-out data")] if outline else []
    handles += [
        Patch(facecolor=PALETTE[n % len(PALETTE)], alpha=_ALPHA, label=literal(f"synthetic, {name}"))
        for n, name in enumerate(names)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4), frameon=False, fontsize=9.5)
    save_figure(figure, path)
