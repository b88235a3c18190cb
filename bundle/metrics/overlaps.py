"""Which objects of two instance maps overlap, and by how much: all that the scores of instances depend on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from monai.config import NdarrayOrTensor
from monai.utils import convert_to_numpy

__all__ = ["InstanceOverlaps", "check_instance_maps", "count_overlaps"]


class InstanceOverlaps(NamedTuple):
    """
    The sizes of N reference objects and M predicted ones and of their K overlaps, all int64.

    The overlaps stand in the order in which the maps show them first, so what is made of them cannot depend on how
    the objects are numbered.
    """

    truth: np.ndarray
    """K: which reference object, 0 to N−1."""
    pred: np.ndarray
    """K: which predicted object, 0 to M−1."""
    pixels: np.ndarray
    """K: pixels that the two share."""
    truth_sizes: np.ndarray
    """N: pixels of each reference object."""
    pred_sizes: np.ndarray
    """M: pixels of each predicted object."""


def count_overlaps(pred: NdarrayOrTensor, truth: NdarrayOrTensor) -> InstanceOverlaps:
    """
    Count the pixels of every object and of every overlap of two instance maps.

    Args:
        pred, truth: arrays or tensors of one shape; whole numbers of any dtype, 0 is the background, every other
            number one object, whatever numbers are left out.

    Raises:
        ValueError: different shapes, fractions, negative numbers.

    Example:
        >>> count_overlaps(np.array([[7, 7, 0]]), np.array([[0, 2, 2]])).pixels.tolist()
        [1]
    """
    maps = {"pred": convert_to_numpy(pred), "truth": convert_to_numpy(truth)}
    if maps["pred"].shape != maps["truth"].shape:
        raise ValueError(
            f"expected instance maps of one shape, got pred {maps['pred'].shape} and truth {maps['truth'].shape}"
        )
    maps = {name: _whole_numbers(name, array) for name, array in maps.items()}
    anywhere = (maps["pred"] > 0) | (maps["truth"] > 0)  # most of a tile is background in both: not sorted
    found, found_sizes = _consecutive(maps["pred"][anywhere])
    real, real_sizes = _consecutive(maps["truth"][anywhere])
    shared = (found > 0) & (real > 0)
    pairs, first, pixels = np.unique(
        real[shared] * (len(found_sizes) + 1) + found[shared], return_index=True, return_counts=True
    )
    order = np.argsort(first)
    pairs, pixels = pairs[order], pixels[order]
    return InstanceOverlaps(
        pairs // (len(found_sizes) + 1) - 1, pairs % (len(found_sizes) + 1) - 1, pixels, real_sizes, found_sizes
    )


def check_instance_maps(y_pred: torch.Tensor, y: torch.Tensor | None) -> torch.Tensor:
    """Refuse what is not two batches of instance maps, B×1×X×Y[×Z], of one shape; returns ``y``."""
    if y is None or y_pred.shape != y.shape or y_pred.ndim < 4 or y_pred.shape[1] != 1:
        raise ValueError(
            "expected y_pred and y, both B×1×X×Y[×Z], of one shape; got "
            f"{tuple(y_pred.shape)} and {None if y is None else tuple(y.shape)}"
        )
    return y


def _whole_numbers(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "f":
        whole = np.nan_to_num(array).astype(np.int64)
        if not np.array_equal(whole, array):
            raise ValueError(f"{name}: expected whole numbers, one for each object, got fractions")
        array = whole
    if array.size and array.min() < 0:
        raise ValueError(f"{name}: expected 0 for the background and numbers above 0, got {array.min()}")
    return array


def _consecutive(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The objects numbered from 1 without gaps (0 stays the background), and their sizes."""
    values, index, sizes = np.unique(array, return_inverse=True, return_counts=True)
    if len(values) and values[0] == 0:
        return index, sizes[1:]
    return index + 1, sizes
