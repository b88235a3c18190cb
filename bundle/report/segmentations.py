"""Figures: segmentations of held-out cases beside their references."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import Normal, Stroke

from .drawing import (
    INK,
    MUTED,
    PREDICTION_COLOUR,
    TRUTH_COLOUR,
    draw_image,
    image_rgb,
    place_axes,
    place_text,
    placeholder,
    save_figure,
)
from .formats import as_number
from .names import display_name
from .scores import order_settings

REFERENCE_WIDTH = 2.2
PREDICTION_WIDTH = 1.1


def _separated(instances: np.ndarray) -> np.ndarray:
    """The objects of an instance map as a mask, with a line of background between those that touch."""
    mask = instances > 0
    for axis in (0, 1):
        here, there = (np.delete(instances, place, axis) for place in (-1, 0))
        touching = (here != there) & (here > 0) & (there > 0)
        mask[tuple(slice(0, n) for n in touching.shape)][touching] = False
    return mask


def _outline(axes: Axes, mask: np.ndarray, colour: str, width: float) -> None:
    """Contour of a mask, or of every object of an instance map, with a thin dark edge; around small objects, which that
    would fill, thin and plain."""
    mask = _separated(np.asarray(mask))
    if not mask.any():
        return
    # A frame of background closes the contours of what touches the edge of the image.
    padded = np.pad(mask, 1).astype(float)
    height, breadth = padded.shape
    # Mean breadth of what is outlined, in points of the printed panel.
    runs = np.abs(np.diff(padded, axis=1)).sum() / 2
    points = mask.sum() / runs * axes.get_position().width * axes.figure.get_figwidth() * 72 / mask.shape[1]
    scale = float(np.clip(points / 14, 0.55, 1.0))
    width *= scale
    x, y = np.arange(breadth) - 1, np.arange(height) - 1
    lines = axes.contour(x, y, padded, [0.5], colors=[colour], linewidths=width)
    if scale > 0.75:
        lines.set_path_effects([Stroke(linewidth=width + 0.7, foreground="black", alpha=0.55), Normal()])
    axes.set_xlim(-0.5, breadth - 2.5)
    axes.set_ylim(height - 2.5, -0.5)


def segmentation_panel(
    cases: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
    *,
    score_name: str = "Dice",
    panels_per_line: int = 6,
) -> None:
    """Segmentations of some cases: image, reference, then one panel per setting, a row for each case.

    Args:
        cases: mappings ``{"case": str, "image": HxW or 3xHxW in [-1, 1], "truth": HxW,
            "predictions": {setting: HxW}, "scores": {setting: float}}``. Masks are bool, or instance maps whose
            objects are outlined each. Settings are in the order of
            the table; one that a case lacks leaves an empty place, a missing score a dash.
        path: PNG file to write.
        score_name: what the scores are.
        panels_per_line: cases with more panels go over several lines, to stay legible.

    Raises:
        ValueError: an image or mask has the wrong shape.
    """
    if not cases:
        placeholder("no cases", path)
        return
    settings = order_settings({"settings": {s: {} for case in cases for s in case.get("predictions") or {}}})
    count = 2 + len(settings)
    lines = math.ceil(count / max(panels_per_line, 2))
    across = math.ceil(count / lines)
    sizes = []
    for case in cases:
        sizes.append(np.shape(case["image"])[-2:])
        for name, mask in {"reference": case["truth"], **(case.get("predictions") or {})}.items():
            if mask is not None and np.shape(mask) != sizes[-1]:
                raise ValueError(f"case '{case['case']}': {name} has shape {np.shape(mask)}, the image {sizes[-1]}")

    panel, gap, caption, title, block_gap, foot = 1.62, 0.07, 0.42, 0.27, 0.1, 0.32
    talls = [panel * height / width for height, width in sizes]
    figure = Figure(
        figsize=(
            across * panel + (across - 1) * gap,
            sum(lines * (tall + caption) + title for tall in talls) + (len(cases) - 1) * block_gap + foot,
        )
    )
    top = 0.0
    for case, tall in zip(cases, talls, strict=True):
        place_text(figure, 0.0, top + title - 0.08, f"Case {case['case']}", va="bottom", fontsize=11, weight="bold")
        top += title
        picture = image_rgb(case["image"])
        for number, name in enumerate(["image", "reference", *settings]):
            line, column = divmod(number, across)
            left, above = column * (panel + gap), top + line * (tall + caption)
            axes = place_axes(figure, left, above, panel, tall)
            first, second = name, ""
            if name in settings:
                mask = (case.get("predictions") or {}).get(name)
                score = as_number((case.get("scores") or {}).get(name))
                first = display_name(name)
                second = f"{score_name} " + ("–" if math.isnan(score) else f"{score:.2f}")
                draw_image(axes, None if mask is None else picture, "no result")
                if mask is not None:
                    # The reference is the wider line: where both agree it still shows on either side.
                    _outline(axes, case["truth"], TRUTH_COLOUR, REFERENCE_WIDTH)
                    _outline(axes, mask, PREDICTION_COLOUR, PREDICTION_WIDTH)
            else:
                draw_image(axes, picture)
                if name == "reference":
                    _outline(axes, case["truth"], TRUTH_COLOUR, REFERENCE_WIDTH)
            style = {"ha": "center", "va": "top", "fontsize": 9.5}
            place_text(
                figure, left + panel / 2, above + tall + 0.045, textwrap.shorten(first, 24, placeholder="…"), **style
            )
            place_text(figure, left + panel / 2, above + tall + 0.2, second, **{**style, "color": MUTED})
        top += lines * (tall + caption) + block_gap
    handles = [
        Patch(facecolor=TRUTH_COLOUR, edgecolor=INK, linewidth=0.6, label="reference"),
        Patch(facecolor=PREDICTION_COLOUR, edgecolor=INK, linewidth=0.6, label="segmented"),
    ]
    figure.legend(handles=handles, loc="lower center", ncols=2, frameon=False, fontsize=10.5)
    save_figure(figure, path)
