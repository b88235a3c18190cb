"""A case on disk as its layout finds it, and as a conversion leaves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SEG = "seg"
"""What a case's label map is called beside its modalities."""


@dataclass(frozen=True)
class CaseFiles:
    """One case on disk.

    Attributes:
        case: its name, unique in the data set.
        images: source by modality, in order: a file, a folder with a DICOM series or with slices. One file that holds
            all modalities (4-D, or the colours of a tile) stands under each of them.
        label: source of the label map, or of the outlines.
        patient: cases of one patient never part.
        institution: where it was acquired, if the name tells.
        grade: ``"HGG"`` or ``"LGG"``, if the layout tells.
        organ: organ of a tile, if the layout tells.
        split: ``"training"`` or ``"test"``, if the case is of a set that was published with a split.
        labels: names by label value, where the case's files tell; None: the layout's.
    """

    case: str
    images: Mapping[str, Path]
    label: Path
    patient: str
    institution: str | None = None
    grade: str | None = None
    organ: str | None = None
    split: str | None = None
    labels: Mapping[int, str] | None = None


@dataclass(frozen=True)
class ConvertedCase:
    """What a conversion wrote, and what it has to say.

    Attributes:
        image: one file, or one per modality.
        label: the label map.
        counts: numbers to be added up over the cases and shown.
        notes: what was converted, one phrase each; shown with the number of cases.
    """

    image: Path | list[Path]
    label: Path
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
