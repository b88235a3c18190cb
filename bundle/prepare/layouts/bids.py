"""BIDS with masks among its derivatives: ``sub-ID[/ses-ID]/anat/…_FLAIR.nii.gz``, and
``derivatives/PIPELINE/sub-ID[/ses-ID]/anat/…_{mask,dseg}.nii.gz``.

A case is a session, a patient a subject. Masks of the brain (``desc-brain``, ``label-brain``) are none of a lesion.

Source: Gorgolewski et al. 2016, https://doi.org/10.1038/sdata.2016.44, and https://bids-specification.readthedocs.io.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bundle.data.bounds import NIFTI_SUFFIXES
from bundle.data.errors import DataError
from bundle.inputs import list_files
from bundle.prepare.cases import SEG, CaseFiles
from bundle.prepare.layouts.base import Layout, case_problem, nifti_stem

# BIDS's suffix, and whether it is after a contrast agent (the entity ce), by our name
MODALITIES = {"flair": ("FLAIR", False), "t1": ("T1w", False), "t1ce": ("T1w", True), "t2": ("T2w", False)}
MASKS = ("mask", "dseg")
_OF_THE_BRAIN = ("desc-brain", "label-brain")


def discover(source: Path, modalities: Sequence[str]) -> tuple[list[CaseFiles], Sequence[str]]:
    """See :attr:`bundle.prepare.layouts.base.Layout.discover`."""
    if unknown := [modality for modality in modalities if modality not in MODALITIES]:
        raise DataError(f"layout bids has no {', '.join(unknown)}, expected some of {', '.join(MODALITIES)}")
    cases, problems = [], []
    for place in _sessions(source):
        name = "_".join(place.parts)
        images = list_files(source / place / "anat", NIFTI_SUFFIXES)
        if not images:  # a session without anatomy is no case
            continue
        found = {modality: [path for path in images if _shows(path, modality)] for modality in modalities}
        found[SEG] = _masks(source, place)
        missing = [_expected(place, modality) for modality, paths in found.items() if not paths]
        several = [f"{', '.join(Path(p).name for p in paths)}: expected one" for paths in found.values() if paths[1:]]
        if problem := case_problem(name, source, missing, several):
            problems.append(problem)
        else:
            files = {modality: Path(path) for modality, (path,) in found.items()}
            label = files.pop(SEG)
            cases.append(CaseFiles(name, files, label, place.parts[0]))
    return cases, problems


def _sessions(source: Path) -> list[Path]:
    """``sub-ID`` or ``sub-ID/ses-ID``, relative to the source."""
    subjects = sorted(path for path in source.glob("sub-*") if path.is_dir())
    sessions = [sorted(path for path in subject.glob("ses-*") if path.is_dir()) for subject in subjects]
    found = [place for subject, own in zip(subjects, sessions, strict=True) for place in (own or [subject])]
    return [place.relative_to(source) for place in found]


def _shows(path: str, modality: str) -> bool:
    *entities, suffix = nifti_stem(path).split("_")
    return (suffix, any(entity.startswith("ce-") for entity in entities)) == MODALITIES[modality]


def _masks(source: Path, place: Path) -> list[str]:
    pipelines = sorted(path for path in (source / "derivatives").glob("*") if path.is_dir())
    folders = [root / place / "anat" for root in (source / "derivatives", *pipelines)]
    found = [path for folder in folders for path in list_files(folder, NIFTI_SUFFIXES)]
    entities = ((path, nifti_stem(path).split("_")) for path in found)
    return [path for path, own in entities if own[-1] in MASKS and not set(own) & set(_OF_THE_BRAIN)]


def _expected(place: Path, modality: str) -> str:
    name = "_".join(place.parts)
    if modality == SEG:
        return f"derivatives/PIPELINE/{place.as_posix()}/anat/{name}_…_mask.nii.gz (or _dseg)"
    suffix, contrast = MODALITIES[modality]
    return f"{place.as_posix()}/anat/{name}{'_ce-…' if contrast else ''}_{suffix}.nii.gz"


LAYOUT = Layout(
    name="bids",
    description="BIDS: sub-ID[/ses-ID]/anat/…_FLAIR.nii.gz, and a mask derivatives/PIPELINE/sub-ID/anat/…_mask.nii.gz",
    modalities=("flair",),
    labels={0: "background", 1: "lesion"},
    discover=discover,
    size="lesion volume (ml)",
)
