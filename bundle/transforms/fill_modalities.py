"""Channels for the modalities that a site lacks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import convert_to_tensor

__all__ = ["FillModalitiesd"]


class FillModalitiesd(MapTransform):
    """
    Put a constant channel in the place of every modality that the item's data list says its site lacks, which
    :class:`SelectModalitiesd` has passed over: what people do today to train one network on images of several
    protocols. An item without such is left as it is.

    Args:
        keys: images, C×H×W or C×H×W×D, any dtype; the channels of each are named by ``item[names_key]``.
        modalities: names of all channels of the result, in their order.
        value: of the channels; -1 is the background of scaled images, which raw images have as 0.
        names_key: where the item holds its channels' names; replaced by all.
        absent_key: where it names those that its site lacks.
        allow_missing_keys: do not raise where a key is missing.

    >>> item = {"image": torch.ones(1, 1, 2), "modality": ("t2",), "absent": ("flair",)}
    >>> FillModalitiesd(keys="image", modalities=("flair", "t2"))(item)["image"].tolist()
    [[[-1.0, -1.0]], [[1.0, 1.0]]]
    """

    def __init__(
        self,
        keys: KeysCollection,
        modalities: Sequence[str],
        value: float = -1.0,
        names_key: Hashable = "modality",
        absent_key: Hashable = "absent",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.modalities = tuple(modalities)
        self.value = value
        self.names_key = names_key
        self.absent_key = absent_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        names = tuple(item.get(self.names_key) or ())
        if not set(item.get(self.absent_key) or ()) & set(self.modalities):
            return item
        for key in self.key_iterator(item):
            image = item[key]
            whole = torch.full((len(self.modalities), *image.shape[1:]), self.value, dtype=image.dtype)
            whole[[self.modalities.index(name) for name in names]] = convert_to_tensor(image).as_subclass(torch.Tensor)
            filled = MetaTensor(whole)
            if isinstance(image, MetaTensor):
                filled.copy_meta_from(image)
            item[key] = filled
        item[self.names_key] = self.modalities
        return item
