"""Label maps of many small objects, such as nuclei: how large and how dense they are, and where they crowd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from skimage.measure import regionprops

from bundle.shapes.moments import MIN_PATIENTS, Moments
from bundle.shapes.statistics import ShapeStatistics
from bundle.transforms import TernaryLabeld

__all__ = ["Cells"]

_ORDERS = 5
"""Waves round an object beyond the ellipse: 3 to 7."""
_BLOCKS = 4
_MARGIN = 1.5
_TRIES = 200
_CLEAR = 1.4
_MAX_WAVE = 0.12


class Cells:
    """
    A condition is the interior and the boundary of objects, as :class:`bundle.transforms.TernaryLabeld` makes them.

    Two normal distributions (:class:`bundle.shapes.Moments`): over tiles, how dense objects are, how large, how
    elongated, and how they crowd; over objects, how one differs from its tile. Each object is an ellipse with waves on
    its edge, turned at random; they are set one by one, where a random field says that they crowd, and where there is
    room. Which object stood beside which is not kept.

    Args:
        boundary_width: in pixels, as in the condition.
        components: principal components at most.

    Raises:
        ValueError: for numbers below 1.
    """

    any_size = True
    """A larger tile shows more objects, not larger ones."""

    def __init__(self, boundary_width: int = 2, components: int = 4) -> None:
        if components < 1:
            raise ValueError("a shape model: expected whole numbers from 1 on")
        TernaryLabeld("label", boundary_width)  # says what is wrong with it
        self.boundary_width = boundary_width
        self.components = components

    def fit(self, conditions: Mapping[str, Sequence[np.ndarray]], least: int = MIN_PATIENTS) -> ShapeStatistics:
        """
        Args:
            conditions: 2×H×W uint8 of 0 and 1, by patient. A tile without objects counts for nothing.
            least: patients of which there have to be statistics.

        Raises:
            TooFewPatients: see :class:`bundle.shapes.Moments`.
            ValueError: a condition of another shape.
        """
        tiles: dict[str, list[np.ndarray]] = {}
        objects: dict[str, list[np.ndarray]] = {}
        for patient, own in conditions.items():
            for condition in own:
                if condition.ndim != 3 or len(condition) != 2:
                    raise ValueError(f"a shape model: expected conditions of 2×H×W, got {condition.shape}")
                instances = self._instances(condition)
                found = _object_vectors(instances)
                if len(found):
                    mean = found.mean(axis=0)
                    tiles.setdefault(patient, []).append(np.array([*_density(instances, len(found)), *mean[:2]]))
                    # waves are no property of a tile
                    objects.setdefault(patient, []).extend(found - np.array([*mean[:2], *[0.0] * _ORDERS]))
        return ShapeStatistics.of(self, {"tile": tiles, "object": objects}, "tile", least)

    def draw(
        self,
        statistics: ShapeStatistics,
        rng: np.random.Generator,
        size: int,
        density: float | None = None,
    ) -> np.ndarray:
        """
        A condition.

        Args:
            statistics: of :meth:`fit`.
            rng: NumPy's generator.
            size: N, height and width.
            density: objects on 100×100 pixels; None: as in the statistics.

        Returns:
            2×N×N uint8 of 0 and 1: interior, boundary.

        Raises:
            ValueError: for a density beyond what the statistics know, with their range.
        """
        tile = statistics.moments["tile"].draw(rng)
        if density is not None:
            low, high = self.density_range(statistics)
            if not low <= density <= high:
                raise ValueError(
                    f"density of objects: expected objects on 100×100 pixels between {low:.3g} and "
                    f"{high:.3g}, the range of the training images, got {density:g}"
                )
            tile[0] = np.log(density)
        margin = round(_MARGIN * float(np.exp(tile[2])))
        side = size + 2 * margin
        instances = self._place(statistics.moments["object"], rng, tile, side)[
            margin : side - margin, margin : side - margin
        ]
        classes = TernaryLabeld("label", self.boundary_width)
        label = classes({"label": torch.from_numpy(instances.astype(np.int32))[None]})["label"][0]
        return np.stack([np.asarray(label) == number for number in (1, 2)]).astype(np.uint8)

    def density_range(self, statistics: ShapeStatistics) -> tuple[float, float]:
        """Objects on 100×100 pixels, by the statistics."""
        low, high = statistics.moments["tile"].span(0)
        return float(np.exp(low)), float(np.exp(high))

    def _instances(self, condition: np.ndarray) -> np.ndarray:
        """Objects H×W from interiors, each grown over the boundary that is nearest to it."""
        markers, _ = ndimage.label(condition[0], np.ones((3, 3)))
        nearest = ndimage.distance_transform_edt(markers == 0, return_distances=False, return_indices=True)
        return np.where(condition.any(axis=0), markers[tuple(nearest)], 0)

    def _place(self, moments: Moments, rng: np.random.Generator, tile: np.ndarray, side: int) -> np.ndarray:
        instances = np.zeros((side, side), np.int32)
        taken = np.zeros((side, side), bool)
        field = ndimage.gaussian_filter(rng.standard_normal((side, side)), side / (2 * _BLOCKS), mode="reflect")
        weight = np.exp(np.exp(tile[1]) * field / max(field.std(), 1e-9))
        chance = weight.ravel().cumsum()
        number = min(round(float(np.exp(tile[0])) * (side / 100) ** 2), side * side)
        drawn = [_outline(moments.draw(rng), tile[2:4], rng) for _ in range(number)]
        # the large ones first: set over small ones, they would hide them
        for label, (mask, radius) in enumerate(sorted(drawn, key=lambda own: -own[1]), start=1):
            for place in np.searchsorted(chance, rng.random(_TRIES) * chance[-1], side="right"):
                centre = np.array(np.divmod(min(place, side * side - 1), side))
                if not taken[tuple(centre)]:
                    _stamp(instances, mask, centre - len(mask) // 2, label)
                    # another's centre stands clear by more than this radius: they touch, and do not lie on each other
                    _stamp(taken, _disc(_CLEAR * radius), centre - round(_CLEAR * radius), 1)
                    break
        return instances


def _object_vectors(instances: np.ndarray) -> np.ndarray:
    """Of each whole object: logarithms of radius and elongation, of waves 3 to 7 on its edge in radii."""
    found = []
    for region in regionprops(instances):
        low_row, low_column, high_row, high_column = region.bbox
        cut = min(low_row, low_column) == 0 or high_row == instances.shape[0] or high_column == instances.shape[1]
        if cut or region.area < 12:
            continue
        radius = np.sqrt(region.area / np.pi)
        long, short = max(region.axis_major_length, 1.0), max(region.axis_minor_length, 1.0)
        found.append([np.log(radius), np.log(long / short), *_waves(region, long / short)])
    return np.array(found).reshape(-1, 2 + _ORDERS)


def _waves(region: Any, elongation: float) -> np.ndarray:
    """Logarithms of the waves on an object's edge, in radii, after its ellipse was made a circle."""
    mask = np.pad(region.image, 1)
    edge = np.argwhere(mask & ~ndimage.binary_erosion(mask)) - np.argwhere(mask).mean(axis=0)
    # the direction of the long axis, from the rows
    along = edge @ np.array([np.cos(region.orientation), np.sin(region.orientation)]) / np.sqrt(elongation)
    across = edge @ np.array([-np.sin(region.orientation), np.cos(region.orientation)]) * np.sqrt(elongation)
    angles = np.arctan2(across, along)
    order = np.argsort(angles)
    turns = np.linspace(-np.pi, np.pi, 64, endpoint=False)
    distances = np.interp(turns, angles[order], np.hypot(along, across)[order], period=2 * np.pi)
    spectrum = np.abs(np.fft.rfft(distances)) / 32
    return np.log(spectrum[3 : 3 + _ORDERS] / distances.mean() + 1e-3)


