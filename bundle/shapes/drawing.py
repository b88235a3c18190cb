"""Label maps by their numbers: which one a draw is depends on a seed and its number alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from bundle.seeding import derive_seed
from bundle.shapes.models import model_of
from bundle.shapes.statistics import ShapeStatistics

__all__ = ["ALL", "ShapeModel", "by_patient", "draw_conditions", "draw_in_place", "style_of"]

ALL = "all"
"""In the place of a site's name, for statistics over the patients of all."""


class ShapeModel(Protocol):
    """Says what shapes conditions of some patients have, and draws others like them."""

    def fit(self, conditions: Mapping[str, Sequence[np.ndarray]], least: int = ...) -> ShapeStatistics: ...

    def draw(self, statistics: ShapeStatistics, rng: np.random.Generator, size: int) -> np.ndarray: ...


def by_patient(conditions: Iterable[torch.Tensor], patients: Iterable[object]) -> dict[str, list[np.ndarray]]:
    """Conditions X×H×W as arrays, by the text of their patient."""
    found: dict[str, list[np.ndarray]] = {}
    for condition, patient in zip(conditions, patients, strict=True):
        found.setdefault(str(patient), []).append(np.asarray(condition))
    return found


def draw_in_place(model: ShapeModel, statistics: ShapeStatistics, seed: int, condition: torch.Tensor) -> torch.Tensor:
    """
    A condition to stand in the place of another one.

    Args:
        model: what draws.
        statistics: what it has measured.
        seed: of the draw.
        condition: X×H×W, of which the height and width are looked at.

    Returns:
        X×H×W uint8 of 0 and 1.
    """
    height, width = condition.shape[-2:]
    drawn = model.draw(statistics, np.random.default_rng(seed), max(height, width))
    return torch.from_numpy(np.ascontiguousarray(drawn[:, :height, :width]))


def draw_conditions(
    statistics: ShapeStatistics, number: int, size: int, seed: int = 0, first: int = 0, **controls: Any
) -> list[np.ndarray]:
    """
    Conditions of statistics; which one a draw is depends on (seed, its number) alone.

    Args:
        statistics: of one site, or of all.
        number: of draws.
        size: height and width in pixels.
        seed: of the draws.
        first: number of the first draw.
        controls: of the model: ``region_size``, ``density``.

    Returns:
        X×N×N uint8 of 0 and 1 each.

    Raises:
        ValueError: for a control that the model does not have, or beyond its range.
    """
    if number < 1 or size < 8:
        raise ValueError(f"expected at least one label map of at least 8 pixels, got {number} of {size}")
    model = model_of(statistics)
    rngs = (np.random.default_rng(derive_seed(seed, "shapes", first + place)) for place in range(number))
    try:
        return [model.draw(statistics, rng, size, **controls) for rng in rngs]
    except TypeError as error:
        raise ValueError(f"label maps of {type(model).__name__} have no control {', '.join(controls)}") from error


def style_of(shapes: Mapping[str, ShapeStatistics], style: str) -> ShapeStatistics:
    """
    Raises:
        ValueError: there are no statistics of that name; the message lists those that there are.
    """
    if style not in shapes:
        raise ValueError(f"no shapes of {style!r}, expected one of {', '.join(sorted(shapes))}")
    return shapes[style]
