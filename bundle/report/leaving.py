"""Figure: what would leave a site, beside what stays."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from .drawing import MUTED, condition_rgb, draw_image, image_rgb, place_axes, place_text, save_figure

__all__ = ["draw_leaving"]

COLUMNS = {
    "condition": "leaves: condition",
    "teacher": "leaves: teacher's image",
    "real": "stays: real image",
}
SIDE, GAP, HEAD = 1.7, 0.1, 0.4


def draw_leaving(rows: Sequence[Mapping[str, np.ndarray]], num_classes: int, path: str | os.PathLike[str]) -> None:
    """
    Args:
        rows: of samples: ``condition`` X×H×W of 0 and 1, ``teacher`` and ``real`` C×H×W in [-1, 1]; what does not leave
            under the policy is not among them.
        num_classes: channels of the condition that are classes; an outline may follow.
        path: PNG file to write.
    """
    names = [name for name in COLUMNS if any(name in row for row in rows)]
    size = (len(names) * (SIDE + GAP) + GAP, HEAD + len(rows) * (SIDE + GAP))
    figure = Figure(figsize=size)
    for column, name in enumerate(names):
        left = GAP + column * (SIDE + GAP)
        place_text(figure, left, 0.25, COLUMNS[name], fontsize=8, color=MUTED)
        for number, row in enumerate(rows):
            axes = place_axes(figure, left, HEAD + number * (SIDE + GAP), SIDE, SIDE)
            draw_image(axes, _picture(name, row[name], num_classes) if name in row else None, "")
    save_figure(figure, path, crop=False)


def _picture(name: str, array: np.ndarray, num_classes: int) -> np.ndarray:
    return condition_rgb(array, len(array) > num_classes) if name == "condition" else image_rgb(array)
