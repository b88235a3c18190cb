"""What all figures share: colours, how arrays become pictures, and PNG files of bounded size.

Drawn on ``Figure`` objects without pyplot, so that no global state is touched and no display is needed.
Every file appears whole or not at all.
"""

from __future__ import annotations

import io
import os
import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from bundle.files import atomic_path

INK = "#1b1f24"
MUTED = "#5c6670"
RULE = "#d5dae0"
# Okabe and Ito's palette, which stays apart under the common colour-vision deficiencies; its yellow is
# left to the end because it is weak on white.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#F0E442")
# On top of an image: a light blue and a yellow differ in lightness as well as in hue, and a dark edge
# keeps both visible on bright tissue.
TRUTH_COLOUR = "#56B4E9"
PREDICTION_COLOUR = "#FFD23F"
# For labels on the grey outline of a condition.
LABEL_COLOURS = ("#E69F00", "#56B4E9", "#CC79A7", "#009E73", "#F0E442", "#D55E00", "#0072B2")
OUTLINE_GREY = 0.42
MAX_BYTES = 600_000


def _to_palette(image: Image.Image) -> Image.Image:
    """256 colours: those that carry a meaning as they are, the rest chosen from the image."""
    fixed = dict.fromkeys((*PALETTE, *LABEL_COLOURS, TRUTH_COLOUR, PREDICTION_COLOUR, INK, MUTED, "#FFFFFF"))
    fixed_values = [[round(255 * part) for part in to_rgb(colour)] for colour in fixed]
    free = 256 - len(fixed)
    chosen = (image.quantize(free, method=Image.Quantize.MEDIANCUT).getpalette() or [])[: 3 * free]
    palette = Image.new("P", (1, 1))
    chosen += [0] * (3 * free - len(chosen))
    palette.putpalette(chosen + [part for value in fixed_values for part in value])
    indices = np.array(image.quantize(palette=palette, dither=Image.Dither.NONE))
    # Pillow takes a near colour for the nearest: white would come out as a light grey.
    packed = np.asarray(image).astype(np.uint32) @ np.array([65536, 256, 1], dtype=np.uint32)
    for number, (red, green, blue) in enumerate(fixed_values):
        indices[packed == (red << 16) + (green << 8) + blue] = free + number
    result = Image.fromarray(indices)
    result.putpalette(palette.getpalette() or [])
    return result


def save_figure(figure: Figure, path: str | os.PathLike[str], dpi: int = 150, crop: bool = True) -> None:
    """Render to PNG and write; shrinks what would be larger than `MAX_BYTES`: first its palette, then its pixels."""
    FigureCanvasAgg(figure)
    frame: dict[str, Any] = {"bbox_inches": "tight", "pad_inches": 0.08} if crop else {}
    for resolution in (dpi, round(dpi * 0.8), round(dpi * 0.65)):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=resolution, facecolor="white", **frame)
        buffer.seek(0)
        with Image.open(buffer) as opened:
            image = opened.convert("RGB")
        data = b""
        for convert in (Image.Image.copy, _to_palette):
            out = io.BytesIO()
            convert(image).save(out, format="PNG", optimize=True)
            data = out.getvalue()
            if len(data) <= MAX_BYTES:
                break
        if len(data) <= MAX_BYTES:
            break
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def image_rgb(image: np.ndarray) -> np.ndarray:
    """``HxW`` or ``CxHxW`` in [-1, 1] → ``HxWx3`` in [0, 1]: RGB of three channels, else the first in grey."""
    array = np.asarray(image, dtype=float)
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3:
        raise ValueError(f"an image has shape {np.shape(image)}, expected HxW or CxHxW")
    if array.shape[0] != 3:
        array = np.repeat(array[:1], 3, axis=0)
    array = np.nan_to_num(array, nan=-1.0, posinf=1.0, neginf=-1.0)
    return np.clip((np.moveaxis(array, 0, -1) + 1) / 2, 0, 1)


def condition_rgb(condition: np.ndarray, outline: bool) -> np.ndarray:
    """``CxHxW`` in {0, 1} → ``HxWx3`` in [0, 1]: channels in colours, an outline (the last) in grey below them."""
    array = np.asarray(condition, dtype=float)
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3:
        raise ValueError(f"a condition has shape {np.shape(condition)}, expected CxHxW")
    drawn = np.zeros((*array.shape[1:], 3))
    labels = array
    if outline:
        drawn[array[-1] > 0.5] = OUTLINE_GREY
        labels = array[:-1]
    for number, channel in enumerate(labels):
        drawn[channel > 0.5] = to_rgb(LABEL_COLOURS[number % len(LABEL_COLOURS)])
    return drawn


def place_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place in inches from the figure's left and top edge."""
    total_width, total_height = figure.get_size_inches()
    return figure.add_axes(
        (left / total_width, 1 - (top + height) / total_height, width / total_width, height / total_height)
    )


def place_text(figure: Figure, left: float, top: float, text: str, **style: Any) -> None:
    """Text at a place in inches from the figure's left and top edge."""
    total_width, total_height = figure.get_size_inches()
    figure.text(left / total_width, 1 - top / total_height, text, **{"color": INK, **style, "parse_math": False})


def rule_scale(axes: Axes) -> None:
    """A scale from left to right with names beside it: rules for its values, no frame."""
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=10.5, colors=INK)
    axes.tick_params(axis="x", labelsize=9.5, colors=MUTED)


def draw_image(axes: Axes, picture: np.ndarray | None, missing: str = "no image") -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(RULE)
        spine.set_linewidth(0.6)
    if picture is None:
        axes.set_facecolor("#f3f5f7")
        axes.text(0.5, 0.5, missing, transform=axes.transAxes, ha="center", va="center", color=MUTED, fontsize=10)
    else:
        axes.imshow(picture)


def placeholder(text: str, path: str | os.PathLike[str]) -> None:
    figure = Figure(figsize=(6, 1.2))
    figure.text(0.5, 0.5, text, ha="center", va="center", color=MUTED, fontsize=12)
    save_figure(figure, path, crop=False)


def wrap(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(text, width, max_lines=2, placeholder="…") or [""])


def literal(text: str) -> str:
    """``text`` with dollar signs escaped, which matplotlib would read as mathematics; labels cannot opt out."""
    return text.replace("$", r"\$")
