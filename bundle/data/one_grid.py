"""The volumes of a case must lie voxel on voxel: what their headers say of it, and who is right where they disagree.

Nobody can tell by the files which of two headers is wrong when the arrays have the same shape: that of a label that was
saved from an array is often none at all. So a user says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import SimpleITK as sitk

from bundle.data.errors import DataError
from bundle.data.geometry import image_affine, resample
from bundle.transforms.grids import describe_grid, grid_differences

LABEL_ARRAY, IMAGE_HEADER = TRUST = ("label-array", "image-header")
REMEDY = "asyndgan prepare --trust says whether the arrays or the headers are right"
# share of a label's volume that must be left on another grid
MIN_KEPT = 0.5

Grid = tuple[Sequence[int], np.ndarray]
"""Voxels along three axes, and the 4×4 matrix from their indices to millimetres."""


def grid_problem(grids: Mapping[str, Grid]) -> str | None:
    """What is wrong with the grids of one case, in a sentence that shows both headers; None if they are one grid.

    Args:
        grids: by the name of the file; the first is the reference.
    """
    (reference, grid), *others = grids.items()
    for name, other in others:
        differs = grid_differences(*grid, *other)
        if differs:
            return (
                f"headers differ in {', '.join(differs)}: {reference} has {describe_grid(*grid)}; {name} has "
                f"{describe_grid(*other)}; expected one grid ({REMEDY})"
            )
    return None


def check_headers(volumes: Mapping[str, sitk.Image], only_same_shape: bool = False) -> None:
    """Refuse volumes whose headers disagree.

    Args:
        volumes: by name; the first is the reference.
        only_same_shape: volumes of different shapes may disagree, for they are about to be resampled. Where two arrays
            of the same shape have different headers, the headers may be wrong, and resampling would believe them.

    Raises:
        DataError: showing both headers.
    """
    grids = {name: (volume.GetSize(), image_affine(volume)) for name, volume in volumes.items()}
    if only_same_shape:
        compared = [dict(pair) for pair in combinations(grids.items(), 2) if pair[0][1][0] == pair[1][1][0]]
    else:
        compared = [grids]
    for problem in filter(None, map(grid_problem, compared)):
        raise DataError(problem)


def with_header_of_first(volumes: Mapping[str, sitk.Image]) -> dict[str, sitk.Image]:
    """The same voxels, all with the header of the first volume.

    Raises:
        DataError: arrays of different shapes do not lie voxel on voxel.
    """
    reference = next(iter(volumes.values()))
    shapes = {name: "×".join(map(str, volume.GetSize())) for name, volume in volumes.items()}
    if len(set(shapes.values())) > 1:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise DataError(f"arrays of different shapes cannot lie voxel on voxel: {found}; expected one shape")
    copies = {name: sitk.Image(volume) for name, volume in volumes.items()}
    for copy in copies.values():
        copy.CopyInformation(reference)
    return copies


def onto_first(volumes: Mapping[str, sitk.Image], label: str) -> dict[str, sitk.Image]:
    """Volumes that lie elsewhere resampled onto the grid of the first, by their headers; the others as they are."""
    reference = next(iter(volumes.values()))
    here = (reference.GetSize(), image_affine(reference))
    return {
        name: resample(volume, reference, label=name == label)
        if grid_differences(*here, volume.GetSize(), image_affine(volume))
        else volume
        for name, volume in volumes.items()
    }


def check_label_kept(before: sitk.Image, after: sitk.Image) -> None:
    """Refuse a label map that lost its foreground on the way to another grid.

    Raises:
        DataError: less than half of its volume is left.
    """
    volumes = [
        float(np.count_nonzero(sitk.GetArrayViewFromImage(image))) * float(np.prod(image.GetSpacing())) / 1000
        for image in (before, after)
    ]
    if volumes[1] < MIN_KEPT * volumes[0]:
        raise DataError(
            f"of {volumes[0]:.4g} ml of the label {volumes[1]:.4g} ml are left on the grid of the first modality, "
            f"expected at least {MIN_KEPT:.0%}: by its header it lies elsewhere, or the new voxels are too large for it"
        )
