"""Medical Segmentation Decathlon, Task01_BrainTumour: ``dataset.json``, 4-D ``imagesTr/``, ``labelsTr/``.

Source: Antonelli et al. 2022, https://doi.org/10.1038/s41467-022-30695-9 and http://medicaldecathlon.com.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import SimpleITK as sitk

from bundle.data.bounds import lies_in
from bundle.data.errors import DataError
from bundle.data.json_files import read_json
from bundle.prepare.cases import SEG, CaseFiles
from bundle.prepare.layouts.base import Layout
from bundle.prepare.layouts.naming import parse_name
from bundle.prepare.volumes import as_label, read_channel, read_volume

# Names in dataset.json → ours, in the order of the channels
CHANNELS = {"FLAIR": "flair", "T1w": "t1", "t1gd": "t1ce", "T2w": "t2"}
MODALITIES = tuple(CHANNELS.values())
# Not the values of BraTS: oedema and core are exchanged, and enhancing tumour is 3.
LABELS = {0: "background", 1: "oedema", 2: "non-enhancing tumour", 3: "enhancing tumour"}


def discover(source: Path, modalities: Sequence[str]) -> tuple[list[CaseFiles], Sequence[str]]:
    """See :attr:`bundle.prepare.layouts.base.Layout.discover`. The cases are those of ``dataset.json``'s training."""
    content = _read_description(source / "dataset.json")
    unknown = [modality for modality in modalities if modality not in MODALITIES]
    if unknown:
        raise DataError(f"layout msd has no {', '.join(unknown)}, expected some of {', '.join(MODALITIES)}")
    cases, problems = [], []
    for item in content["training"]:
        image, label = source / item["image"], source / item["label"]
        if image.name.startswith("._"):  # resource forks of macOS, packed by mistake
            continue
        if not (lies_in(image, source) and lies_in(label, source)):
            problems.append(f"dataset.json names {item['image']} and {item['label']}, expected files of its folder")
            continue
        case = image.name.removesuffix(".gz").removesuffix(".nii")
        missing = [str(path) for path in (image, label) if not path.is_file()]
        if missing:
            problems.append(f"case {case}: missing {', '.join(missing)}")
            continue
        patient, institution = parse_name(case)
        cases.append(CaseFiles(case, dict.fromkeys(modalities, image), label, patient, institution))
    return cases, problems


def read(case: CaseFiles, modality: str) -> sitk.Image:
    """See :attr:`bundle.prepare.layouts.base.Layout.read`."""
    if modality == SEG:
        return as_label(read_volume(case.label), case.label)
    return read_channel(case.images[modality], MODALITIES.index(modality))


def _read_description(path: Path) -> dict:
    content = read_json(path, "the description of Task01_BrainTumour")
    try:
        names = [content["modality"][str(index)] for index in range(len(CHANNELS))]
        items = [(item["image"], item["label"]) for item in content["training"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: expected JSON with modality and training (image, label): {error!r}") from error
    if names != list(CHANNELS) or not items:
        raise DataError(f"{path}: field modality names {names}, expected {list(CHANNELS)}, and training cases")
    return content


LAYOUT = Layout(
    name="msd",
    description="MSD Task01_BrainTumour: dataset.json, imagesTr/ (4-D), labelsTr/",
    modalities=MODALITIES,
    labels=LABELS,
    discover=discover,
    read=read,
    channels=MODALITIES,
)
