"""Figures of what a hospital gains: from own images to own and synthetic ones, and who trained by whose patients."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from .display_names import get_metric
from .drawing import INK, MUTED, PALETTE, RULE, literal, place_axes, place_text, placeholder, rule_scale, save_figure
from .formats import DASH, count, format_interval
from .gain import OWN, PLUS, Gains, hospitals, patient_count, scored_at, side
from .page_figures import PageFigure

__all__ = ["dumbbells", "gain_figures", "score_matrix", "trained_and_scored"]

UNIT_RANGE = ("dice", "aji", "pq", "sensitivity")
"""Metrics that are drawn from 0 to 1: small differences should not look large."""
MARKS = {
    OWN: ("o", "white", MUTED, "own images"),
    PLUS: ("o", PALETTE[2], PALETTE[2], "own + synthetic"),
    "fedavg": ("D", PALETTE[4], PALETTE[4], "FedAvg"),
    "real_all": ("s", PALETTE[0], PALETTE[0], "Real-All"),
}
BAND: dict[str, Any] = {"color": PALETTE[2], "linewidth": 6.5, "alpha": 0.32, "solid_capstyle": "butt"}
REFERENCES = {"asyndgan": "AsynDGAN", "fedavg": "FedAvg", "real_all": "Real-All"}
CELL, LINE, NAMES, HEAD, GAP = 0.86, 0.36, 1.2, 0.86, 0.3
"""Inches of a heat map: a cell's width and height, names of rows, heads of columns, between two maps."""
LEAST = 4.0
"""Inches that the words above a map take."""
SIDE_BY_SIDE = 5
"""Columns of a heat map, at most, of which two stand side by side."""


def gain_figures(gains: Gains, folder: str | os.PathLike[str]) -> list[PageFigure]:
    """Draw both into a folder, which is made; none where no hospital has images of its own. They show no case."""
    if not gains.lines:
        return []
    label = get_metric(gains.metric, gains.results).label
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    dumbbells(gains, folder / "gain.png")
    trained_and_scored(gains, folder / "gain_by_hospital.png")
    return [
        PageFigure(
            folder / "gain.png",
            "From own images to own and synthetic ones",
            f"{label} over all held-out patients, a line for each hospital; FedAvg and Real-All, where they are there, "
            "are the same for all.",
            "A line for each hospital from the score of its own images to that of own and synthetic images together, "
            "with marks for FedAvg and Real-All.",
            "gain",
            "both",
        ),
        PageFigure(
            folder / "gain_by_hospital.png",
            "Trained at, scored at",
            f"{label} of the held-out patients of each hospital, by what was trained where. Framed: a hospital's own "
            "patients.",
            "Two tables in colours, own images and own + synthetic: a row for each hospital that trained, a column for "
            "each whose patients were scored.",
            "gain",
            "both",
        ),
    ]


