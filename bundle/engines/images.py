"""Synthetic images as files that the preprocessing of a task reads like its real ones."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

__all__ = ["write_nifti_slice"]


def write_nifti_slice(path: Path, image: np.ndarray) -> None:
    """
    Write a 2-D image as a volume of one slice.

    Args:
        path: file to write, ``.nii`` or ``.nii.gz``.
        image: C×H×W; several channels become the fourth axis, as in the Medical Segmentation Decathlon. The spacing is
            1: a synthetic image has no physical size.
    """
    volume = np.moveaxis(image, 0, -1)[:, :, np.newaxis]
    nib.save(nib.Nifti1Image(volume[..., 0] if len(image) == 1 else volume, np.eye(4)), path)
