"""Outlines of a reference and of a segmentation on top of an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import Normal, Stroke

from .drawing import INK, PREDICTION_COLOUR, TRUTH_COLOUR, draw_image

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


def draw_outline(axes: Axes, mask: np.ndarray, colour: str, width: float) -> None:
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
    figure: Any = axes.figure
    points = mask.sum() / runs * axes.get_position().width * figure.get_figwidth() * 72 / mask.shape[1]
    scale = float(np.clip(points / 14, 0.55, 1.0))
    width *= scale
    x, y = np.arange(breadth) - 1, np.arange(height) - 1
    lines = axes.contour(x, y, padded, [0.5], colors=[colour], linewidths=width)
    if scale > 0.75:
        lines.set_path_effects([Stroke(linewidth=width + 0.7, foreground="black", alpha=0.55), Normal()])
    axes.set_xlim(-0.5, breadth - 2.5)
    axes.set_ylim(height - 2.5, -0.5)


def draw_segmentation(axes: Axes, picture: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> None:
    """Image, ``HxWx3`` in [0, 1], with the outlines of both masks, ``HxW``."""
    draw_image(axes, picture)
    # The reference is the wider line: where both agree it still shows on either side.
    draw_outline(axes, truth, TRUTH_COLOUR, REFERENCE_WIDTH)
    draw_outline(axes, prediction, PREDICTION_COLOUR, PREDICTION_WIDTH)


def outline_legend(figure: Figure) -> None:
    """What the two colours mean, below the panels."""
    handles = [
        Patch(facecolor=TRUTH_COLOUR, edgecolor=INK, linewidth=0.6, label="reference"),
        Patch(facecolor=PREDICTION_COLOUR, edgecolor=INK, linewidth=0.6, label="segmented"),
    ]
    figure.legend(handles=handles, loc="lower center", ncols=2, frameon=False, fontsize=10.5)


def check_masks(case: Mapping[str, Any], masks: Mapping[str, Any]) -> tuple[int, int]:
    """
    Returns:
        Height and width of the case's image.

    Raises:
        ValueError: a mask has another shape, naming the case and the mask.
    """
    size = np.shape(case["image"])[-2:]
    for name, mask in masks.items():
        if mask is not None and np.shape(mask) != size:
            raise ValueError(f"case '{case['case']}': {name} has shape {np.shape(mask)}, the image {size}")
    return size
