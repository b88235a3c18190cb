"""From the probabilities of three classes to what MONAI's watershed of nuclei starts from."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import Transform

from bundle.transforms.source_name import source_name

__all__ = ["WatershedInputsd"]


class WatershedInputsd(Transform):
    """
    Take the probabilities of background, interior and boundary apart for MONAI's transforms of nuclei.

    MONAI's ``GenerateWatershedMaskd`` wants the probability of an object, ``GenerateWatershedMarkersd`` and
    ``GenerateDistanceMapd`` want a map that is high where objects end. The probabilities leave the item: their key
    is free for the map of distances, which the watershed turns into the instances.

    Args:
        key: probabilities, 3×X×Y, float, 0 to 1, of :class:`TernaryLabeld`'s classes.
        foreground_key: for 1 − the probability of the background, 1×X×Y, with the dtype and metadata of the input.
        border_key: for 1 − the probability of the interior, likewise.

    Raises:
        ValueError: naming the file: another shape, values that are not between 0 and 1.

    Example:
        >>> pred = torch.tensor([0.25, 0.5, 0.25]).reshape(3, 1, 1)
        >>> WatershedInputsd(key="pred")({"pred": pred})
        {'foreground': tensor([[[0.7500]]]), 'border': tensor([[[0.5000]]])}
    """

    def __init__(
        self, key: Hashable = "pred", foreground_key: Hashable = "foreground", border_key: Hashable = "border"
    ) -> None:
        self.key = key
        self.foreground_key = foreground_key
        self.border_key = border_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        pred = torch.as_tensor(item[self.key])
        if pred.ndim != 3 or len(pred) != 3:
            raise ValueError(
                f"{source_name(item, self.key)}: '{self.key}': expected the probabilities of background, interior and "
                f"boundary, 3×X×Y, got shape {tuple(pred.shape)}"
            )
        # written so that nan fails as well; rounding in a softmax may leave 0 to 1 by a little
        if not bool(((pred > -1e-3) & (pred < 1 + 1e-3)).all()):
            raise ValueError(f"{source_name(item, self.key)}: '{self.key}': expected probabilities, 0 to 1")
        item[self.foreground_key] = 1 - pred[0:1]
        item[self.border_key] = 1 - pred[1:2]
        del item[self.key]
        return item
