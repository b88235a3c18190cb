"""BraTS 2018: ``HGG|LGG/CASE/CASE_{flair,t1,t1ce,t2,seg}.nii.gz``, or case folders without the grade above them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bundle.data.layouts.base import CaseFiles, Layout, case_folders, find_nifti_cases

GRADES = ("HGG", "LGG")
MODALITIES = ("flair", "t1", "t1ce", "t2")
# Menze et al. 2015, https://doi.org/10.1109/TMI.2014.2377694; label 3 was merged into 1 in 2017
LABELS = {0: "background", 1: "necrotic or non-enhancing core", 2: "oedema", 4: "enhancing tumour"}


def discover(source: Path, modalities: Sequence[str]) -> tuple[list[CaseFiles], list[str]]:
    """See :attr:`bundle.data.layouts.base.Layout.discover`."""
    folders = case_folders(source)
    cases, problems = find_nifti_cases([folder for folder in folders if folder.name not in GRADES], modalities)
    for grade in folders:
        if grade.name in GRADES:
            more, found = find_nifti_cases(case_folders(grade), modalities, grade.name)
            cases, problems = cases + more, problems + found
    return cases, problems


LAYOUT = Layout(
    name="brats",
    description="BraTS 2018: HGG|LGG/CASE/CASE_{flair,t1,t1ce,t2,seg}.nii.gz, also CASE folders without the grade",
    modalities=MODALITIES,
    labels=LABELS,
    discover=discover,
)
