"""Figures: real images, and what an attacker makes of what a site returns."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .drawing import INK, MUTED, PALETTE, draw_image, image_rgb, literal, place_axes, place_text, save_figure

__all__ = ["readout_curves", "readout_panel"]

LINES: Sequence[Any] = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))


def readout_panel(
    columns: Mapping[str, Mapping[str, Any]],
    path: str | os.PathLike[str],
    y_up: bool = False,
    size: float = 1.42,
    title: str = "",
) -> None:
    """
    A row for each target, with the PSNR below each picture.

    Args:
        columns: by heading ``{"images": N×C×H×W in [-1, 1], "psnr": N numbers in dB, or None}``, in the order drawn.
            Array axes are x and y: x runs to the right.
        path: PNG file to write.
        y_up: whether y runs upwards.
        size: of a picture, in inches.
        title: above all.

    Raises:
        ValueError: columns of different length.
    """
    lengths = {heading: len(column["images"]) for heading, column in columns.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"expected as many images in every column, got {lengths}")
    rows = next(iter(lengths.values()))
    gap, head, caption = 0.06, 0.85, 0.22
    figure = Figure(figsize=(len(columns) * (size + gap) - gap, head + rows * (size + caption)))
    place_text(figure, 0, 0.02, title, ha="left", va="top", fontsize=9.5, color=INK)
    for number, (heading, column) in enumerate(columns.items()):
        left = number * (size + gap)
        style = {"ha": "center", "va": "bottom", "fontsize": 8.5, "linespacing": 1.1, "color": INK}
        place_text(figure, left + size / 2, head - 0.06, heading, **style)
        for row, image in enumerate(column["images"]):
            top = head + row * (size + caption)
            array = np.swapaxes(np.asarray(image), -1, -2)
            draw_image(place_axes(figure, left, top, size, size), image_rgb(array[..., ::-1, :] if y_up else array))
            if column["psnr"] is not None:
                style = {"ha": "center", "va": "top", "fontsize": 8, "color": MUTED}
                place_text(figure, left + size / 2, top + size + 0.03, f"{column['psnr'][row]:.1f} dB", **style)
    save_figure(figure, path)


def readout_curves(
    curves: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]],
    baselines: Mapping[str, float],
    path: str | os.PathLike[str],
    title: str = "",
) -> None:
    """
    PSNR over the number of queries, a colour for each loss and a line for each attack; what needs none, as horizontal
    lines.

    Args:
        curves: by loss and attack, the number of queries and the mean PSNR in dB.
        baselines: by name, the mean PSNR in dB.
        path: PNG file to write.
        title: above all.
    """
    figure = Figure(figsize=(9.2, 4.6), layout="constrained")
    axes = figure.subplots()
    for colour, (loss, attacks) in zip(PALETTE, curves.items(), strict=False):
        for line, (attack, points) in zip(LINES, attacks.items(), strict=False):
            asked, ratios = zip(*points, strict=True)
            style: dict[str, Any] = {"color": colour, "linestyle": line, "label": literal(f"{loss}: {attack}")}
            axes.plot(asked, ratios, marker="o" if len(points) < 20 else None, markersize=3.5, linewidth=1.4, **style)
    for line, (name, ratio) in zip(LINES, baselines.items(), strict=False):
        axes.axhline(ratio, label=literal(name), color=INK, linewidth=0.9, linestyle=line)
    axes.set_title(literal(title), fontsize=9.5, loc="left", color=INK)
    axes.set_xscale("symlog", base=2, linthresh=1)
    most = max((point[0] for of in curves.values() for points in of.values() for point in points), default=1)
    ticks = [0] + [2**power for power in range(most.bit_length())]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(left=0)
    axes.set_xlabel("queries for a batch of images")
    axes.set_ylabel("PSNR, dB")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=7.5, frameon=False, handlelength=2.8)
    save_figure(figure, path, crop=False)
