"""From a folder of cases to a data list: discover, convert where needed, check, assign sites, split, write."""

from __future__ import annotations

import dataclasses
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from bundle.data.case_conversion import ConvertOptions, convert_case
from bundle.data.checks import check_files, decode_nifti
from bundle.data.datalist import FILE_NAME, write_datalist
from bundle.data.errors import DataError
from bundle.data.layouts import CaseFiles, Layout, get_layout
from bundle.data.layouts.base import SEG
from bundle.data.progress import progress
from bundle.data.splits import RULES, assign_sites, check_split, split_patients
from bundle.data.tables import match_table, read_table


@dataclass(frozen=True)
class PrepareOptions:
    """Options of :func:`prepare`, as on the command line of ``scripts/prepare_data.py``.

    Attributes:
        layout: name of the layout.
        source: folder with the data as distributed.
        output: folder for ``datalist.json`` and converted volumes.
        sites: site rule, see :func:`bundle.data.splits.assign_sites`.
        table: CSV or JSON, see :func:`bundle.data.tables.read_table`.
        split: ``"table"`` or ``"random"``; None takes the table's if it has one.
        test_fraction: share of the patients that test in a random split; None is 0.2.
        num_sites, alpha, seed: of the site rule; `seed` also of the random split.
        modalities: which, in this order; None takes the layout's.
        labels: names by label value; None takes the layout's.
        skip_incomplete: leave out cases that lack a file, with a warning, instead of stopping.
        convert: what happens to the voxels.
        name: name of the data set; None takes the name of `source`.
        task: task of the data list.
    """

    layout: str
    source: Path
    output: Path
    sites: str
    table: Path | None = None
    split: str | None = None
    test_fraction: float | None = None
    num_sites: int | None = None
    alpha: float = 0.5
    seed: int = 0
    modalities: tuple[str, ...] | None = None
    labels: Mapping[int, str] | None = None
    skip_incomplete: bool = False
    convert: ConvertOptions = field(default_factory=ConvertOptions)
    name: str | None = None
    task: str = "brats"


@dataclass(frozen=True)
class Summary:
    """What :func:`prepare` did: the data list's path, options as resolved, a row per site, and warnings.

    Rows are (site, training cases, test cases, median tumour volume in ml).
    """

    path: Path
    resolved: dict[str, Any]
    rows: list[tuple[str, int, int, float]]
    warnings: list[str]


def prepare(options: PrepareOptions) -> Summary:
    """Write the data list of a data set, after every file was decoded and checked.

    Converted volumes go to ``OUTPUT/volumes/CASE/MODALITY.nii.gz``; cases that were converted before, with the same
    options and from the same files, are kept, so a killed run goes on. ``datalist.json`` is written last.

    Raises:
        DataError: bad data or options; nothing but converted cases was written.
        OSError: the output cannot be written.
    """
    layout = get_layout(options.layout)
    _check_options(options)
    warnings: list[str] = []
    modalities = tuple(options.modalities or layout.modalities)
    labels = dict(options.labels or layout.labels)
    cases = _discover(layout, options, modalities, warnings)
    matched, table_split = _match(cases, options, warnings)
    cases = [dataclasses.replace(c, patient=matched[c.case].patient or c.patient) if matched else c for c in cases]
    items, channels = _make_items(cases, layout, modalities, options, warnings)
    problems = check_files(items, channels, labels, deep=True)
    if problems:
        raise DataError.listing(f"data in {options.source}", problems)
    volumes = {item["case"]: tumour_volume(item["label"]) for item in items}
    empty = sorted(case for case, volume in volumes.items() if volume == 0)
    if empty:
        warnings.append(f"no tumour voxel in {len(empty)} cases: {_names(empty)}")

    split = table_split
    if split is not None:
        check_split(cases, split)
    assigned = assign_sites(
        cases,
        options.sites,
        sites={case: row.site for case, row in matched.items() if row.site},
        volumes=volumes,
        split=split,
        num_sites=options.num_sites,
        alpha=options.alpha,
        seed=options.seed,
    )
    if split is None:
        fraction = 0.2 if options.test_fraction is None else options.test_fraction
        split = split_patients(cases, assigned, fraction, options.seed)
        untested = sorted(set(assigned.values()) - {assigned[case] for case in split if split[case] == "test"})
        if untested and fraction > 0:
            warnings.append(f"sites with too few patients for a test case: {_names(untested)}")
    if "test" not in split.values():
        warnings.append("the test list is empty: nothing can be evaluated on this data list")
    items = [item | {"site": assigned[item["case"]]} for item in items]
    items.sort(key=lambda item: (item["site"], item["case"]))
    parts = {name: [item for item in items if split[item["case"]] == name] for name in ("training", "test")}
    resolved = {
        "name": options.name or options.source.resolve().name,
        "task": options.task,
        "layout": layout.name,
        "modality": channels,
        "labels": labels,
        "site_rule": _provenance(options, table_split is not None),
    }
    path = write_datalist(options.output / FILE_NAME, **resolved, **parts)
    return Summary(path, resolved, _rows(assigned, split, volumes), warnings)


def tumour_volume(label: str | os.PathLike) -> float:
    """Volume of the label values above 0 of a NIfTI label map, in mm³ by the voxel size in its header."""
    voxel = float(np.prod(nib.load(label).header.get_zooms()[:3]))
    return float(np.count_nonzero(decode_nifti(label) > 0)) * voxel


