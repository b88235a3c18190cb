"""nnU-Net's raw data sets, of both versions: ``dataset.json``, ``imagesTr/CASE_0000.nii.gz``, ``labelsTr/CASE.nii.gz``.

``imagesTs`` with ``labelsTs`` are the published test cases; without labels they are left out.

Source: Isensee et al. 2021, https://doi.org/10.1038/s41592-020-01008-z, and ``dataset_format.md`` of nnU-Net's
documentation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.data.bounds import NIFTI_SUFFIXES
from bundle.data.errors import DataError
from bundle.data.json_files import read_json
from bundle.inputs import list_files
from bundle.prepare.cases import CaseFiles
from bundle.prepare.layouts.base import Layout, case_problem, nifti_stem
from bundle.prepare.layouts.naming import parse_name

# their names of channels → ours
CHANNELS = {"t1w": "t1", "t1gd": "t1ce", "t1c": "t1ce", "t2w": "t2"}
PARTS = {"training": "Tr", "test": "Ts"}


@dataclass(frozen=True)
class _Description:
    channels: tuple[str, ...]
    labels: dict[int, str]


def discover(source: Path, modalities: Sequence[str]) -> tuple[list[CaseFiles], Sequence[str]]:
    """See :attr:`bundle.prepare.layouts.base.Layout.discover`. Without modalities all channels are taken."""
    about = _read(source / "dataset.json")
    modalities = modalities or about.channels
    if unknown := [modality for modality in modalities if modality not in about.channels]:
        raise DataError(
            f"{source / 'dataset.json'}: names no channel {', '.join(unknown)}, expected some of "
            f"{', '.join(about.channels)}"
        )
    tests = bool(_by_stem(source / "labelsTs"))
    cases, problems = [], []
    for part, ending in PARTS.items():
        if part == "test" and not tests:
            continue
        images, labels = _by_stem(source / f"images{ending}"), _by_stem(source / f"labels{ending}")
        for name in sorted(labels.keys() | {stem[: -len("_0000")] for stem in images if stem.endswith("_0000")}):
            stems = {modality: f"{name}_{about.channels.index(modality):04d}" for modality in modalities}
            missing = [f"images{ending}/{stem}.nii.gz" for stem in stems.values() if stem not in images]
            missing += [f"labels{ending}/{name}.nii.gz"] if name not in labels else []
            if problem := case_problem(name, source, missing):
                problems.append(problem)
                continue
            patient, institution = parse_name(name)
            found = {modality: images[stem] for modality, stem in stems.items()}
            split = part if tests else None
            cases.append(CaseFiles(name, found, labels[name], patient, institution, split=split, labels=about.labels))
    return cases, problems


def _by_stem(folder: Path) -> dict[str, Path]:
    return {nifti_stem(path): Path(path) for path in list_files(folder, NIFTI_SUFFIXES)}


def _read(path: Path) -> _Description:
    content = read_json(path, "the description of nnU-Net's raw data")
    if not isinstance(content, Mapping):
        raise DataError(f"{path}: expected an object with channel_names (or modality) and labels")
    if content.get("file_ending", NIFTI_SUFFIXES[0]) not in NIFTI_SUFFIXES:
        raise DataError(
            f"{path}: file_ending is {content['file_ending']!r}, expected {' or '.join(NIFTI_SUFFIXES)} "
            "(layout volumes reads other formats, a folder for each case)"
        )
    if "dataset" in content:
        raise DataError(f"{path}: dataset names files of its own, expected them in imagesTr and labelsTr")
    return _Description(_channels(content.get("channel_names", content.get("modality")), path), _labels(content, path))


def _channels(named: Any, path: Path) -> tuple[str, ...]:
    numbers = [str(number) for number in range(len(named))] if isinstance(named, Mapping) else []
    if not numbers or set(named) != set(numbers) or not all(isinstance(name, str) for name in named.values()):
        raise DataError(f'{path}: channel_names is {named!r}, expected names by number: {{"0": "FLAIR"}}')
    names = [named[number].strip().lower() for number in numbers]
    channels = tuple(CHANNELS.get(name, name) for name in names)
    if len(set(channels)) < len(channels):
        raise DataError(f"{path}: channel_names is {named!r}, expected a different name for every channel")
    return channels


def _labels(content: Mapping, path: Path) -> dict[int, str]:
    """Names by value. A value of several regions is called by the smallest of them."""
    named = content.get("labels")
    expected = f'{path}: labels is {named!r}, expected values by name: {{"background": 0, "tumour": 1}}'
    if not isinstance(named, Mapping) or not named:
        raise DataError(expected)
    if "ignore" in named:
        raise DataError(f"{path}: labels has 'ignore', expected every voxel to be of a class: nothing is left out here")
    if all(isinstance(name, str) for name in named.values()):  # version 1: names by value
        named = {name: value for value, name in named.items()}
    regions: dict[str, list[int]] = {}
    for name, values in named.items():
        try:
            regions[name] = [int(value) for value in (values if isinstance(values, list) else [values])]
        except (TypeError, ValueError) as error:
            raise DataError(expected) from error
    by_value: dict[int, str] = {}
    for name, values in sorted(regions.items(), key=lambda region: len(region[1])):
        for value in values:
            by_value.setdefault(value, name)
    if 0 not in by_value:
        raise DataError(expected)
    return dict(sorted(by_value.items()))


LAYOUT = Layout(
    name="nnunet",
    description="nnU-Net raw: dataset.json, imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz; Ts with labels as tests",
    modalities=(),
    labels={},
    discover=discover,
    size="labelled volume (ml)",
)