def dumbbells(gains: Gains, path: str | os.PathLike[str]) -> None:
    """
    A line for each hospital and for their mean, from own images to own and synthetic ones, with marks for FedAvg and
    Real-All; to the right the difference.

    Args:
        gains: what to draw.
        path: PNG file to write.
    """
    metric, lines = get_metric(gains.metric, gains.results), gains.lines
    if not lines:
        placeholder("no hospital has been scored", path)
        return
    shown = [kind for kind in MARKS if any(line.sides[kind].known for line in lines)]
    tall = 0.46 * len(lines)
    figure = Figure(figsize=(9.6, tall + 1.25))
    axes = place_axes(figure, 1.35, 0.35, 5.9, tall)
    for place, line in enumerate(lines):
        own, plus = line.sides[OWN].mean, line.sides[PLUS].mean
        axes.plot([own, plus], [place, place], color=MUTED, linewidth=1.6)
        if line.found and line.interval:
            ends = [plus - line.difference + end for end in line.interval]
            axes.plot(ends, [place, place], **BAND)
        for kind in reversed(shown):
            marker, face, edge, _ = MARKS[kind]
            size = 8.5 if kind in (OWN, PLUS) else 6.5
            axes.plot(line.sides[kind].mean, place, marker, markersize=size, markerfacecolor=face, markeredgecolor=edge)
        text = format_interval(line.difference, line.interval, f"+{metric.spec}") if line.found else DASH
        style: dict[str, Any] = {
            "fontsize": 10,
            "color": INK,
            "weight": "normal" if line.site else "bold",
            "va": "center",
        }
        axes.text(1.02, place, text, transform=axes.get_yaxis_transform(), **style)
    names = [_name(line.site, 16) if line.site else "Mean" for line in lines]
    axes.set_yticks(range(len(lines)), names)
    for tick, line in zip(axes.get_yticklabels(), lines, strict=True):
        tick.set_fontweight("normal" if line.site else "bold")
    if not lines[-1].site:
        axes.axhline(len(lines) - 1.5, color=RULE, linewidth=1.0)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    if gains.metric in UNIT_RANGE:
        axes.set_xlim(0, 1)
    elif axes.get_xlim()[0] > 0:
        axes.set_xlim(left=0)
    hint = f", {metric.better} is better" if metric.better else ""
    axes.set_xlabel(
        literal(f"{metric.label}{f' ({metric.unit})' if metric.unit else ''}{hint}"), fontsize=10, color=INK
    )
    place_text(figure, 1.35 + 5.9 * 1.02, 0.28, "difference (95 % interval)", fontsize=9, color=MUTED, va="bottom")
    rule_scale(axes)
    handles = [
        Line2D([], [], marker=m, color="none", markerfacecolor=face, markeredgecolor=edge, label=label)
        for m, face, edge, label in (MARKS[kind] for kind in shown)
    ]
    if any(line.found and line.interval for line in lines):
        handles.append(Line2D([], [], **BAND, label="interval of the difference"))
    style = {"ncols": len(handles), "frameon": False, "fontsize": 9.5, "borderaxespad": 0}
    figure.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.02, 0.0), columnspacing=1.5, **style)
    save_figure(figure, path)


def score_matrix(gains: Gains, kind: str, references: Sequence[str] = ()) -> tuple[np.ndarray, list[str], list[str]]:
    """
    Scores by where was trained and whose patients are scored.

    Args:
        gains: what is read.
        kind: of the settings that are trained at a hospital.
        references: settings without a hospital, whose rows stand below.

    Returns:
        Means over cases and seeds, float64 of shape ``(rows, columns)``, NaN where there is none; names of the rows,
        settings as they are in results.json; names of the hospitals whose held-out patients the columns are, ``""`` for
        patients of no hospital of the training.
    """
    columns = scored_at(gains.results)
    settings = [f"{kind}/{site}" for site in hospitals(gains.results)] + list(references)
    settings = [
        s for s in settings if s.partition("/")[0] in gains.results["settings"] or s in gains.results["settings"]
    ]
    means = [[side(gains.results, s, gains.metric, set(cases)).mean for cases in columns.values()] for s in settings]
    return np.array(means, dtype=float).reshape(len(settings), len(columns)), settings, list(columns)


