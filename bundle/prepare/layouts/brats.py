"""BraTS 2017 to 2021 and 2023 onwards, under the files' own names; see :mod:`bundle.prepare.layouts.naming`.

====================  ==========================================================================================
2017, 2018, 2019      ``HGG|LGG/CASE/CASE_{flair,t1,t1ce,t2,seg}.nii.gz``
2020, 2021            ``CASE/CASE_{flair,t1,t1ce,t2,seg}.nii`` or ``.nii.gz``
2023 onwards          ``CASE/CASE-{t2f,t1n,t1c,t2w,seg}.nii.gz``; the enhancing tumour is 3
====================  ==========================================================================================

Case folders may stand under a grade or not, or all files side by side without any. Modalities are called ``flair``,
``t1``, ``t1ce``, ``t2`` whatever the files say.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bundle.prepare.cases import CaseFiles
from bundle.prepare.layouts.base import Layout, case_folders
from bundle.prepare.layouts.naming import LABELS_2017 as LABELS
from bundle.prepare.layouts.nifti_cases import find_flat_cases, find_nifti_cases

GRADES = ("HGG", "LGG")
MODALITIES = ("flair", "t1", "t1ce", "t2")


def discover(source: Path, modalities: Sequence[str]) -> tuple[list[CaseFiles], Sequence[str]]:
    """See :attr:`bundle.prepare.layouts.base.Layout.discover`."""
    folders = case_folders(source)
    found = [find_nifti_cases([folder for folder in folders if folder.name not in GRADES], modalities)]
    found += [find_nifti_cases(case_folders(f), modalities, f.name) for f in folders if f.name in GRADES]
    found.append(find_flat_cases(source, modalities))
    return [case for cases, _ in found for case in cases], [text for _, problems in found for text in problems]


LAYOUT = Layout(
    name="brats",
    description="BraTS: [HGG|LGG/]CASE/CASE_{flair,t1,t1ce,t2,seg}.nii.gz, or as in 2023 CASE-{t2f,t1n,t1c,t2w,seg}",
    modalities=MODALITIES,
    labels=LABELS,
    discover=discover,
)
