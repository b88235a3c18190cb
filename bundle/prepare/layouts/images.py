"""2-D grey images, such as X-rays: ``images/CASE.EXT``, and ``labels/CASE.EXT`` or ``labels/CASE_mask.EXT``.

A training reads each as a volume of one slice, whose axes run to the right and upwards in the image as it is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from bundle.data.errors import DataError
from bundle.data.file_checks import decode_nifti
from bundle.data.schema import is_name
from bundle.inputs import list_files, pair_files
from bundle.prepare.cases import SEG, CaseFiles
from bundle.prepare.layouts.base import Layout
from bundle.prepare.layouts.naming import parse_name
from bundle.prepare.volumes import as_label, read_picture

LOSSLESS = (".png", ".tif", ".tiff", ".bmp")
SUFFIXES = (*LOSSLESS, ".jpg", ".jpeg")
"""A label's values do not survive JPEG."""
# right and upwards: RAS of the picture, a rotation of ITK's axes
_DIRECTION = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def discover(source: Path, modalities: Sequence[str]) -> tuple[list[CaseFiles], Sequence[str]]:
    """See :attr:`bundle.prepare.layouts.base.Layout.discover`."""
    if len(modalities) != 1:
        raise DataError(f"modalities are {', '.join(modalities)}, expected one: a grey image has one channel")
    try:
        pairs = pair_files(
            ["images", "labels"],
            image=list_files(source / "images", SUFFIXES),
            label=list_files(source / "labels", LOSSLESS),
        )
    except ValueError as error:
        raise DataError(f"{source}: {error}") from error
    cases, problems = [], []
    for pair in pairs:
        image, label = Path(pair["image"]), Path(pair["label"])
        if is_name(image.stem):
            patient, institution = parse_name(image.stem)
            cases.append(CaseFiles(image.stem, {modalities[0]: image}, label, patient, institution))
        else:
            problems.append(f"{image}: its name must consist of letters, digits, '_', '-', '.', ' '")
    return cases, problems


def read(case: CaseFiles, modality: str) -> sitk.Image:
    """The image of a case, or its label for ``"seg"``, as a volume of one slice; a pixel is 1 mm wide."""
    path = case.label if modality == SEG else case.images[modality]
    image = sitk.JoinSeries(read_picture(path))
    image.SetDirection(_DIRECTION)
    return as_label(image, path) if modality == SEG else image


def labelled_pixels(label: str) -> float:
    """Pixels above 0 of a label map."""
    return float(np.count_nonzero(decode_nifti(label)))


LAYOUT = Layout(
    name="images",
    description="images/CASE.EXT (grey PNG, TIFF, BMP, JPEG; 8 or 16 bits) and labels/CASE.EXT or labels/CASE_mask.EXT",
    modalities=("grey",),
    labels={0: "background", 1: "foreground"},
    discover=discover,
    read=read,
    nifti=False,
    task="images",
    measure=labelled_pixels,
    size="labelled pixels",
)
