"""The modalities of a case must lie on one grid before they become channels of one image."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
from monai.config import KeysCollection
from monai.transforms import LoadImage, MapTransform

from bundle.transforms.grids import describe_grid, grid_differences

__all__ = ["CheckOneGridd"]


class CheckOneGridd(MapTransform):
    """
    Refuse files of one image whose headers put them on different grids.

    MONAI's readers stack them as channels: they refuse other shapes and affine matrices as well, and name no file.
    Must come before ``LoadImaged``. Of NIfTI files headers are read only.

    Args:
        keys: where an item has a list of paths; one path, and an array in the place of files, pass.

    Raises:
        ValueError: naming two files and their headers.

    Example:
        >>> CheckOneGridd("image")({"image": "flair.nii.gz"})
        {'image': 'flair.nii.gz'}
    """

    def __init__(self, keys: KeysCollection) -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        for key in self.keys:
            files = data.get(key)
            if isinstance(files, list | tuple) and all(isinstance(file, str | os.PathLike) for file in files):
                _check([str(file) for file in files])
        return dict(data)


def _check(files: list[str]) -> None:
    grids = [_grid(file) for file in files] if len(files) > 1 else []
    for file, grid in zip(files[1:], grids[1:], strict=False):
        differs = grid_differences(*grids[0], *grid)
        # to the last digits, as MONAI's readers have it
        if not differs and not np.allclose(grid[1], grids[0][1]):
            differs = ["rounding"]
        if differs:
            raise ValueError(
                f"headers differ in {', '.join(differs)}: {files[0]} has {describe_grid(*grids[0])}; {file} has "
                f"{describe_grid(*grid)}; expected the files of one image on one grid: resample them onto that of one"
            )


def _grid(file: str) -> tuple[tuple[int, ...], np.ndarray]:
    if Path(file).name.lower().endswith((".nii", ".nii.gz")):
        image = nib.load(file)
        return tuple(image.shape[:3]), image.affine
    volume = LoadImage(image_only=True)(file)
    return tuple(volume.shape[:3]), np.asarray(volume.affine)
