"""Statistics of shapes from a prepared data list, and banks of conditions that are drawn from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.server import write_conditions
from bundle.shapes import ALL, ShapeStatistics, TooFewPatients, draw_conditions, style_of, write_statistics
from bundle.workflows.bank import list_conditions

__all__ = ["draw_bank", "measure_shapes"]


def measure_shapes(
    files: Sequence[str], dataset_dir: str, output: Path, overrides: Mapping[str, Any]
) -> dict[str, ShapeStatistics | str]:
    """
    Write statistics of shapes over the training patients of each site of a data list, and over those of all.

    Args:
        files: configs of a training: stage, task, profile.
        dataset_dir: folder of the data list. Its test cases are left out.
        output: ``.npz``, see :func:`bundle.shapes.write_statistics`.
        overrides: values for keys of the configs.

    Returns:
        By site, and for :data:`ALL`: the statistics, or why there are none.

    Raises:
        ValueError: ``output`` has another ending; the task has no ``shape_model``.
        bundle.shapes.TooFewPatients: all sites together have too few.
        bundle.workflows.ConfigError, bundle.data.DataError: see there.
    """
    _check_ending(output)
    model, conditions = list_conditions(files, dataset_dir, overrides)
    if model is None:
        raise ValueError("shape_model: expected what label maps are drawn by, and the task has none")
    together = {f"{site}/{patient}": own for site, of in conditions.items() for patient, own in of.items()}
    found: dict[str, ShapeStatistics | str] = {ALL: model.fit(together)}
    for site, own in conditions.items():
        try:
            found[site] = model.fit(own)
        except TooFewPatients as error:
            found[site] = str(error)
    write_statistics(output, {name: own for name, own in found.items() if isinstance(own, ShapeStatistics)})
    return found


def draw_bank(
    shapes: Mapping[str, ShapeStatistics], style: str, output: Path, number: int, size: int, **drawing: Any
) -> int:
    """
    Write a bank of conditions that are drawn from statistics.

    Args:
        shapes: see :func:`bundle.shapes.read_statistics`.
        style: whose: a site, or :data:`ALL`.
        output: ``.npz``, see :func:`bundle.server.write_conditions`.
        number, size, drawing: see :func:`draw_conditions`.

    Returns:
        How many it holds.

    Raises:
        ValueError: there are no statistics of that name; see also :func:`draw_conditions`.
    """
    _check_ending(output)
    drawn = draw_conditions(style_of(shapes, style), number, size, **drawing)
    write_conditions(output, {style: drawn})
    return len(drawn)


def _check_ending(output: Path) -> None:
    if output.suffix != ".npz":
        raise ValueError(f"{output}: expected a name that ends with .npz")
