"""Figure of a generator's page: label maps, and what was drawn on them. No real image is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from bundle.report.synthesis import synthesis_grid
from bundle.sheet.sources import Sources

__all__ = ["draw_samples"]

SITES, SAMPLES = 4, 3
_TRIED = 12
"""Pairs of a site among which those with most on their label map are shown."""


def draw_samples(sources: Sources, path: Path) -> bool:
    """
    Draw pairs of a run's synthetic data set.

    Args:
        sources: the files of the run.
        path: PNG file to write.

    Returns:
        Whether there is such a data set, of slices or tiles.
    """
    datalist, place = sources.read("synthetic"), sources.path("synthetic")
    if datalist is None or place is None:
        return False
    values = [int(value) for value in datalist["labels"] if int(value)]
    y_up = bool(sources.config.get("display_y_up"))
    by_site: dict[str, list[Mapping[str, Any]]] = {}
    for item in datalist["training"]:
        by_site.setdefault(item["site"], []).append(item)
    rows = []
    for site in sorted(by_site)[:SITES]:
        samples = [_sample(place.parent, item, values, y_up) for item in _spread(by_site[site], _TRIED)]
        if any(sample["synthetic"].ndim != 3 for sample in samples):
            return False
        samples.sort(key=lambda sample: -sample["condition"].sum())
        rows.append({"site": site, "samples": samples[:SAMPLES]})
    synthesis_grid(rows, path, labels=[datalist["labels"][str(value)] for value in values], real=False)
    return True


def _spread(items: Sequence[Mapping[str, Any]], number: int) -> list[Mapping[str, Any]]:
    places = np.linspace(0, len(items) - 1, min(number, len(items))).round().astype(int)
    return [items[place] for place in places]


def _sample(folder: Path, item: Mapping[str, Any], values: Sequence[int], y_up: bool) -> dict[str, np.ndarray]:
    low, high = item.get("intensity_range") or (-1.0, 1.0)
    image = (_rows(folder / item["image"], y_up) - low) * (2 / (high - low)) - 1
    label = _rows(folder / item["label"], y_up)[0]
    return {"condition": np.stack([label == value for value in values]), "synthetic": image}


def _rows(path: Path, y_up: bool) -> np.ndarray:
    """A picture C×H×W, float64; more axes where the file holds several."""
    if path.suffix == ".png":
        pixels = np.asarray(Image.open(path), dtype=float)
        return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    # X×Y×1 or X×Y×1×C, as synthetic slices are written
    volume = np.asarray(nib.load(path).dataobj, dtype=float)
    volume = volume[..., None] if volume.ndim == 3 else volume
    rows = np.moveaxis(volume, (3, 1, 0), (0, 1, 2))
    rows = rows[:, ::-1] if y_up else rows
    return rows[..., 0] if rows.shape[-1] == 1 else rows
