"""Regions as signed distances, and those as few numbers that do not depend on how many pixels an image has."""

from __future__ import annotations

import numpy as np
from scipy.fft import dctn, idctn
from scipy.ndimage import distance_transform_edt, map_coordinates

__all__ = ["from_coefficients", "in_frame", "on_pixels", "signed_distance", "to_coefficients"]


def signed_distance(mask: np.ndarray) -> np.ndarray:
    """
    Args:
        mask: H×W bool.

    Returns:
        H×W float64, in pixels: how far the edge is, positive inside. Without any pixel inside, minus H + W throughout;
        without any outside, plus that.
    """
    far = float(sum(mask.shape))
    if mask.all() or not mask.any():
        return np.full(mask.shape, far if mask.all() else -far)
    return distance_transform_edt(mask) - distance_transform_edt(~mask) + np.where(mask, -0.5, 0.5)


def to_coefficients(field: np.ndarray, number: int) -> np.ndarray:
    """
    The ``number``×``number`` lowest frequencies of a square field (DCT-II), scaled so that a field has the same
    coefficients whatever its sampling.

    Args:
        field: N×N.
        number: at most N.

    Returns:
        number², float64.

    Raises:
        ValueError: the field is not square, or has fewer pixels a side.
    """
    if field.ndim != 2 or field.shape[0] != field.shape[1] or len(field) < number:
        raise ValueError(f"expected a square field of at least {number} pixels a side, got {field.shape}")
    return (dctn(field, norm="ortho")[:number, :number] / len(field)).ravel()


def from_coefficients(coefficients: np.ndarray, size: int) -> np.ndarray:
    """The size×size field of coefficients: the inverse of :func:`to_coefficients` but for higher frequencies."""
    number = round(len(coefficients) ** 0.5)
    spectrum = np.zeros((size, size))
    kept = min(number, size)
    spectrum[:kept, :kept] = coefficients.reshape(number, number)[:kept, :kept] * size
    return idctn(spectrum, norm="ortho")


def in_frame(field: np.ndarray, centre: np.ndarray, reach: float, samples: int) -> np.ndarray:
    """
    A square window of a field.

    Args:
        field: H×W.
        centre: row and column, in pixels.
        reach: half the window's side, in pixels.
        samples: per side of the result.
    """
    places = ((np.arange(samples) + 0.5) / samples * 2 - 1) * reach
    rows, columns = np.meshgrid(centre[0] + places, centre[1] + places, indexing="ij")
    return map_coordinates(field, [rows, columns], order=1, mode="nearest")


def on_pixels(
    window: np.ndarray, centre: np.ndarray, reach: float, shape: tuple[int, int], beyond: float
) -> np.ndarray:
    """A window of :func:`in_frame` put back on H×W pixels; ``beyond`` is what lies outside it."""
    samples = len(window)
    rows, columns = (
        ((np.arange(side) - middle) / reach + 1) / 2 * samples - 0.5 for side, middle in zip(shape, centre, strict=True)
    )
    grid = np.meshgrid(rows, columns, indexing="ij")
    return map_coordinates(window, grid, order=1, mode="constant", cval=beyond)
