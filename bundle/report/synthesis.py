"""Figure: conditions, what the generator makes of them, and the real images, site by site."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .drawing import (
    LABEL_COLOURS,
    OUTLINE_GREY,
    condition_rgb,
    draw_image,
    image_rgb,
    literal,
    place_axes,
    place_text,
    placeholder,
    save_figure,
    wrap,
)


def synthesis_grid(
    rows: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
    *,
    labels: Sequence[str] | None = None,
    outline: bool = False,
    real: bool = True,
) -> None:
    """For every site, *condition · synthetic · real* of some samples.

    Args:
        rows: one mapping per site: ``{"site": str, "samples": [{"condition": CxHxW in {0, 1},
            "synthetic": CxHxW in [-1, 1], "real": CxHxW in [-1, 1]}, ...]}``. Images of three channels are
            RGB, of any other number the first channel is shown in grey. An image that is missing or None leaves an
            empty place.
        path: PNG file to write.
        labels: what the channels of the condition mean, for a legend; None: no legend.
        outline: whether the last channel of a condition is an outline that contains the others, drawn in grey.
        real: whether the real images are drawn; without them nothing of ``rows`` that is real is looked at.

    Raises:
        ValueError: an array has the wrong number of dimensions.
    """
    rows = [row for row in rows if row.get("samples")]
    if not rows:
        placeholder("no samples", path)
        return
    most = max(len(row["samples"]) for row in rows)
    across = 3 if most % 3 == 0 else min(most, 2)
    lines = [math.ceil(len(row["samples"]) / across) for row in rows]
    parts = ("condition", "synthetic", "real") if real else ("condition", "synthetic")
    first = next((s[p] for row in rows for s in row["samples"] for p in parts if s.get(p) is not None), None)
    height, width = np.shape(first)[-2:] if first is not None else (1, 1)

    panel, gap, sample_gap, block_gap = 1.3, 0.05, 0.2, 0.16
    tall = panel * height / width
    margin, head = 0.36, 0.34
    foot = 0.1 + 0.24 * math.ceil(len(labels) / 4) if labels else 0.0
    breadth = len(parts) * (panel + gap) - gap
    figure = Figure(
        figsize=(
            margin + across * breadth + (across - 1) * sample_gap,
            head + sum(lines) * (tall + gap) + (len(rows) - 1) * block_gap + foot,
        )
    )
    for column in range(across):
        for part, heading in enumerate(parts):
            centre = margin + column * (breadth + sample_gap) + part * (panel + gap) + panel / 2
            bold = "bold" if heading == "synthetic" else "normal"
            place_text(figure, centre, head - 0.1, heading, ha="center", va="bottom", fontsize=11, weight=bold)
    top = head
    for row, count in zip(rows, lines, strict=True):
        block = count * (tall + gap)
        name = wrap(str(row["site"]), max(8, int(block * 9)))
        style = {"ha": "center", "va": "center", "fontsize": 11, "weight": "bold", "rotation": 90}
        place_text(figure, margin / 2 - 0.02, top + (block - gap) / 2, name, **style)
        for number in range(count * across):
            sample = row["samples"][number] if number < len(row["samples"]) else None
            if sample is None:
                continue
            line, column = divmod(number, across)
            for part, key in enumerate(parts):
                left = margin + column * (breadth + sample_gap) + part * (panel + gap)
                array = sample.get(key)
                axes = place_axes(figure, left, top + line * (tall + gap), panel, tall)
                if array is None:
                    draw_image(axes, None)
                else:
                    draw_image(axes, condition_rgb(array, outline) if key == "condition" else image_rgb(array))
        top += block + block_gap
    if labels:
        colours = [LABEL_COLOURS[number % len(LABEL_COLOURS)] for number in range(len(labels))]
        if outline:
            colours[-1] = str(OUTLINE_GREY)
        patches = [Patch(facecolor=c, label=literal(str(t))) for c, t in zip(colours, labels, strict=True)]
        figure.legend(handles=patches, loc="lower center", ncols=min(len(labels), 4), frameon=False, fontsize=10)
    save_figure(figure, path)
