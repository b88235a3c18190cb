"""What layouts have in common: the record of a case, and what a case's name says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import SimpleITK as sitk

from bundle.data.convert import NIFTI_SUFFIXES, as_label, read_volume
from bundle.data.errors import DataError
from bundle.data.schema import is_name

SEG = "seg"


@dataclass(frozen=True)
class CaseFiles:
    """One case on disk.

    Attributes:
        case: its name, unique in the data set.
        images: source by modality, in order: a file, a folder with a DICOM series or with slices. One 4-D file that
            holds all modalities stands under each of them.
        label: source of the label map.
        patient: cases of one patient never part.
        institution: where it was acquired, if the name tells.
        grade: ``"HGG"`` or ``"LGG"``, if the layout tells.
    """

    case: str
    images: Mapping[str, Path]
    label: Path
    patient: str
    institution: str | None = None
    grade: str | None = None


def read_default(case: CaseFiles, modality: str) -> sitk.Image:
    """The volume of a modality, or of the label for ``"seg"``, where each is a source of its own."""
    if modality == SEG:
        return as_label(read_volume(case.label), case.label)
    return read_volume(case.images[modality])


@dataclass(frozen=True)
class Layout:
    """How a data set lies on disk.

    Attributes:
        name: as given on the command line.
        description: one line for the help text.
        modalities: the default choice; empty where the user must choose.
        labels: names by label value.
        discover: (source, modalities) → cases and problems. A problem names the case folder and the expected file;
            a case with a problem is not among the cases.
        read: (case, modality or ``"seg"``) → 3-D volume. Used for conversion only.
        nifti: files can be used where they lie; otherwise they are always converted.
        channels: names of the channels where one file holds all of them, else empty.
    """

    name: str
    description: str
    modalities: tuple[str, ...]
    labels: Mapping[int, str]
    discover: Callable[[Path, Sequence[str]], tuple[list[CaseFiles], list[str]]]
    read: Callable[[CaseFiles, str], sitk.Image] = field(default=read_default)
    nifti: bool = True
    channels: tuple[str, ...] = ()


# Visit numbers end the names of BraTS 2017-2019 (institution, patient, visit) and of 2023 onwards (patient, visit).
_BRATS = re.compile(r"brats\d{2}_(?P<institution>[a-z0-9]+)_[a-z0-9]+(?=_\d+$)", re.IGNORECASE)
_BRATS_2023 = re.compile(r"brats-[a-z]+-\d+(?=-\d+$)", re.IGNORECASE)
# https://docs.gdc.cancer.gov/Encyclopedia/pages/TCGA_Barcode/: project, tissue source site, participant
_TCGA = re.compile(r"TCGA[-_](?P<institution>[A-Z0-9]{2})[-_][A-Z0-9]{4}")
_PHANTOM = re.compile(r"Phantom_(?P<institution>\w+?)_\d+")


def parse_name(case: str) -> tuple[str, str | None]:
    """Patient and institution that a case's name tells.

    ``Brats18_CBICA_AAB_1`` → ``Brats18_CBICA_AAB``, ``CBICA``; ``TCGA_CS_4941_19960909`` → ``TCGA_CS_4941``, ``CS``;
    ``Phantom_A_001`` → itself, ``A``; any other name → itself, None.
    """
    for pattern in (_BRATS, _TCGA, _PHANTOM):
        match = pattern.match(case)
        if match:
            return match.group(), match.group("institution")
    match = _BRATS_2023.match(case)
    return (match.group() if match else case), None


def case_folders(source: Path) -> list[Path]:
    """Folders below `source` that are cases: not hidden, and not what scripts/prepare_data.py wrote there.

    Raises:
        DataError: `source` is no folder.
    """
    if not source.is_dir():
        raise DataError(f"{source}: no such folder, expected one with a folder per case")
    folders = sorted(folder for folder in source.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    written = ("datalist.json", "*/conversion.json", "volumes/*/conversion.json")
    return [folder for folder in folders if not any(any(folder.glob(pattern)) for pattern in written)]


def find_nifti_cases(
    folders: Sequence[Path], modalities: Sequence[str], grade: str | None = None
) -> tuple[list[CaseFiles], list[str]]:
    """Cases ``CASE/CASE_{modality,seg}.nii.gz`` (or ``.nii``) in the given folders; see :attr:`Layout.discover`."""
    cases, problems = [], []
    for folder in folders:
        name = folder.name
        found, missing = {}, []
        for modality in (*modalities, SEG):
            candidates = [folder / f"{name}_{modality}{suffix}" for suffix in NIFTI_SUFFIXES]
            path = next((path for path in candidates if path.is_file()), None)
            if path is None:
                missing.append(candidates[0].name)
            found[modality] = path
        if missing:
            problems.append(f"case folder {folder}: missing {', '.join(missing)} (or .nii)")
        elif not is_name(name):
            problems.append(f"case folder {folder}: its name must consist of letters, digits, '_', '-', '.', ' '")
        else:
            label = found.pop(SEG)
            patient, institution = parse_name(name)
            cases.append(CaseFiles(name, found, label, patient, institution, grade))
    return cases, problems
