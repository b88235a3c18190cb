"""The figure of hospitals that lack modalities: what each hospital has, and what the federation gives."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from .display_names import get_metric, natural
from .drawing import INK, MUTED, PALETTE, RULE, literal, place_axes, place_text, rule_scale, save_figure
from .formats import as_number
from .gain_figures import UNIT_RANGE
from .page_figures import PageFigure
from .scores import block, key_metric, mean_and_std

__all__ = ["modality_figure"]

TITLE = "What each hospital has, what the federation gives"
WHOLE = "Federation"
MARKS = {
    "real_subset": ("o", "white", MUTED, "a hospital's own images"),
    "asyndgan": ("o", PALETTE[2], PALETTE[2], "synthetic images of all modalities"),
    "real_all_common": ("s", PALETTE[0], PALETTE[0], "all real images, modalities that every hospital has"),
    "real_all_filled": ("D", PALETTE[4], PALETTE[4], "all real images, black where a hospital lacks a modality"),
}
CELL, LINE, NAMES, HEAD, WIDTH = 0.62, 0.46, 1.25, 0.45, 5.2
"""Inches: a modality's column, a row, names of hospitals, heads of columns, the scale."""


def modality_figure(results: Mapping[str, Any], folder: str | os.PathLike[str]) -> list[PageFigure]:
    """
    Draw it into a folder, which is made; none where every hospital has all modalities or nothing is scored.

    Args:
        results: contents of results.json, with ``modalities``: ``all`` of the run, and those of each site ``by_site``.
        folder: of the run's figures.
    """
    metric, own = key_metric(results), block(block(results, "modalities"), "by_site")
    shown = [setting for setting in block(results, "settings") if setting.partition("/")[0] in MARKS]
    if metric is None or not own or not shown:
        return []
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "modalities.png"
    _draw(results, metric, path)
    label = get_metric(metric, results).label
    return [
        PageFigure(
            path,
            TITLE,
            f"{label} of a segmenter over the same held-out cases, by what it learned from. Small marks: single seeds.",
            "A row for each hospital and one for the federation: the modalities that it has as filled squares, and "
            "beside them the scores of segmenters.",
            "first",
            "both",
        )
    ]


def _draw(results: Mapping[str, Any], metric: str, path: Path) -> None:
    about = block(results, "modalities")
    names, sites = [str(name) for name in about["all"]], sorted(block(about, "by_site"), key=natural)
    rows = [*sites, WHOLE]
    left, tall = NAMES + len(names) * CELL + 0.35, len(rows) * LINE
    figure = Figure(figsize=(left + WIDTH + 0.3, HEAD + tall + 1.2))
    _squares(figure, names, [set(about["by_site"][site]) for site in sites] + [set(names)], rows)

    axes = place_axes(figure, left, HEAD, WIDTH, tall)
    kinds = []
    for place, row in enumerate(rows):
        there = [f"real_subset/{row}"] if place < len(sites) else [kind for kind in MARKS if kind != "real_subset"]
        for setting in reversed([one for one in there if one in results["settings"]]):
            kinds.append(setting.partition("/")[0])
            _mark(axes, results, (setting, metric), place)
    _furnish(axes, results, metric, len(rows))
    handles = [
        Line2D([], [], marker=m, color="none", markersize=8, markerfacecolor=face, markeredgecolor=edge, label=label)
        for kind, (m, face, edge, label) in MARKS.items()
        if kind in kinds
    ]
    style: dict[str, Any] = {"ncols": 2, "frameon": False, "fontsize": 9.5, "borderaxespad": 0, "handletextpad": 0.2}
    figure.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.02, 0.0), **style)
    save_figure(figure, path)


def _squares(figure: Figure, names: Sequence[str], own: Sequence[set[str]], rows: Sequence[str]) -> None:
    axes = place_axes(figure, NAMES, HEAD, len(names) * CELL, len(rows) * LINE)
    axes.set_xlim(0, len(names))
    axes.set_ylim(len(rows), 0)
    axes.set_axis_off()
    for column, name in enumerate(names):
        style: dict[str, Any] = {"fontsize": 9.5, "color": MUTED, "ha": "center", "va": "bottom"}
        place_text(figure, NAMES + (column + 0.5) * CELL, HEAD - 0.06, name[:9], **style)
    for place, (row, has) in enumerate(zip(rows, own, strict=True)):
        weight = "bold" if row == WHOLE and place == len(rows) - 1 else "normal"
        middle = HEAD + (place + 0.5) * LINE
        style = {"fontsize": 10.5, "ha": "right", "va": "center", "weight": weight}
        place_text(figure, NAMES - 0.1, middle, row if len(row) <= 14 else f"{row[:8]}…{row[-5:]}", **style)
        for column, name in enumerate(names):
            colour = PALETTE[2] if weight == "bold" else MUTED
            look: dict[str, Any] = {"edgecolor": colour if name in has else RULE, "linewidth": 1.2}
            face = colour if name in has else "white"
            axes.add_patch(Rectangle((column + 0.24, place + 0.18), 0.52, 0.64, facecolor=face, **look))


def _mark(axes: Axes, results: Mapping[str, Any], scored: tuple[str, str], place: int) -> None:
    marker, face, edge, _ = MARKS[scored[0].partition("/")[0]]
    of_seeds = results["settings"][scored[0]].get(scored[1], {}).get("per_seed") or []
    each = [value for value in map(as_number, of_seeds) if math.isfinite(value)]
    if len(each) > 1:
        axes.plot(each, [place] * len(each), marker, markersize=4, alpha=0.55, color="none", markeredgecolor=edge)
    mean = mean_and_std(results, *scored)[0]
    axes.plot(mean, place, marker, markersize=9, markerfacecolor=face, markeredgecolor=edge)


def _furnish(axes: Axes, results: Mapping[str, Any], name: str, rows: int) -> None:
    metric = get_metric(name, results)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.axhline(rows - 1.5, color=RULE, linewidth=1.0)
    if name in UNIT_RANGE:
        axes.set_xlim(0, 1)
    axes.set_yticks([])
    hint = f", {metric.better} is better" if metric.better else ""
    axes.set_xlabel(literal(f"{metric.label}{hint}"), fontsize=10, color=INK)
    rule_scale(axes)
