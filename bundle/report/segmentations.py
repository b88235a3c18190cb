"""Figure: some held-out cases, each as every setting segments it."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from .contours import REFERENCE_WIDTH, check_masks, draw_outline, draw_segmentation, outline_legend
from .display_names import display_name
from .drawing import MUTED, TRUTH_COLOUR, draw_image, image_rgb, place_axes, place_text, placeholder, save_figure
from .formats import as_number
from .scores import order_settings


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
    sizes = [check_masks(c, {"reference": c["truth"], **(c.get("predictions") or {})}) for c in cases]
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
                if mask is None:
                    draw_image(axes, None, "no result")
                else:
                    draw_segmentation(axes, picture, case["truth"], mask)
            else:
                draw_image(axes, picture)
                if name == "reference":
                    draw_outline(axes, case["truth"], TRUTH_COLOUR, REFERENCE_WIDTH)
            style = {"ha": "center", "va": "top", "fontsize": 9.5}
            place_text(
                figure, left + panel / 2, above + tall + 0.045, textwrap.shorten(first, 24, placeholder="…"), **style
            )
            place_text(figure, left + panel / 2, above + tall + 0.2, second, **{**style, "color": MUTED})
        top += lines * (tall + caption) + block_gap
    outline_legend(figure)
    save_figure(figure, path)
