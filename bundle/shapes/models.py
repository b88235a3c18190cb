"""The shape models by their names, for statistics that come as a file."""

from __future__ import annotations

from bundle.shapes.cells import Cells
from bundle.shapes.regions import OrganWithRegions
from bundle.shapes.statistics import ShapeStatistics

__all__ = ["model_of"]

_MODELS = {model.__name__: model for model in (OrganWithRegions, Cells)}


def model_of(statistics: ShapeStatistics) -> OrganWithRegions | Cells:
    """
    The model that draws from statistics.

    Raises:
        ValueError: they are of no model that is known, or of other arguments than it takes.
    """
    if statistics.model not in _MODELS:
        raise ValueError(
            f"statistics of shapes: expected those of {' or '.join(_MODELS)}, got those of {statistics.model!r}"
        )
    try:
        return _MODELS[statistics.model](**statistics.arguments)
    except TypeError as error:
        raise ValueError(f"statistics of shapes, {statistics.model}: {error}") from error
