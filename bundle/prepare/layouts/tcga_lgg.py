"""TCGA-LGG with the masks of Buda et al. 2019 as NIfTI: ``CASE/CASE_{flair,t1,t1ce,seg}.nii.gz``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bundle.prepare.cases import CaseFiles
from bundle.prepare.layouts.base import Layout, case_folders
from bundle.prepare.layouts.nifti_cases import find_nifti_cases

# https://doi.org/10.1016/j.compbiomed.2019.05.002
LABELS = {0: "background", 1: "FLAIR abnormality"}


def discover(source: Path, modalities: Sequence[str]) -> tuple[list[CaseFiles], Sequence[str]]:
    """See :attr:`bundle.prepare.layouts.base.Layout.discover`."""
    return find_nifti_cases(case_folders(source), modalities)


LAYOUT = Layout(
    name="tcga_lgg",
    description="TCGA-LGG as NIfTI: CASE/CASE_{flair,t1,t1ce,seg}.nii.gz",
    # The other two sequences are missing for part of the patients.
    modalities=("flair",),
    labels=LABELS,
    discover=discover,
)
