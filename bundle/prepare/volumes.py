"""Reading volumes of any format, writing them as NIfTI. SimpleITK images are the currency between the two.

DICOM goes through :mod:`bundle.prepare.dicom`, everything else through SimpleITK.
"""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from bundle.data.bounds import DICOM_SUFFIXES, NIFTI_SUFFIXES, check_file, has_suffix
from bundle.data.errors import DataError
from bundle.data.geometry import MAX_SHEAR, right_angles, set_affine
from bundle.data.itk_files import last_line, read_itk
from bundle.files import atomic_path
from bundle.prepare.dicom import read_dicom
from bundle.transforms.whole_numbers import whole_numbers


def read_volume(path: str | os.PathLike) -> sitk.Image:
    """A 3-D scalar volume from one file, or from a folder that holds one DICOM series.

    Header fields beyond the geometry (names, dates, identifiers) are left behind.

    Raises:
        DataError: unreadable, beyond the bounds of :mod:`bundle.data.bounds`, or not a 3-D scalar volume.
    """
    path = Path(path)
    if path.is_dir() or has_suffix(path, DICOM_SUFFIXES):
        return read_dicom(path)
    check_file(path)
    if has_suffix(path, NIFTI_SUFFIXES):
        try:
            image = sitk.ReadImage(os.fspath(path))
        except RuntimeError as error:
            image = _read_sheared(path, error)
    else:
        image = read_itk(path)
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise DataError(
            f"{path}: has {image.GetDimension()} dimensions and {image.GetNumberOfComponentsPerPixel()} components, "
            "expected a 3-D volume with one component"
        )
    if image.GetPixelID() in (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64):
        raise DataError(f"{path}: holds complex numbers, expected one real number per voxel (the magnitude of MRI)")
    return _without_metadata(image, path)


def read_channel(path: str | os.PathLike, channel: int) -> sitk.Image:
    """One channel of a 4-D NIfTI file as a 3-D volume; the other channels are not decoded where the file allows.

    Raises:
        DataError: unreadable, not 4-D, or without that channel.
    """
    check_file(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(os.fspath(path))
    try:
        reader.ReadImageInformation()
        size = reader.GetSize()
        if len(size) != 4 or not 0 <= channel < size[3]:
            raise DataError(f"{path}: has shape {tuple(size)}, expected four dimensions with channel {channel} last")
        reader.SetExtractSize([*size[:3], 0])
        reader.SetExtractIndex([0, 0, 0, channel])
        image = reader.Execute()
    except RuntimeError as error:
        image = _read_sheared(Path(path), error, channel)
    return _without_metadata(image, path)


def write_nifti(image: sitk.Image, path: str | os.PathLike) -> None:
    """Write a volume as (compressed) NIfTI, atomically, with its geometry and nothing else in the header.

    Raises:
        OSError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        try:
            sitk.WriteImage(image, os.fspath(temporary), useCompression=True)
        except RuntimeError as error:
            raise OSError(f"{path}: cannot be written ({last_line(error)})") from error


def read_picture(path: str | os.PathLike) -> sitk.Image:
    """A 2-D grey image of 8 or 16 bits, such as a PNG; resolutions, which its label may say otherwise, are left behind.

    Raises:
        DataError: unreadable, beyond the bounds of :mod:`bundle.data.bounds`, or coloured.
    """
    image = read_itk(Path(path))
    if image.GetDimension() == 3 and image.GetSize()[2] == 1:  # a TIFF of one page
        image = image[:, :, 0]
    components = image.GetNumberOfComponentsPerPixel()
    if image.GetDimension() != 2 or components != 1:
        raise DataError(
            f"{path}: has {image.GetDimension()} dimensions and {components} components, expected a grey image: 2 and 1"
        )
    return sitk.GetImageFromArray(sitk.GetArrayFromImage(image))


def as_label(image: sitk.Image, origin: str | os.PathLike) -> sitk.Image:
    """A label volume as uint8.

    Args:
        image: values must be whole numbers in 0..255 within the rounding of float32, of any pixel type.
        origin: where the label came from, for the message.

    Raises:
        DataError: fractions, or values outside 0..255.
    """
    values = whole_numbers(sitk.GetArrayViewFromImage(image))
    if values is None:
        raise DataError(f"{origin}: label holds fractions, expected whole numbers")
    if values.min() < 0 or values.max() > 255:
        raise DataError(f"{origin}: label values run from {values.min()} to {values.max()}, expected 0 to 255")
    label = sitk.GetImageFromArray(values.astype(np.uint8))
    label.CopyInformation(image)
    return label


def _without_metadata(image: sitk.Image, path: str | os.PathLike) -> sitk.Image:
    try:
        for key in image.GetMetaDataKeys():
            image.EraseMetaData(key)
    except TypeError as error:
        raise DataError(f"{path}: damaged, expected a header whose fields are named in text") from error
    return image


def _read_sheared(path: Path, error: RuntimeError, channel: int | None = None) -> sitk.Image:
    """A NIfTI volume whose axes are nearly at right angles, which ITK refuses; any other error is passed on."""
    if "orthonormal" not in str(error):
        raise DataError(f"{path}: unreadable or truncated, expected a NIfTI volume ({last_line(error)})") from error
    stored = nib.load(path)
    affine, shear = right_angles(stored.affine)
    if shear > MAX_SHEAR:
        raise DataError(
            f"{path}: its axes are not at right angles (direction cosines are off by {shear:.2g}, up to {MAX_SHEAR} is "
            "taken as rounding); resample the volume onto a grid with right angles first, as 3D Slicer and "
            "nibabel.processing.resample_to_output do"
        ) from error
    if len(stored.shape) != (3 if channel is None else 4) or (channel is not None and channel >= stored.shape[3]):
        expected = "three dimensions" if channel is None else f"four dimensions with channel {channel} last"
        raise DataError(f"{path}: has shape {stored.shape}, expected {expected}") from error
    try:
        voxels = np.asanyarray(stored.dataobj if channel is None else stored.dataobj[..., channel])
        image = sitk.GetImageFromArray(voxels.T)
    except Exception as cause:  # nibabel, gzip and zlib raise a dozen types for damaged files
        raise DataError(f"{path}: unreadable or truncated, expected a NIfTI volume ({last_line(cause)})") from cause
    set_affine(image, affine)
    return image
