"""TCGA-LGG as published (Buda et al. 2019, Kaggle "lgg-mri-segmentation"): slices ``CASE/CASE_N.tif`` + ``_mask.tif``.

Slices are RGB, uint8: pre-contrast T1, FLAIR, post-contrast T1; masks are 0 or 255. Voxel sizes are not published:
the volumes get cubes of 1 mm. Row 0 is anterior, column 0 the patient's right.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from bundle.data.errors import DataError
from bundle.data.itk_files import read_array
from bundle.prepare.cases import SEG, CaseFiles
from bundle.prepare.layouts.base import Layout, case_folders
from bundle.prepare.layouts.naming import parse_name
from bundle.prepare.layouts.tcga_lgg import LABELS

CHANNELS = ("t1", "flair", "t1ce")


def slice_files(folder: Path) -> list[Path]:
    """The image slices of a case, in the order of their numbers (lexical order would put 10 before 2).

    Raises:
        DataError: no slices, a number is missing, or a mask is.
    """
    pattern = re.compile(re.escape(folder.name) + r"_(\d+)\.tif")
    numbered = sorted((int(match[1]), path) for path in folder.iterdir() if (match := pattern.fullmatch(path.name)))
    if not numbered:
        raise DataError(f"case folder {folder}: no slices, expected {folder.name}_1.tif and so on")
    present = {number for number, _ in numbered}
    absent = sorted(set(range(min(present), max(present) + 1)) - present)
    missing = [f"{folder.name}_{number}.tif" for number in absent]
    masks = [path.with_name(f"{path.stem}_mask.tif") for _, path in numbered]
    missing += [mask.name for mask in masks if not mask.is_file()]
    if missing:
        raise DataError(f"case folder {folder}: missing {', '.join(missing)}")
    return [path for _, path in numbered]


def discover(source: Path, modalities: Sequence[str]) -> tuple[list[CaseFiles], Sequence[str]]:
    """See :attr:`bundle.prepare.layouts.base.Layout.discover`."""
    unknown = [modality for modality in modalities if modality not in CHANNELS]
    if unknown:
        raise DataError(f"layout tcga_lgg_tif has no {', '.join(unknown)}, expected some of {', '.join(CHANNELS)}")
    cases, problems = [], []
    for folder in case_folders(source):
        try:
            slice_files(folder)
        except DataError as error:
            problems.append(str(error))
            continue
        patient, institution = parse_name(folder.name)
        cases.append(CaseFiles(folder.name, dict.fromkeys(modalities, folder), folder, patient, institution))
    return cases, problems


def read(case: CaseFiles, modality: str) -> sitk.Image:
    """The slices of a case as a volume: uint8, labels 0 and 1.

    Raises:
        DataError: an unreadable slice, one of another shape, no RGB, or a mask with values other than 0 and 255.
    """
    files = slice_files(case.label)
    if modality == SEG:
        slices = [_mask(path.with_name(f"{path.stem}_mask.tif")) for path in files]
    else:
        slices = [_channel(path, CHANNELS.index(modality)) for path in files]
    for path, pixels in zip(files, slices, strict=True):
        if pixels.shape != slices[0].shape:
            raise DataError(f"{path}: has shape {pixels.shape}, expected {slices[0].shape} as in {files[0].name}")
    return sitk.GetImageFromArray(np.stack(slices))


def _channel(path: Path, channel: int) -> np.ndarray:
    pixels = read_array(path)
    if pixels.ndim != 3 or pixels.shape[2] != len(CHANNELS):
        raise DataError(f"{path}: has shape {pixels.shape}, expected rows, columns and 3 channels")
    return pixels[..., channel]


def _mask(path: Path) -> np.ndarray:
    pixels = read_array(path)
    if not np.isin(pixels, (0, 255)).all() or pixels.ndim != 2:
        raise DataError(f"{path}: expected a mask of rows and columns with values 0 and 255 only")
    return (pixels > 0).astype(np.uint8)


LAYOUT = Layout(
    name="tcga_lgg_tif",
    description="TCGA-LGG as published: slices CASE/CASE_N.tif (t1, flair, t1ce as RGB) and CASE_N_mask.tif",
    modalities=("flair",),
    labels=LABELS,
    discover=discover,
    read=read,
    nifti=False,
)
