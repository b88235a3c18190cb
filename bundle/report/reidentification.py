"""Figure: what released conditions reveal about whose they are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .drawing import INK, MUTED, PALETTE, RULE, condition_rgb, draw_image, place_axes, place_text, save_figure

_COLUMNS = ("known from elsewhere", "released: real", "released: deformed")


def reidentification_figure(
    results: Mapping[str, Any],
    examples: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    path: str | os.PathLike[str],
    outline: bool = True,
    y_up: bool = True,
) -> None:
    """Bars of both questions for every kind of release and attack, with intervals and chance, and example masks.

    Args:
        results: of :func:`bundle.audit.condition_audit.audit_conditions`.
        examples: known, real and deformed conditions of some patients, X×H×W uint8 each.
        path: PNG file to write.
        outline: whether the last channel of a condition is an outline.
        y_up: whether the second axis of an image runs upwards.
    """
    kinds = list(results["releases"])
    attacks = list(results["releases"][kinds[0]])
    side, gap, left, top, bars = 1.3, 0.08, 0.75, 0.45, 3.2
    right = 6.6
    height = max(top + len(examples) * (side + gap) + 0.1, 2 * bars + 0.4)
    figure = Figure(figsize=(right + len(_COLUMNS) * (side + gap) + 0.2, height))
    panels = {
        "Is the patient in the release? AUC": lambda entry: _bar(entry["membership"], "auc", "interval", 0.5),
        "Are the nearest conditions the patient's? Share of known masks": lambda entry: _bar(
            entry["identification"]["masks"], "rate", "interval", entry["identification"]["masks"]["chance"]
        ),
    }
    for number, (title, values) in enumerate(panels.items()):
        axes = place_axes(figure, left, 0.5 + number * bars, right - left - 0.55, bars - 0.85)
        for place, attack in enumerate(attacks):
            colour, x = PALETTE[place], np.arange(len(kinds)) + (place - (len(attacks) - 1) / 2) * 0.36
            found = [values(results["releases"][kind][attack]) for kind in kinds]
            heights = [entry["value"] for entry in found]
            axes.bar(x, heights, 0.32, color=colour, label=f"masks {attack}")
            for at, entry in zip(x, found, strict=True):
                low, high = entry["ends"] or (entry["value"], entry["value"])
                axes.plot([at, at], [low, high], color=INK, linewidth=1.2)
                axes.plot([at - 0.16, at + 0.16], [entry["chance"]] * 2, color=INK, linestyle=":", linewidth=1.5)
                axes.text(at, 1.03, f"{entry['value']:.2f}", ha="center", va="bottom", fontsize=9, color=INK)
        _furnish(axes, kinds, title)
        if number == 0:
            axes.legend(loc="lower left", fontsize=8.5, frameon=True, framealpha=0.9, edgecolor=RULE)
    dice = results["dice"]
    place_text(
        figure,
        left,
        2 * bars + 0.12,
        f"Lines: 95 % intervals over patients. Dots: chance. Dice with the real masks: known "
        f"{dice['known masks']:.2f}, deformed {dice['deformed conditions']:.2f}.",
        fontsize=8.5,
        color=MUTED,
    )
    for row, masks in enumerate(examples):
        for column, mask in enumerate(masks):
            across, down = right + column * (side + gap), top + row * (side + gap)
            draw_image(place_axes(figure, across, down, side, side), _picture(mask, outline, y_up))
            if row == 0:
                middle = across + side / 2
                place_text(figure, middle, top - 0.08, _COLUMNS[column], fontsize=8.5, ha="center", va="bottom")
    save_figure(figure, path)


def _bar(entry: Mapping[str, Any], value: str, ends: str, chance: float) -> dict[str, Any]:
    return {"value": entry[value], "ends": entry[ends], "chance": chance}


def _picture(condition: np.ndarray, outline: bool, y_up: bool) -> np.ndarray:
    drawn = condition_rgb(condition, outline)
    # arrays have their first axis to the right
    turned = np.swapaxes(drawn, 0, 1)
    return turned[::-1] if y_up else turned


def _furnish(axes: Axes, kinds: Sequence[str], title: str) -> None:
    axes.set_title(title, fontsize=10.5, loc="left", color=INK, pad=18)
    axes.set_xticks(range(len(kinds)), kinds)
    axes.set_ylim(0, 1.0)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9.5, colors=INK)
