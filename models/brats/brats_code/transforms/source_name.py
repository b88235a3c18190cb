"""How a transform names the file that an error is about."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from os import PathLike
from typing import Any

from monai.data import MetaTensor

__all__ = ["source_name"]


def source_name(item: Mapping[Hashable, Any], key: Hashable) -> str:
    """The file behind ``item[key]``, for messages that a person must be able to act on.

    Looks, in this order, at the ``filename_or_obj`` of a MetaTensor, at a path that still stands in the item, at
    ``{key}_meta_dict``, at the ``case``; an item that holds none of them is called unnamed.

    >>> source_name({"image": MetaTensor(torch.zeros(1, 2, 2), meta={"filename_or_obj": "a.nii.gz"})}, "image")
    'a.nii.gz'
    >>> source_name({"label": torch.zeros(1, 2, 2), "case": "P7"}, "label")
    'case P7'
    """
    value = item.get(key)
    meta = value.meta if isinstance(value, MetaTensor) else item.get(f"{key}_meta_dict") or {}
    name = meta.get("filename_or_obj")
    # A path may arrive as an array of one string, the way some readers and collate functions leave it.
    if name is not None and str(name):
        return str(name)
    if isinstance(value, (str, PathLike)):
        return str(value)
    if "case" in item:
        return f"case {item['case']}"
    return "an unnamed file"
