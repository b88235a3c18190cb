"""Grids of volumes: agreement, resampling; and the bias field of MRI."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import SimpleITK as sitk

from bundle.data.errors import DataError


def check_same_grid(images: Mapping[str, sitk.Image], case: str) -> None:
    """Volumes of a case must lie voxel on voxel.

    Sizes must be equal; spacing may differ by 1 % and the direction cosines by 0.01, as exporters round them;
    the origin by a tenth of a voxel.

    Args:
        images: volumes by name; the first is the reference.
        case: for the message.

    Raises:
        DataError: names the volumes and what differs.
    """
    (reference_name, reference), *others = images.items()
    spacing = np.array(reference.GetSpacing())
    for name, image in others:
        checks = {
            "size": image.GetSize() == reference.GetSize(),
            "spacing": np.allclose(image.GetSpacing(), spacing, rtol=0.01, atol=0),
            "direction": np.allclose(image.GetDirection(), reference.GetDirection(), rtol=0, atol=0.01),
            "origin": bool(np.all(np.abs(np.subtract(image.GetOrigin(), reference.GetOrigin())) <= 0.1 * spacing)),
        }
        for what, same in checks.items():
            if not same:
                values = [getattr(volume, f"Get{what.capitalize()}")() for volume in (reference, image)]
                raise DataError(
                    f"case {case}: {what} of {reference_name} is {_short(values[0])}, of {name} {_short(values[1])}; "
                    "expected the same grid. Use --resample MM to bring all of them onto the grid of the first modality"
                )


def isotropic_grid(reference: sitk.Image, millimetres: float) -> sitk.Image:
    """An empty volume with cubic voxels that covers the same space as `reference`, edge to edge.

    Args:
        reference: volume whose orientation and extent are kept.
        millimetres: edge of a voxel, > 0.
    """
    spacing, size = np.array(reference.GetSpacing()), np.array(reference.GetSize())
    new_size = np.maximum(1, np.rint(size * spacing / millimetres)).astype(int)
    # Origins are voxel centres: half of the difference in size keeps the outer edge where it was.
    shift = np.array(reference.GetDirection()).reshape(3, 3) @ ((millimetres - spacing) / 2)
    grid = sitk.Image(new_size.tolist(), sitk.sitkUInt8)
    grid.SetSpacing([float(millimetres)] * 3)
    grid.SetOrigin((np.array(reference.GetOrigin()) + shift).tolist())
    grid.SetDirection(reference.GetDirection())
    return grid


def resample(image: sitk.Image, grid: sitk.Image, label: bool = False) -> sitk.Image:
    """`image` on another grid: linear and float32, or nearest neighbour and the same type for labels; 0 outside."""
    interpolator = sitk.sitkNearestNeighbor if label else sitk.sitkLinear
    pixel_type = image.GetPixelID() if label else sitk.sitkFloat32
    return sitk.Resample(image, grid, sitk.Transform(), interpolator, 0.0, pixel_type)


def correct_bias(image: sitk.Image, shrink: int = 4) -> sitk.Image:
    """N4 bias-field correction (Tustison et al. 2010, https://doi.org/10.1109/TMI.2010.2046908).

    The field is estimated on a grid that is `shrink` times coarser and applied at full resolution. The mask is
    every positive voxel of a skull-stripped volume (at least a tenth of it exactly 0), else Otsu's threshold.
    Voxels that are 0 stay 0.

    Args:
        image: 3-D volume of any scalar type; the field is multiplicative, so it is estimated on positive values.
        shrink: factor >= 1, limited on axes with few slices.

    Returns:
        float32 volume on the same grid.

    Raises:
        DataError: no voxel is positive.
    """
    image = sitk.Cast(image, sitk.sitkFloat32)
    values = sitk.GetArrayViewFromImage(image)
    if not (values > 0).any():
        raise DataError("N4 bias-field correction needs positive intensities, found none")
    stripped = float((values == 0).mean()) > 0.1
    mask = image > 0 if stripped else sitk.OtsuThreshold(image, 0, 1) * sitk.Cast(image > 0, sitk.sitkUInt8)
    # A B-spline field needs some samples along every axis: thin stacks are not shrunk along their slices.
    factors = [max(1, min(shrink, size // 8)) for size in image.GetSize()]
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations([50, 50, 30, 20])
    n4.Execute(sitk.Shrink(image, factors), sitk.Shrink(mask, factors))
    return sitk.Cast(image / sitk.Exp(sitk.Cast(n4.GetLogBiasFieldAsImage(image), sitk.sitkFloat32)), sitk.sitkFloat32)


def _short(values: tuple) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"
