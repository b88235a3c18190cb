"""Grids of volumes: affine matrices, resampling; and the bias field of MRI."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy.linalg import polar

from bundle.data.errors import DataError
from bundle.transforms.background import is_raw

# of direction cosines: what is taken as rounding where axes should be at right angles
MAX_SHEAR = 0.01
# what files call right, anterior and superior, ITK has as left, posterior and superior
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def image_affine(image: sitk.Image | sitk.ImageFileReader) -> np.ndarray:
    """4×4, from voxel indices of a volume to millimetres to the right, front and top, as NIfTI has it."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return _TO_RAS @ affine


def set_affine(image: sitk.Image, affine: np.ndarray) -> None:
    """Give a volume the geometry that :func:`image_affine` would return; the axes must be at right angles."""
    in_lps = _TO_RAS @ affine
    spacing = np.linalg.norm(in_lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(in_lps[:3, 3].tolist())
    image.SetDirection((in_lps[:3, :3] / spacing).ravel().tolist())


def right_angles(affine: np.ndarray) -> tuple[np.ndarray, float]:
    """The affine matrix with the nearest axes at right angles (polar decomposition), and how far they are off.

    Args:
        affine: 4×4, voxel indices to millimetres; no axis without an edge.

    Returns:
        4×4 with the same spacing and origin; the largest difference of a direction cosine.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / spacing
    nearest, _ = polar(directions)
    straight = np.array(affine, dtype=np.float64)
    straight[:3, :3] = nearest * spacing
    return straight, float(np.abs(nearest - directions).max())


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
        DataError: no voxel is positive, or somebody has normalised the volume already.
    """
    image = sitk.Cast(image, sitk.sitkFloat32)
    values = sitk.GetArrayViewFromImage(image)
    if not (values > 0).any():
        raise DataError("N4 bias-field correction needs positive intensities, found none")
    if not is_raw(values.T):
        raise DataError("N4 bias-field correction needs raw intensities, found some that were normalised before")
    stripped = float((values == 0).mean()) > 0.1
    mask = image > 0 if stripped else sitk.OtsuThreshold(image, 0, 1) * sitk.Cast(image > 0, sitk.sitkUInt8)
    # A B-spline field needs some samples along every axis: thin stacks are not shrunk along their slices.
    factors = [max(1, min(shrink, size // 8)) for size in image.GetSize()]
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations([50, 50, 30, 20])
    n4.Execute(sitk.Shrink(image, factors), sitk.Shrink(mask, factors))
    return sitk.Cast(image / sitk.Exp(sitk.Cast(n4.GetLogBiasFieldAsImage(image), sitk.sitkFloat32)), sitk.sitkFloat32)
