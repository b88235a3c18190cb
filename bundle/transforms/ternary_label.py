"""Instances to three classes that a segmenter of nuclei can learn: background, interior, boundary."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor, get_track_meta
from monai.transforms import MapTransform
from monai.utils import convert_to_numpy, convert_to_tensor

from bundle.transforms.source_name import source_name

__all__ = ["TernaryLabeld"]


class TernaryLabeld(MapTransform):
    """
    Instance map to class indices: 0 background, 1 interior, 2 boundary.

    A map of nuclei alone does not tell where one ends and the next begins; a third class between them does (Kumar et
    al. 2017, https://doi.org/10.1109/TMI.2017.2677499). The boundary lies inside the objects, so that interior and
    boundary together are the objects: it is what of an object is at most ``boundary_width`` pixels (Euclidean, between
    centres of pixels) from a pixel of the background or of another object. The border of the tile is no edge: an
    object that the tile cuts off keeps its interior there. The interiors of different objects never touch, not even
    diagonally.

    Of an object without an interior, the pixels that are farthest from its edge become one: without it, the object
    could never be found. An object whose pixels all lie on its edge, such as a line, is interior throughout, the only
    exception to the above. Objects are what carries one number, in one piece or not.

    A label that already holds the three classes, as that of a synthetic image does, says so by ``label_type``: it is
    checked and kept.

    Args:
        keys: instance maps 1×X×Y, whole numbers of any dtype, 0 is the background; become uint8, MetaTensors.
        boundary_width: in pixels, at least 1.
        type_key: where the item says what its label holds: "instances" or "classes"; instances if it does not say.
        allow_missing_keys: do not raise where a key is missing.

    Raises:
        ValueError: naming the file: another shape, fractions, negative numbers, classes above 2, an unknown
            ``label_type``; at construction: a width below 1.

    Example:
        >>> label = torch.tensor([[[4, 4, 4, 7, 7, 7, 0]]]).expand(1, 3, 7)
        >>> TernaryLabeld(keys="label", boundary_width=1)({"label": label})["label"][0, 1].tolist()
        [1, 1, 2, 2, 1, 2, 0]
    """

    def __init__(
        self,
        keys: KeysCollection,
        boundary_width: int = 2,
        type_key: Hashable = "label_type",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if boundary_width < 1:
            raise ValueError(f"boundary_width: expected at least 1 pixel, got {boundary_width}")
        self.boundary_width = boundary_width
        self.type_key = type_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            label = item[key]
            try:
                classes = self._classes(convert_to_numpy(label), item.get(self.type_key) or "instances")
            except ValueError as error:
                raise ValueError(f"{source_name(item, key)}: '{key}': {error}") from error
            result = convert_to_tensor(torch.from_numpy(classes), track_meta=get_track_meta())
            if isinstance(result, MetaTensor) and isinstance(label, MetaTensor):
                result.copy_meta_from(label)
            item[key] = result
        return item

    def _classes(self, label: np.ndarray, holds: str) -> np.ndarray:
        if label.ndim != 3 or label.shape[0] != 1:
            raise ValueError(f"expected 1×X×Y, got shape {label.shape}")
        if label.dtype.kind == "f":
            whole = np.nan_to_num(label).astype(np.int64)
            if not np.array_equal(whole, label):
                raise ValueError("expected whole numbers, got fractions")
            label = whole
        lowest, highest = label.min(initial=0), label.max(initial=0)
        if holds == "classes":
            if lowest < 0 or highest > 2:
                raise ValueError(f"expected classes 0, 1 and 2, got {lowest} to {highest}")
            return label.astype(np.uint8)
        if holds != "instances":
            raise ValueError(f"expected '{self.type_key}' to be 'instances' or 'classes', got {holds!r}")
        if lowest < 0:
            raise ValueError(f"expected 0 for the background and numbers above 0, got {lowest}")
        return _ternary(label[0], self.boundary_width)[None]


def _ternary(label: np.ndarray, width: int) -> np.ndarray:
    """X×Y instances to classes."""
    beyond = width * width + 1
    depth = _squared_depth(label, width, beyond)
    inside = label > 0
    interior = inside & (depth == beyond)
    hollow = np.setdiff1d(label[inside], label[interior])
    if len(hollow):
        here = inside & np.isin(label, hollow)
        _, number = np.unique(label[here], return_inverse=True)
        deepest = np.zeros(len(hollow), dtype=depth.dtype)
        np.maximum.at(deepest, number, depth[here])
        interior[here] = depth[here] == deepest[number]
    return np.where(inside, np.where(interior, np.uint8(1), np.uint8(2)), np.uint8(0))


def _squared_depth(label: np.ndarray, width: int, beyond: int) -> np.ndarray:
    """Squared distance of every pixel to the nearest one of another number, if at most ``width``, else ``beyond``."""
    steps = range(-width, width + 1)
    # One of two opposite steps is enough: two pixels that differ are as far from each other both ways.
    offsets = [(i, j) for i in range(width + 1) for j in steps if (i > 0 or j > 0) and i * i + j * j < beyond]
    depth = np.full(label.shape, beyond, dtype=np.int32)
    for i, j in sorted(offsets, key=lambda step: -(step[0] ** 2 + step[1] ** 2)):  # the nearest one has the last word
        low, high = label.shape[0] - i, label.shape[1] - abs(j)
        if low <= 0 or high <= 0:
            continue
        one = (slice(0, low), slice(max(-j, 0), max(-j, 0) + high))
        other = (slice(i, i + low), slice(max(j, 0), max(j, 0) + high))
        differs = label[one] != label[other]
        depth[one][differs] = i * i + j * j
        depth[other][differs] = i * i + j * j
    return depth
