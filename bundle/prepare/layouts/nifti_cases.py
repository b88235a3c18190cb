"""Cases whose files lie as NIfTI in a folder of the case's name, or side by side in one folder."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from bundle.data.bounds import NIFTI_SUFFIXES, has_suffix
from bundle.data.schema import is_name
from bundle.prepare.cases import SEG, CaseFiles
from bundle.prepare.layouts.base import CaseProblem
from bundle.prepare.layouts.naming import NAMINGS, Naming, parse_name

logger = logging.getLogger(__name__)


def find_nifti_cases(
    folders: Iterable[Path], modalities: Sequence[str], grade: str | None = None
) -> tuple[list[CaseFiles], Sequence[str]]:
    """Cases ``CASE/CASE_{modality,seg}.nii.gz`` (or ``.nii``) in the given folders; see :attr:`Layout.discover`.

    Files may be called as any of :data:`NAMINGS` has it. Where only the label map is missing and one other file of the
    folder has "seg" in its name, it is that one, and the log says so (BraTS20_Training_355).
    """
    return _split(_find(folder, folder.name, f"case folder {folder}", modalities, grade) for folder in folders)


def find_flat_cases(folder: Path, modalities: Sequence[str]) -> tuple[list[CaseFiles], Sequence[str]]:
    """Cases whose files lie side by side in one folder: ``CASE_{modality,seg}.nii.gz``."""
    names = set()
    endings = [naming.ending(name) for naming in NAMINGS for name in (*modalities, SEG)]
    for path in _nifti_files(folder):
        stem = path.name[: -len(".nii.gz" if has_suffix(path, (".gz",)) else ".nii")]
        names |= {stem.removesuffix(ending) for ending in endings if stem.endswith(ending)}
    return _split(_find(folder, name, f"case {name} in {folder}", modalities) for name in sorted(names))


def _nifti_files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and has_suffix(path, NIFTI_SUFFIXES) and not path.name.startswith(".")
    )


def _split(found: Iterable[CaseFiles | CaseProblem]) -> tuple[list[CaseFiles], Sequence[str]]:
    found = list(found)
    return [case for case in found if not isinstance(case, str)], [text for text in found if isinstance(text, str)]


def _find(
    folder: Path, name: str, where: str, modalities: Sequence[str], grade: str | None = None
) -> CaseFiles | CaseProblem:
    """The case, or what is wrong with it."""
    by_naming = [(naming, _files(folder, name, naming, modalities)) for naming in NAMINGS]
    naming, files = max(by_naming, key=lambda pair: len(pair[1]))  # of equal ones the first
    if SEG not in files and len(files) == len(modalities) and folder.name == name:
        files |= _foreign_label(folder, set(files.values()))
    missing = [f"{name}{naming.ending(key)}{NIFTI_SUFFIXES[0]}" for key in (*modalities, SEG) if key not in files]
    if missing:
        return CaseProblem(name, f"{where}: missing {', '.join(missing)} (or .nii)")
    if not is_name(name):
        return CaseProblem(name, f"{where}: its name must consist of letters, digits, '_', '-', '.', ' '")
    label = files.pop(SEG)
    return CaseFiles(name, files, label, *parse_name(name), grade, labels=naming.labels)


def _files(folder: Path, name: str, naming: Naming, modalities: Sequence[str]) -> dict[str, Path]:
    found = {}
    for key in (*modalities, SEG):
        candidates = [folder / f"{name}{naming.ending(key)}{suffix}" for suffix in NIFTI_SUFFIXES]
        found[key] = next((path for path in candidates if path.is_file()), None)
    return {key: path for key, path in found.items() if path is not None}


def _foreign_label(folder: Path, images: set[Path]) -> dict[str, Path]:
    # what a case is called says nothing of its files
    others = [
        path
        for path in _nifti_files(folder)
        if path not in images and "seg" in path.name.removeprefix(folder.name).lower()
    ]
    if len(others) != 1:
        return {}
    logger.warning(
        "case %s: its label map is %s, the only other file with seg in its name", folder.name, others[0].name
    )
    return {SEG: others[0]}
