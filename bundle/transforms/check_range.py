"""Values must lie in the range that they are about to be scaled from."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from bundle.transforms.source_name import source_name

__all__ = ["CheckRanged"]


class CheckRanged(MapTransform):
    """
    Refuse a case with values outside a range: clipped, they would become another distribution without a word.

    Args:
        keys: arrays of any shape.
        value_range: lowest and highest value.

    Raises:
        ValueError: naming the file, the values found and those expected; at construction: a range that is not lo < hi.

    Example:
        >>> CheckRanged(keys="image", value_range=[-15, 15])({"image": torch.tensor([-3.0, 17.5]), "case": "A"})
        Traceback (most recent call last):
        ...
        ValueError: case A: 'image' has values from -3 to 17.5, expected -15 to 15
    """

    def __init__(self, keys: KeysCollection, value_range: tuple[float, float]) -> None:
        super().__init__(keys)
        low, high = value_range
        if not low < high:
            raise ValueError(f"value_range: expected lo < hi, got {low}, {high}")
        self.low, self.high = float(low), float(high)

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        for key in self.keys:
            values = torch.as_tensor(data[key])
            low, high = values.min().item(), values.max().item()
            # a NaN is in no order: the comparison may not be turned round
            if not (self.low <= low and high <= self.high):
                raise ValueError(
                    f"{source_name(data, key)}: '{key}' has values from {low:g} to {high:g}, "
                    f"expected {self.low:g} to {self.high:g}"
                )
        return dict(data)