def _density(instances: np.ndarray, whole: int) -> tuple[float, float]:
    """Logarithms of objects on 100×100 pixels, and of how much more the blocks of a tile differ than by chance."""
    labels, places = np.unique(instances, return_index=True)
    centres = ndimage.center_of_mass(instances > 0, instances, labels[labels > 0])
    block = np.array(centres) / np.array(instances.shape) * _BLOCKS
    blocks = np.bincount((block.astype(int) @ [_BLOCKS, 1]).clip(0), minlength=_BLOCKS**2)
    mean = max(blocks.mean(), 1e-9)
    # a Poisson count varies by its mean; what is beyond, in parts of the mean, is the field's
    excess = np.sqrt(max(blocks.var() / mean**2 - 1 / mean, 0.01))
    number = max(len(places) - 1, whole)
    return float(np.log(number / instances.size * 1e4)), float(np.log(excess))


def _outline(vector: np.ndarray, tile: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """The mask of an object, its centre in the middle, and its radius."""
    radius = float(np.exp(np.clip(vector[0] + tile[0], np.log(1.5), np.log(60))))
    elongation = float(np.exp(np.clip(vector[1] + tile[1], 0, np.log(4))))
    waves = np.minimum(np.exp(vector[2:]), _MAX_WAVE)
    reach = int(np.ceil(radius * np.sqrt(elongation) * (1 + waves.sum()))) + 1
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    turn = rng.uniform(0, np.pi)
    along = (np.cos(turn) * columns + np.sin(turn) * rows) / np.sqrt(elongation)
    across = (np.cos(turn) * rows - np.sin(turn) * columns) * np.sqrt(elongation)
    angles = np.arctan2(across, along)
    phases = rng.uniform(0, 2 * np.pi, len(waves))
    edge = 1 + sum(
        wave * np.cos(order * angles + phase)
        for order, (wave, phase) in enumerate(zip(waves, phases, strict=True), start=3)
    )
    return np.hypot(along, across) <= radius * edge, radius


def _disc(radius: float) -> np.ndarray:
    reach = round(radius)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return np.hypot(rows, columns) <= radius


def _stamp(instances: np.ndarray, mask: np.ndarray, corner: np.ndarray, label: int) -> None:
    """Set an object where nothing is yet."""
    low = np.maximum(corner, 0)
    high = np.minimum(corner + mask.shape, instances.shape)
    if (high <= low).any():
        return
    window = instances[low[0] : high[0], low[1] : high[1]]
    part = mask[low[0] - corner[0] : high[0] - corner[0], low[1] - corner[1] : high[1] - corner[1]]
    window[part & (window == 0)] = label
