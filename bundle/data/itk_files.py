"""Image files as ITK reads them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from bundle.data.bounds import check_file, check_size
from bundle.data.errors import DataError


def read_array(path: str | os.PathLike) -> np.ndarray:
    """Pixels of any image file that ITK reads, array axes slowest first: (rows, columns[, 3]) for a slice.

    Raises:
        DataError: unreadable, or beyond the bounds of :mod:`bundle.data.bounds`.
    """
    path = Path(path)
    check_file(path)
    return sitk.GetArrayFromImage(read_itk(path))


def read_itk(path: Path) -> sitk.Image:
    """The image of a file, of any dimension and pixel type.

    Raises:
        DataError: unreadable, or larger than :mod:`bundle.data.bounds` has it.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(os.fspath(path))
    try:
        reader.ReadImageInformation()
        check_size(reader.GetSize(), path)
        return reader.Execute()
    except RuntimeError as error:
        raise DataError(f"{path}: unreadable, expected an image that ITK can read ({last_line(error)})") from error


def last_line(error: Exception) -> str:
    """What ITK says last is what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
