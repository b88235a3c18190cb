"""Figure: losses over steps, a line for every site."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .drawing import INK, MUTED, PALETTE, RULE, literal, placeholder, save_figure
from .scalars import Curve

# Terms of a loss whose tag is not how one writes them.
TERMS = {"l1": "L1", "paired": "L1 to a teacher"}


def _split_tag(tag: str) -> tuple[str, str]:
    """``"loss/CS/l1"`` → ``("l1", "CS")``; a tag without a site gets an empty one."""
    parts = tag.split("/")
    if len(parts) >= 3:
        return parts[-1], "/".join(parts[1:-1])
    return parts[-1], ""


def _smooth(values: np.ndarray) -> np.ndarray:
    """Centred running mean over about 1/25 of the points; at the ends over the points there are."""
    half = len(values) // 50
    if half < 1:
        return values
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


def _limits(curves: Sequence[Curve]) -> tuple[float, float]:
    """Range that shows every smoothed line and all but the rarest raw values."""
    low = min(min(np.percentile(values, 1), _smooth(values).min()) for _, values in curves)
    high = max(max(np.percentile(values, 99), _smooth(values).max()) for _, values in curves)
    pad = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - pad, high + pad


def loss_curves(curves: Mapping[str, Mapping[str, Curve]], path: str | os.PathLike[str]) -> None:
    """Losses over steps: one line of panels per title, one panel per term, one line per site.

    Args:
        curves: ``{title: {tag: (steps, values)}}``, tags such as ``"loss/CS/l1"`` (``loss/SITE/TERM``). Of
            a title that has such tags, tags of another beginning (a learning rate) are left out. Values
            that are not finite are skipped. The raw values are drawn faintly behind their running mean.
        path: PNG file to write.
    """
    panels: dict[str, dict[str, dict[str, Curve]]] = {}
    for title, tags in curves.items():
        wanted = [tag for tag in tags if tag.startswith("loss/")] or list(tags)
        for tag in wanted:
            steps, values = np.asarray(tags[tag][0]), np.asarray(tags[tag][1], dtype=float)
            finite = np.isfinite(values)
            if finite.any():
                term, site = _split_tag(tag)
                panels.setdefault(title, {}).setdefault(term, {})[site] = (steps[finite], values[finite])
    if not panels:
        placeholder("no losses recorded", path)
        return
    terms = list(dict.fromkeys(term for title in panels.values() for term in title))
    sites = sorted({site for title in panels.values() for term in title.values() for site in term})
    named = [site for site in sites if site]
    styles = {site: (PALETTE[number % 7], ("-", "--", ":", "-.")[number // 7 % 4]) for number, site in enumerate(named)}
    styles[""] = (MUTED, "-")

    limits = {term: _limits([c for t in panels.values() for c in t.get(term, {}).values()]) for term in terms}
    wide, tall = 3.3, 2.45
    legend_lines = math.ceil(len(named) / 6)
    figure = Figure(figsize=(wide * max(len(terms), 2), tall * len(panels) + 0.3 * legend_lines), layout="constrained")
    grid = figure.subplots(len(panels), len(terms), squeeze=False)
    for row, (title, by_term) in enumerate(panels.items()):
        for column, term in enumerate(terms):
            axes = grid[row][column]
            for site, (steps, values) in sorted(by_term.get(term, {}).items()):
                colour, line = styles[site]
                smooth = _smooth(values)
                if smooth is not values:
                    axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.22, zorder=1)
                marker = "o" if len(values) == 1 else None
                axes.plot(steps, smooth, color=colour, linestyle=line, marker=marker, linewidth=1.6, zorder=2)
            # Same scale for a term in every line of panels: they are there to be compared.
            axes.set_ylim(*limits[term])
            axes.set_title(f"{title} · {TERMS.get(term, term)}", fontsize=11, color=INK, loc="left", parse_math=False)
            axes.grid(color=RULE, linewidth=0.6)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=9.5, colors=MUTED)
            axes.xaxis.get_major_locator().set_params(nbins=5, integer=True)
            if not by_term.get(term):
                axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", color=MUTED, fontsize=10)
            if row == len(panels) - 1:
                axes.set_xlabel("step", fontsize=10, color=MUTED)
    if named:
        handles = [
            Line2D([], [], color=styles[s][0], linestyle=styles[s][1], linewidth=2, label=literal(s)) for s in named
        ]
        columns = min(len(named), 6)
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=10.5)
    save_figure(figure, path)
