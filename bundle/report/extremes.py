"""Figure: the worst, the typical and the best segmentation of every setting."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from .contours import check_masks, draw_segmentation, outline_legend
from .display_names import display_name
from .drawing import MUTED, draw_image, image_rgb, place_axes, place_text, placeholder, save_figure
from .formats import DASH, as_number

COLUMNS = ("worst", "median", "best")


def extremes_grid(rows: Sequence[Mapping[str, Any]], path: str | os.PathLike[str], *, score_name: str = "Dice") -> None:
    """A row per setting with its worst, its median and its best case: image, reference and segmentation in one.

    Args:
        rows: mappings ``{"setting": str, "worst": case, "median": case, "best": case}`` in order; a case is
            ``{"case": str, "image": HxW or 3xHxW in [-1, 1], "truth": HxW, "prediction": HxW, "score": float}`` with
            masks as for `segmentation_panel`. A case that is missing or None leaves an empty place.
        path: PNG file to write.
        score_name: what the scores are.

    Raises:
        ValueError: an image or mask has the wrong shape.
    """
    rows = [row for row in rows if any(row.get(column) for column in COLUMNS)]
    if not rows:
        placeholder("no cases", path)
        return
    panel, gap, head, title, caption, foot = 1.8, 0.09, 0.3, 0.3, 0.44, 0.34
    talls = []
    for row in rows:
        cases = [row[column] for column in COLUMNS if row.get(column)]
        sizes = [check_masks(c, {"reference": c["truth"], "segmentation": c.get("prediction")}) for c in cases]
        talls.append(max(panel * height / width for height, width in sizes))
    figure = Figure(
        figsize=(
            len(COLUMNS) * panel + (len(COLUMNS) - 1) * gap,
            head + sum(talls) + len(rows) * (title + caption) + foot,
        )
    )
    for number, column in enumerate(COLUMNS):
        centre = number * (panel + gap) + panel / 2
        place_text(figure, centre, head - 0.08, f"{column} case", ha="center", va="bottom", fontsize=11, color=MUTED)
    top = head
    for row, tall in zip(rows, talls, strict=True):
        name = display_name(str(row["setting"]))
        place_text(figure, 0.0, top + title - 0.07, name, va="bottom", fontsize=11, weight="bold")
        top += title
        for number, column in enumerate(COLUMNS):
            case = row.get(column)
            if not case:
                continue
            left = number * (panel + gap)
            height, width = case["truth"].shape
            axes = place_axes(figure, left, top, panel, panel * height / width)
            if case.get("prediction") is None:
                draw_image(axes, None, "no result")
            else:
                draw_segmentation(axes, image_rgb(case["image"]), case["truth"], case["prediction"])
            score = as_number(case.get("score"))
            style = {"ha": "center", "va": "top", "fontsize": 9.5}
            score_text = f"{score_name} " + (DASH if math.isnan(score) else f"{score:.2f}")
            place_text(figure, left + panel / 2, top + tall + 0.045, score_text, **style)
            short = textwrap.shorten(str(case["case"]), 30, placeholder="…")
            place_text(figure, left + panel / 2, top + tall + 0.2, short, **{**style, "color": MUTED})
        top += tall + caption
    outline_legend(figure)
    save_figure(figure, path)
