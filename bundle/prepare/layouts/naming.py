"""How data sets name cases and files: what :mod:`bundle.prepare.layouts.brats` accepts and what a case's name says.

The releases of BraTS differ in both, and in the value of the enhancing tumour. One table for all of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# Menze et al. 2015, https://doi.org/10.1109/TMI.2014.2377694; label 3 was merged into 1 in 2017
LABELS_2017 = {0: "background", 1: "necrotic or non-enhancing core", 2: "oedema", 4: "enhancing tumour"}
# Adewole et al. 2023, https://arxiv.org/abs/2305.19369
LABELS_2023 = {0: "background", 1: "necrotic or non-enhancing core", 2: "oedema", 3: "enhancing tumour"}


@dataclass(frozen=True)
class Naming:
    """Names of one family of data sets: case, separator, and a word for each file.

    Attributes:
        separator: between case and word.
        words: word by modality (and ``"seg"``), where it is another than the modality itself.
        labels: names by label value, where the files tell; None: the layout's.
        cases: patterns of names of cases. The match is the patient; its group ``institution``, if there is one, where
            the case was acquired.
    """

    separator: str = "_"
    words: Mapping[str, str] | None = None
    labels: Mapping[int, str] | None = None
    cases: tuple[re.Pattern, ...] = ()

    def ending(self, modality: str) -> str:
        """What follows the name of the case, up to the suffix: ``_flair``, ``-t2f``."""
        return self.separator + (self.words or {}).get(modality, modality)


NAMINGS = (
    Naming(
        cases=(
            # BraTS 2017 to 2019: institution, patient, visit. Those of 2020 and 2021 are numbers of patients.
            re.compile(r"brats\d{2}_(?P<institution>[a-z0-9]+)_[a-z0-9]+(?=_\d+$)", re.IGNORECASE),
            # https://docs.gdc.cancer.gov/Encyclopedia/pages/TCGA_Barcode/: project, tissue source site, participant
            re.compile(r"TCGA[-_](?P<institution>[A-Z0-9]{2})[-_][A-Z0-9]{4}"),
            re.compile(r"Phantom(?:Tile)?_(?P<institution>\w+?)_\d+"),
        ),
    ),
    # BraTS 2023 onwards: challenge, patient, visit
    Naming(
        separator="-",
        words={"t1": "t1n", "t1ce": "t1c", "t2": "t2w", "flair": "t2f"},
        labels=LABELS_2023,
        cases=(re.compile(r"brats-[a-z]+-\d+(?=-\d+$)", re.IGNORECASE),),
    ),
)


def parse_name(case: str) -> tuple[str, str | None]:
    """Patient and institution that a case's name tells.

    ``Brats18_CBICA_AAB_1`` → ``Brats18_CBICA_AAB``, ``CBICA``; ``BraTS-GLI-00000-001`` → ``BraTS-GLI-00000``, None;
    ``TCGA_CS_4941_19960909`` → ``TCGA_CS_4941``, ``CS``; ``Phantom_A_001`` → itself, ``A``; any other name → itself,
    None.
    """
    for pattern in (pattern for naming in NAMINGS for pattern in naming.cases):
        match = pattern.match(case)
        if match:
            return match.group(), match.groupdict().get("institution")
    return case, None
