"""Synthetic images as files that the preprocessing of a task reads like its real ones."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

__all__ = ["write_nifti_slice", "write_nifti_volume", "write_png"]


def write_nifti_slice(path: Path, image: np.ndarray) -> None:
    """
    Write a 2-D image as a volume of one slice.

    Args:
        path: file to write, ``.nii`` or ``.nii.gz``.
        image: C×H×W; several channels become the fourth axis, as in the Medical Segmentation Decathlon. The spacing is
            1: a synthetic image has no physical size.
    """
    write_nifti_volume(path, image[..., np.newaxis])


def write_nifti_volume(path: Path, image: np.ndarray) -> None:
    """
    Write a volume, as :func:`write_nifti_slice` does with a slice.

    Args:
        path: file to write, ``.nii`` or ``.nii.gz``.
        image: C×H×W×D, up to 32,767 along an axis.
    """
    volume = np.moveaxis(image, 0, -1)
    nib.save(nib.Nifti1Image(volume[..., 0] if len(image) == 1 else volume, np.eye(4)), path)


def write_png(path: Path, image: np.ndarray) -> None:
    """
    Write a 2-D image as PNG, without loss but for the rounding of fractions.

    Args:
        path: file to write.
        image: C×X×Y as MONAI reads pictures (x to the right, y downwards), C = 1 or 3; uint8, or floating in 0-255,
            which is rounded and clipped.

    Raises:
        ValueError: for another number of channels or another dtype.
    """
    if image.ndim != 3 or len(image) not in (1, 3):
        raise ValueError(f"{path}: expected an image of 1 or 3 channels, got shape {image.shape}")
    if image.dtype.kind == "f":
        image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    elif image.dtype != np.uint8:
        raise ValueError(f"{path}: expected uint8 or floating values, got {image.dtype}")
    rows = image.transpose(2, 1, 0)
    Image.fromarray(rows[..., 0] if len(image) == 1 else rows).save(path, format="PNG")
