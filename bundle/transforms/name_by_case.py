"""Outputs that are called like the case they belong to."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ImageMetaKey

__all__ = ["NameByCased"]


class NameByCased(MapTransform):
    """
    Let MONAI's savers name an array after its case, not after the file that its metadata came from.

    In many layouts, files of different cases have the same name (``CASE/seg.nii.gz``), and would overwrite each other.

    Args:
        keys: MetaTensors to be saved.
        name_key: where the item says its case.
        suffix: what follows the case: the saver's format, such as ``.nii.gz`` or ``.png``.

    Example:
        >>> import torch
        >>> item = {"pred": MetaTensor(torch.zeros(1, 2, 2)), "case": "patient_7"}
        >>> NameByCased(keys="pred")(item)["pred"].meta["filename_or_obj"]
        'patient_7.nii.gz'
        >>> NameByCased(keys="pred", suffix=".png")(item)["pred"].meta["filename_or_obj"]
        'patient_7.png'
    """

    def __init__(self, keys: KeysCollection, name_key: Hashable = "case", suffix: str = ".nii.gz") -> None:
        super().__init__(keys)
        self.name_key = name_key
        self.suffix = suffix

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.keys:
            array = MetaTensor.ensure_torch_and_prune_meta(item[key], dict(getattr(item[key], "meta", {})))
            if isinstance(item[key], MetaTensor):
                array.applied_operations = item[key].applied_operations
            array.meta[ImageMetaKey.FILENAME_OR_OBJ] = f"{item[self.name_key]}{self.suffix}"
            item[key] = array
        return item
