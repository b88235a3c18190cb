"""Image and label of a case must lie on one grid."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from monai.config import KeysCollection
from monai.transforms import MapTransform

__all__ = ["CheckSameShaped"]


class CheckSameShaped(MapTransform):
    """
    Refuse a case whose arrays do not have the same spatial shape.

    Args:
        keys: arrays C×spatial, at least two.

    Raises:
        ValueError: naming the keys and their shapes.

    Example:
        >>> import torch
        >>> data = {"image": torch.zeros(1, 4, 4), "label": torch.zeros(1, 4, 5)}
        >>> CheckSameShaped(keys=["image", "label"])(data)
        Traceback (most recent call last):
        ...
        ValueError: expected one spatial shape, got image (4, 4), label (4, 5)
    """

    def __init__(self, keys: KeysCollection) -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        shapes = {key: tuple(data[key].shape[1:]) for key in self.keys}
        if len(set(shapes.values())) > 1:
            raise ValueError(
                "expected one spatial shape, got " + ", ".join(f"{key} {shape}" for key, shape in shapes.items())
            )
        return dict(data)
