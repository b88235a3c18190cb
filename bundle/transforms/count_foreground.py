"""How much foreground each slice has, before anything is resized."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

__all__ = ["CountForegroundd"]


class CountForegroundd(MapTransform):
    """
    Count the pixels above 0 in every slice along the last axis.

    Thresholds such as "at least 10 tumour pixels" are meant in the pixels of the data: count before a resize.

    Args:
        keys: one label, 1×H×W×D.
        output_key: where the counts go, an int64 tensor of D numbers.

    Example:
        >>> label = torch.zeros(1, 4, 4, 3)
        >>> label[0, :2, :2, 1] = 2
        >>> CountForegroundd(keys="label")({"label": label})["foreground_pixels"].tolist()
        [0, 4, 0]
    """

    def __init__(self, keys: KeysCollection, output_key: str = "foreground_pixels") -> None:
        super().__init__(keys)
        self.output_key = output_key

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        item = dict(data)
        for key in self.keys:
            label = torch.as_tensor(item[key])
            item[self.output_key] = (label > 0).sum(dim=tuple(range(label.ndim - 1))).as_subclass(torch.Tensor)
        return item
