"""Figure: synthetic images beside the real ones that are nearest to them: does a generator copy?"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from .drawing import MUTED, draw_image, image_rgb, place_axes, place_text, placeholder, save_figure
from .formats import DASH

# kind of an example -> headings over its pictures, in the order of the panel
HEADINGS = {
    "any patient": ("synthetic", "nearest training image", "nearest to that one\nof another patient"),
    "other patients": (
        "synthetic",
        "nearest training image\nof another patient",
        "nearest to that one\nof another patient",
    ),
}
SIDES = ("synthetic", "nearest", "other")


def neighbour_panel(examples: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """Synthetic images, the nearest training images, and the real ones nearest to these, with the two distances.

    Args:
        examples: mappings ``{"kind": str, "distance": float, "between": float | None, "synthetic": side, "nearest":
            side, "other": side | None}``: the distance from the synthetic to the nearest image, that between the two
            real ones. A side is ``{"case": str, "image": HxW or CxHxW in [-1, 1]}`` and may say its ``"slice"`` or, of
            a tile, its ``"place"`` (row and column). Images of three channels are RGB. Kinds are those of `HEADINGS`,
            each a block of columns.
        path: PNG file to write.

    Raises:
        ValueError: an unknown kind, or an image of the wrong shape.
    """
    if unknown := [example["kind"] for example in examples if example["kind"] not in HEADINGS]:
        raise ValueError(f"an example has the kind '{unknown[0]}', expected one of {', '.join(HEADINGS)}")
    if not examples:
        placeholder("no nearest neighbours", path)
        return
    blocks = {kind: [example for example in examples if example["kind"] == kind] for kind in HEADINGS}
    blocks = {kind: found for kind, found in blocks.items() if found}
    rows = max(len(found) for found in blocks.values())
    panel, gap, block_gap, head, caption = 1.42, 0.05, 0.36, 0.42, 0.5
    breadth = 3 * panel + 2 * gap
    figure = Figure(figsize=(len(blocks) * (breadth + block_gap) - block_gap, head + rows * (panel + caption)))
    for column, (kind, found) in enumerate(blocks.items()):
        start = column * (breadth + block_gap)
        lefts = [start + number * (panel + gap) for number in range(3)]
        for left, heading in zip(lefts, HEADINGS[kind], strict=True):
            style = {"ha": "center", "va": "bottom", "fontsize": 8.5, "linespacing": 1.1}
            place_text(figure, left + panel / 2, head - 0.06, heading, **style)
        for row, example in enumerate(found):
            top = head + row * (panel + caption)
            for left, key in zip(lefts, SIDES, strict=True):
                side = example[key]
                draw_image(place_axes(figure, left, top, panel, panel), image_rgb(side["image"]) if side else None)
                if side:
                    style = {"ha": "center", "va": "top", "fontsize": 6, "color": MUTED}
                    place_text(figure, left + panel / 2, top + panel + 0.19, _name(side), **style)
            for left, value in zip(lefts[1:], (example["distance"], example["between"]), strict=True):
                text = f"← {DASH if value is None else format(value, '.2f')} →"
                place_text(figure, left - gap / 2, top + panel + 0.03, text, ha="center", va="top", fontsize=9)
    save_figure(figure, path)


def _name(side: Mapping[str, Any]) -> str:
    """Case and what of it, in two lines."""
    where = ""
    if "slice" in side:
        where = f"slice {side['slice']}"
    elif "place" in side:
        where = "from ({}, {})".format(*side["place"])
    return "\n".join(filter(None, [textwrap.shorten(str(side["case"]), 26, placeholder="…"), where]))
