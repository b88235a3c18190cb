"""Image and label of a case must lie on one grid."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from brats_code.transforms.grids import describe_grid
from brats_code.transforms.grids import grid_differences
from brats_code.transforms.source_name import source_name

__all__ = ["CheckSameShaped"]


class CheckSameShaped(MapTransform):
    """
    Refuse a case whose arrays do not have the same spatial shape, or whose headers put them in different places.

    Reorientation turns every array by its own header: headers that disagree tear image and label apart. Must come
    before anything that changes a grid.

    Args:
        keys: arrays C×spatial, at least two. Volumes that are MetaTensors are compared by their affine matrices as
            well, within the tolerances of :func:`brats_code.transforms.grids.grid_differences`.

    Raises:
        ValueError: naming the keys and their shapes, or the files and their headers.

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

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        shapes = {key: tuple(data[key].shape[1:]) for key in self.keys}
        if len(set(shapes.values())) > 1:
            raise ValueError(
                "expected one spatial shape, got " + ", ".join(f"{key} {shape}" for key, shape in shapes.items())
            )
        volumes = [key for key in self.keys if isinstance(data[key], MetaTensor) and len(shapes[key]) == 3]
        grids = {key: (shapes[key], np.asarray(data[key].affine)) for key in volumes}
        for key in volumes[1:]:
            differs = grid_differences(*grids[volumes[0]], *grids[key])
            if differs:
                headers = [f"'{k}' ({source_name(data, k)}) has {describe_grid(*grids[k])}" for k in (volumes[0], key)]
                raise ValueError(
                    f"headers differ in {', '.join(differs)}: {headers[0]}; {headers[1]}; expected one grid"
                )
        return dict(data)
