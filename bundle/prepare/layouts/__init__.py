"""Layouts: how data sets lie on disk as they are distributed. One module each, registered by name."""

from __future__ import annotations

from bundle.data.errors import DataError
from bundle.prepare.layouts import bids, brats, images, msd, multi_organ, nifti, nnunet, tcga_lgg, tcga_lgg_tif, volumes
from bundle.prepare.layouts.base import Layout

_MODULES = (brats, tcga_lgg, tcga_lgg_tif, msd, volumes, nifti, nnunet, bids, images, multi_organ)
LAYOUTS: dict[str, Layout] = {module.LAYOUT.name: module.LAYOUT for module in _MODULES}

__all__ = ["LAYOUTS", "Layout", "get_layout"]


def get_layout(name: str) -> Layout:
    """The layout called `name`.

    Raises:
        DataError: no such layout; lists those that there are.
    """
    if name not in LAYOUTS:
        raise DataError(f"layout {name!r} is unknown, expected one of {', '.join(LAYOUTS)}")
    return LAYOUTS[name]
