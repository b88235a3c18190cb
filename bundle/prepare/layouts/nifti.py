"""NIfTI volumes in two folders, as packed bundles and MONAI Label have them: ``images/`` and ``labels/``.

``images/CASE.nii.gz`` of one modality, or ``images/CASE_MODALITY.nii.gz`` of any number; ``labels/CASE.nii.gz`` or
``labels/CASE_{seg,mask,label}.nii.gz``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bundle.data.bounds import NIFTI_SUFFIXES
from bundle.data.errors import DataError
from bundle.inputs import list_files
from bundle.prepare.cases import CaseFiles
from bundle.prepare.layouts.base import Layout, case_problem, nifti_stem
from bundle.prepare.layouts.naming import parse_name


def discover(source: Path, modalities: Sequence[str]) -> tuple[list[CaseFiles], Sequence[str]]:
    """See :attr:`bundle.prepare.layouts.base.Layout.discover`."""
    if not modalities:
        raise DataError("layout nifti has no default modalities: name them with --modalities, such as flair")
    images = {modality: _of_modality(source / "images", modality, len(modalities) == 1) for modality in modalities}
    labels = _without_shared_part(_by_stem(source / "labels"))
    cases, problems = [], []
    for name in sorted(set().union(labels, *images.values())):
        missing = [f"images/{name}_{modality}.nii.gz" for modality, files in images.items() if name not in files]
        missing = [f"images/{name}.nii.gz"] if missing and len(modalities) == 1 else missing
        missing += [f"labels/{name}.nii.gz"] if name not in labels else []
        if problem := case_problem(name, source, missing):
            problems.append(problem)
        else:
            found = {modality: files[name] for modality, files in images.items()}
            cases.append(CaseFiles(name, found, labels[name], *parse_name(name)))
    return cases, problems


def _of_modality(folder: Path, modality: str, alone: bool) -> dict[str, Path]:
    files = _by_stem(folder)
    named = {stem.removesuffix(f"_{modality}"): path for stem, path in files.items() if stem.endswith(f"_{modality}")}
    return files if alone and not named else named


def _by_stem(folder: Path) -> dict[str, Path]:
    return {nifti_stem(path): Path(path) for path in list_files(folder, NIFTI_SUFFIXES)}


def _without_shared_part(files: dict[str, Path]) -> dict[str, Path]:
    """Names without ``_seg``, ``_mask`` or ``_label``, if all have the same one."""
    for part in ("_seg", "_mask", "_label"):
        if files and all(stem.endswith(part) for stem in files):
            return {stem.removesuffix(part): path for stem, path in files.items()}
    return files


LAYOUT = Layout(
    name="nifti",
    description="images/CASE.nii.gz or images/CASE_MODALITY.nii.gz, and labels/CASE.nii.gz or labels/CASE_seg.nii.gz",
    modalities=(),
    labels={0: "background", 1: "foreground"},
    discover=discover,
    size="labelled volume (ml)",
)
