"""What layouts have in common: the record of a layout, and how cases of volumes are read, converted and measured."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from bundle.data.bounds import NIFTI_SUFFIXES
from bundle.data.errors import DataError
from bundle.data.file_checks import decode_nifti
from bundle.data.schema import is_name
from bundle.prepare.case_conversion import ConvertOptions, convert_case
from bundle.prepare.cases import SEG, CaseFiles, ConvertedCase
from bundle.prepare.volumes import as_label, read_volume


def read_default(case: CaseFiles, modality: str) -> sitk.Image:
    """The volume of a modality, or of the label for ``"seg"``, where each is a source of its own."""
    if modality == SEG:
        return as_label(read_volume(case.label), case.label)
    return read_volume(case.images[modality])


def convert_volumes(
    layout: Layout,
    case: CaseFiles,
    modalities: Sequence[str],
    output: Path,
    options: ConvertOptions,
    accept_mismatch: bool,
) -> ConvertedCase:
    """Volumes to ``OUTPUT/volumes/CASE/MODALITY.nii.gz``; see :attr:`Layout.convert`."""
    folder = output / "volumes" / case.case
    convert_case(case, modalities, folder, options, layout.read)
    return ConvertedCase([folder / f"{modality}.nii.gz" for modality in modalities], folder / f"{SEG}.nii.gz")


def tumour_volume(label: str | os.PathLike) -> float:
    """Volume of the label values above 0 of a NIfTI label map, in ml by the voxel size in its header."""
    voxel = float(np.prod(nib.load(label).header.get_zooms()[:3]))
    # label values may be off by the rounding of float32
    return float(np.count_nonzero(decode_nifti(label) > 0.5)) * voxel / 1000


@dataclass(frozen=True)
class Layout:
    """How a data set lies on disk.

    Attributes:
        name: as given on the command line.
        description: one line for the help text.
        modalities: the default choice; empty where the user must choose, or where the data set says them: then
            `discover` takes all that there are, in the order of the images of a case.
        labels: names by label value, where the cases do not tell.
        discover: (source, modalities) → cases and problems. A problem names the case folder and the expected file, and
            is a :class:`CaseProblem` where modalities are files of their own; a case with one is not among the cases.
        read: (case, modality or ``"seg"``) → 3-D volume. Used for the conversion of volumes only.
        nifti: files can be used where they lie; otherwise they are always converted.
        channels: names of the channels where one file holds all of them, else empty.
        task: task of the data list.
        label_type: of the data list, see :mod:`bundle.data.datalist`.
        volumes: cases are volumes, whose modalities and labels can be chosen and whose voxels can be changed.
        convert: (layout, case, modalities, output folder, what happens to voxels, whether tiles are taken whose nuclei
            are no darker than their surroundings) → the files of the case, converted.
        measure: (path of the label map) → size of a case, for the summary and for sites by size; 0 is warned about.
        size: what `measure` gives.
    """

    name: str
    description: str
    modalities: tuple[str, ...]
    labels: Mapping[int, str]
    discover: Callable[[Path, Sequence[str]], tuple[list[CaseFiles], Sequence[str]]]
    read: Callable[[CaseFiles, str], sitk.Image] = field(default=read_default)
    nifti: bool = True
    channels: tuple[str, ...] = ()
    task: str = "brats"
    label_type: str = "classes"
    volumes: bool = True
    convert: Callable[[Layout, CaseFiles, Sequence[str], Path, ConvertOptions, bool], ConvertedCase] = convert_volumes
    measure: Callable[[str], float] = tumour_volume
    size: str = "tumour volume (ml)"


def nifti_stem(path: str | os.PathLike) -> str:
    """
    >>> nifti_stem("images/p1.NII.gz"), nifti_stem("p2.nii")
    ('p1', 'p2')
    """
    name = Path(path).name
    return next(name[: -len(suffix)] for suffix in NIFTI_SUFFIXES if name.lower().endswith(suffix))


class CaseProblem(str):
    """
    What is wrong with a case, in a sentence.

    Attributes:
        case: its name.
    """

    case: str

    def __new__(cls, case: str, text: str) -> CaseProblem:
        problem = super().__new__(cls, text)
        problem.case = case
        return problem


def case_problem(name: str, source: Path, missing: Sequence[str], others: Sequence[str] = ()) -> CaseProblem | None:
    """What is wrong with a case whose files lie beside others'; None if nothing is."""
    found = "; ".join([f"missing {', '.join(missing)}"] if missing else others)
    if not found and not is_name(name):
        found = "its name must consist of letters, digits, '_', '-', '.', ' '"
    return CaseProblem(name, f"case {name} in {source}: {found}") if found else None


def case_folders(source: Path) -> list[Path]:
    """Folders below `source` that are cases: not hidden, and not what asyndgan prepare wrote there.

    Raises:
        DataError: `source` is no folder.
    """
    if not source.is_dir():
        raise DataError(f"{source}: no such folder, expected one with a folder per case")
    folders = sorted(folder for folder in source.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    written = ("datalist.json", "*/conversion.json", "volumes/*/conversion.json", "tiles/*/conversion.json")
    return [folder for folder in folders if not any(any(folder.glob(pattern)) for pattern in written)]