def trained_and_scored(gains: Gains, path: str | os.PathLike[str]) -> None:
    """
    Two heat maps, own images and own + synthetic: trained at, by scored at, on one scale; below the first AsynDGAN,
    FedAvg and Real-All.

    Args:
        gains: what to draw.
        path: PNG file to write.
    """
    metric = get_metric(gains.metric, gains.results)
    maps = [
        ("Own images", *score_matrix(gains, OWN, tuple(REFERENCES))),
        ("Own + synthetic", *score_matrix(gains, PLUS)),
    ]
    maps = [one for one in maps if one[1].size and np.isfinite(one[1]).any()]
    if not maps:
        placeholder("nobody's held-out patients are known", path)
        return
    known = np.concatenate([values[np.isfinite(values)] for _, values, _, _ in maps])
    ends = (float(known.min()), float(known.max()))
    columns = len(maps[0][3])
    beside = columns <= SIDE_BY_SIDE
    wide, talls = max(NAMES + columns * CELL, LEAST), [HEAD + len(rows) * LINE + GAP for _, _, rows, _ in maps]
    figure = Figure(figsize=((wide + GAP) * len(maps), max(talls)) if beside else (wide, sum(talls)))
    for number, (title, values, rows, heads) in enumerate(maps):
        left, top = (number * (wide + GAP), 0.0) if beside else (0.0, sum(talls[:number]))
        place_text(figure, left, top + 0.02, title, fontsize=11, weight="bold", va="top")
        place_text(figure, left, top + HEAD - 0.1, "trained at ↓", fontsize=8.5, color=MUTED, va="bottom")
        _heads(figure, gains, left + NAMES, top, heads)
        own = sum("/" in row for row in rows)
        _cells(figure, (left, top + HEAD), values, (rows, heads), (own, ends, metric.better == "lower", metric.format))
    save_figure(figure, path)


def _heads(figure: Figure, gains: Gains, left: float, top: float, sites: Sequence[str]) -> None:
    cases = scored_at(gains.results)
    place_text(figure, left, top + 0.3, "scored on the held-out patients of →", fontsize=8.5, color=MUTED, va="center")
    for number, site in enumerate(sites):
        middle = left + (number + 0.5) * CELL
        patients = count(patient_count(gains.results, cases[site]), "patient")
        style = {"ha": "center", "va": "bottom"}
        place_text(figure, middle, top + HEAD - 0.21, _name(site or "elsewhere", 10), fontsize=9.5, **style)
        place_text(figure, middle, top + HEAD - 0.05, patients, fontsize=8, **(style | {"color": MUTED}))


def _cells(
    figure: Figure,
    corner: tuple[float, float],
    values: np.ndarray,
    names: tuple[Sequence[str], Sequence[str]],
    scale: tuple,
) -> None:
    own, (low, high), turned, write = scale
    (left, top), (rows, heads) = corner, names
    colours = matplotlib.colormaps["YlGnBu_r" if turned else "YlGnBu"]
    # a gap between hospitals and what has no hospital
    gap = 0.1 if 0 < own < len(rows) else 0.0
    total = len(rows) * LINE + gap
    axes = place_axes(figure, left + NAMES, top, len(heads) * CELL, total)
    axes.set_xlim(0, len(heads) * CELL)
    axes.set_ylim(total, 0)
    axes.set_axis_off()
    for row, setting in enumerate(rows):
        above = row * LINE + (gap if row >= own else 0.0)
        kind, _, site = setting.partition("/")
        name = _name(site, 14) if site else REFERENCES[kind]
        place_text(figure, left + NAMES - 0.1, top + above + LINE / 2, name, fontsize=10, ha="right", va="center")
        for column, head in enumerate(heads):
            value = values[row, column]
            share = 0.5 if high == low else (value - low) / (high - low)
            face = (0.95, 0.96, 0.97, 1.0) if math.isnan(value) else colours(0.08 + 0.8 * share)
            box = (column * CELL, above)
            axes.add_patch(Rectangle(box, CELL, LINE, facecolor=face, edgecolor="white", linewidth=1.5))
            light = np.dot(face[:3], (0.299, 0.587, 0.114)) > 0.55
            middle = ((column + 0.5) * CELL, above + LINE / 2)
            axes.text(*middle, write(value), ha="center", va="center", fontsize=10, color=INK if light else "white")
            if site and site == head:
                inner = (box[0] + 0.025, box[1] + 0.025)
                axes.add_patch(Rectangle(inner, CELL - 0.05, LINE - 0.05, fill=False, edgecolor=INK, linewidth=1.6))


def _name(text: str, width: int) -> str:
    """Cut in its middle: hospitals' names may begin or end alike."""
    end = (width - 1) // 2
    return literal(text if len(text) <= width else f"{text[: width - 1 - end]}…{text[-end:]}")