def _check_options(options: PrepareOptions) -> None:
    problems = []
    if options.sites not in RULES:
        problems.append(f"sites is {options.sites!r}, expected one of {', '.join(RULES)}")
    if options.sites in ("size", "dirichlet") and options.num_sites is None:
        problems.append(f"site rule {options.sites} needs num_sites")
    if options.sites == "table" and options.table is None:
        problems.append("site rule table needs a table")
    if options.split == "table" and options.table is None:
        problems.append("split table needs a table")
    if options.test_fraction is not None and not 0 <= options.test_fraction < 1:
        problems.append(f"test_fraction is {options.test_fraction}, expected 0 <= test_fraction < 1")
    if options.convert.resample is not None and not options.convert.resample > 0:
        problems.append(f"resample is {options.convert.resample}, expected millimetres above 0")
    if options.convert.n4_shrink < 1:
        problems.append(f"n4_shrink is {options.convert.n4_shrink}, expected at least 1")
    if options.modalities is not None and len(set(options.modalities)) != len(options.modalities):
        problems.append(f"modalities are {', '.join(options.modalities)}, expected different ones")
    if problems:
        raise DataError.listing("options", problems)


def _discover(layout: Layout, options: PrepareOptions, modalities: Sequence[str], warnings: list[str]) -> list:
    if not options.source.is_dir():
        raise DataError(f"{options.source}: no such folder, expected layout {layout.name}: {layout.description}")
    cases, problems = layout.discover(options.source, modalities)
    if problems and not options.skip_incomplete:
        raise DataError.listing(f"layout {layout.name} in {options.source}", problems)
    if problems:
        warnings.append(f"{len(problems)} incomplete cases left out; the first: {problems[0]}")
    if not cases:
        raise DataError(f"{options.source}: no cases, expected layout {layout.name}: {layout.description}")
    names = [case.case for case in cases]
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise DataError(f"{options.source}: cases found more than once, expected once: {_names(doubles)}")
    return cases


def _match(cases: list[CaseFiles], options: PrepareOptions, warnings: list[str]) -> tuple[dict, dict | None]:
    """Rows by case, and the table's split if that is the one to use."""
    if options.table is None:
        return {}, None
    matched, absent = match_table(read_table(options.table), cases, options.table)
    if absent:
        warnings.append(f"{len(absent)} cases of the table are not on disk: {_names(absent)}")
    has_split = all(row.split is not None for row in matched.values())
    if options.split == "table" and not has_split:
        raise DataError(f"table {options.table}: no column split, expected train or test for every case")
    if options.split == "random" or not has_split:
        return matched, None
    if options.test_fraction is not None:
        warnings.append("test_fraction is not used: the table says which cases test (--split random would use it)")
    return matched, {case: row.split for case, row in matched.items()}


def _make_items(
    cases: Sequence[CaseFiles],
    layout: Layout,
    modalities: tuple[str, ...],
    options: PrepareOptions,
    warnings: list[str],
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Items without sites, and the channel names of their images; cases are converted first where needed."""
    converted = not layout.nifti or options.convert.n4 or options.convert.resample is not None
    items, problems, channels = [], [], modalities
    if not converted and layout.channels:
        channels = layout.channels
        if modalities != channels:
            warnings.append(f"one file holds {', '.join(channels)}: all are kept, training picks its modalities")
    for case in progress(cases, "convert", len(cases)) if converted else cases:
        images, label = list(case.images.values()), case.label
        if converted:
            folder = options.output / "volumes" / case.case
            try:
                convert_case(case, modalities, folder, options.convert, layout.read)
            except DataError as error:
                problems.append(f"case {case.case}: {error}")
            images, label = [folder / f"{modality}.nii.gz" for modality in modalities], folder / f"{SEG}.nii.gz"
        paths = [os.path.abspath(path) for path in images]
        image = paths[0] if not converted and layout.channels else paths
        items.append({"image": image, "label": os.path.abspath(label), "case": case.case, "patient": case.patient})
    if problems:
        raise DataError.listing(f"data in {options.source}", problems)
    return items, channels


def _provenance(options: PrepareOptions, table_split: bool) -> dict[str, Any]:
    rule: dict[str, Any] = {"rule": options.sites, "seed": options.seed}
    if options.sites in ("size", "dirichlet"):
        rule["num_sites"] = options.num_sites
    if options.sites == "dirichlet":
        rule["alpha"] = options.alpha
    if options.table is not None:
        rule["table"] = options.table.name
    rule["split"] = "table" if table_split else "random"
    if not table_split:
        rule["test_fraction"] = 0.2 if options.test_fraction is None else options.test_fraction
    if options.convert.n4:
        rule["n4_shrink"] = options.convert.n4_shrink
    if options.convert.resample is not None:
        rule["resample"] = options.convert.resample
    return rule


def _rows(assigned: Mapping[str, str], split: Mapping[str, str], volumes: Mapping[str, float]) -> list:
    rows = []
    for site in sorted(set(assigned.values())):
        held = [case for case, name in assigned.items() if name == site]
        tests = sum(split[case] == "test" for case in held)
        rows.append((site, len(held) - tests, tests, statistics.median(volumes[case] for case in held) / 1000))
    return rows


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
