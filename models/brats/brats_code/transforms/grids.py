"""Whether two arrays lie voxel on voxel by what their headers say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["describe_grid", "grid_differences"]

# As exporters round: of a voxel's edge, of a direction cosine, and in voxels.
SPACING_TOLERANCE = 0.01
DIRECTION_TOLERANCE = 0.01
ORIGIN_TOLERANCE = 0.1

_ENDS = ("LR", "PA", "IS")


def grid_differences(
    shape: Sequence[int], affine: np.ndarray, other_shape: Sequence[int], other_affine: np.ndarray
) -> list[str]:
    """What differs between two grids: of ``"size"``, ``"spacing"``, ``"axes"`` and ``"origin"``, in this order.

    Spacings may differ by 1 %, direction cosines by 0.01 and origins by a tenth of a voxel.

    Args:
        shape, other_shape: voxels along three axes.
        affine, other_affine: 4×4, voxel indices to millimetres.

    >>> grid_differences((4, 4, 4), np.eye(4), (4, 4, 4), np.diag([-1, 1, 1.001, 1]))
    ['axes']
    """
    spacing, directions = _decompose(affine)
    other_spacing, other_directions = _decompose(other_affine)
    shift = np.abs(directions.T @ (np.asarray(other_affine) - np.asarray(affine))[:3, 3])
    same = {
        "size": tuple(shape) == tuple(other_shape),
        "spacing": np.allclose(other_spacing, spacing, rtol=SPACING_TOLERANCE, atol=0),
        "axes": np.allclose(other_directions, directions, rtol=0, atol=DIRECTION_TOLERANCE),
        "origin": bool((shift <= ORIGIN_TOLERANCE * spacing).all()),
    }
    return [what for what, is_same in same.items() if not is_same]


def describe_grid(shape: Sequence[int], affine: np.ndarray) -> str:
    """A grid in words: size, spacing, what the axes run towards, origin (right, anterior, superior are positive).

    Axes that are no nearer than a degree to those of the body are written out as direction cosines.

    >>> describe_grid((4, 5, 6), np.diag([-1, -1, 3, 1]))
    '4×5×6 voxels of 1×1×3 mm, axes to L-P-S, origin (0, 0, 0)'
    """
    spacing, directions = _decompose(affine)
    nearest = np.abs(directions).argmax(axis=0)
    letters = "-".join(_ENDS[axis][int(directions[axis, place] > 0)] for place, axis in enumerate(nearest))
    axes = letters if np.abs(directions).max(axis=0).min() > 0.9998 else f"{letters} ({_numbers(directions.T)})"
    size = "×".join(map(str, shape))
    edges = "×".join(f"{edge:.4g}" for edge in spacing)
    return f"{size} voxels of {edges} mm, axes to {axes}, origin ({_numbers(np.asarray(affine)[:3, 3])})"


def _decompose(affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges of a voxel, and the directions of the axes as columns (zeros for an axis without an edge)."""
    matrix = np.asarray(affine, dtype=np.float64)[:3, :3]
    spacing = np.linalg.norm(matrix, axis=0)
    return spacing, matrix / np.where(spacing > 0, spacing, 1)


def _numbers(values: np.ndarray) -> str:
    # adding 0 takes the sign from a zero
    return "; ".join(", ".join(f"{value + 0:.4g}" for value in np.round(row, 6)) for row in np.atleast_2d(values))
