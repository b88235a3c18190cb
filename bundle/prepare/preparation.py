"""From a folder of cases to a data list: discover, convert where needed, check, assign sites, split, write."""

from __future__ import annotations

import dataclasses
import os
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bundle.data.datalist import FILE_NAME, write_datalist
from bundle.data.errors import DataError
from bundle.data.file_checks import check_files, find_copies
from bundle.data.progress import progress
from bundle.prepare.case_conversion import ConvertOptions
from bundle.prepare.cases import CaseFiles
from bundle.prepare.lacking import check_names, discover_lacking, leave_out_modalities, site_known, without
from bundle.prepare.layouts import Layout, get_layout
from bundle.prepare.same_scan import find_same_scans
from bundle.prepare.splits import RULES, assign_sites, check_split, split_patients
from bundle.prepare.tables import Row, match_table, read_table
from bundle.text import SITE_NAMES, is_site_name

NO_SITE = "(no site)"


@dataclass(frozen=True)
class PrepareOptions:
    """Options of :func:`prepare`, as on the command line of ``asyndgan prepare``.

    Attributes:
        layout: name of the layout.
        source: folder with the data as distributed.
        output: folder for ``datalist.json`` and converted files.
        sites: site rule, see :func:`bundle.prepare.splits.assign_sites`.
        site: name of the one hospital whose cases these are, with the rule ``single``; None calls it ``all``.
        table: CSV or JSON, see :func:`bundle.prepare.tables.read_table`.
        split: ``"table"``, ``"published"`` or ``"random"``; None takes the table's if it has one, else the published
            one if there is one.
        test_fraction: share of the patients that test in a random split; None is 0.2.
        num_sites, alpha, seed: of the site rule; `seed` also of the random split.
        modalities: which, in this order; None takes the layout's. Not for tiles.
        labels: names by label value; None takes those of the cases' release, or the layout's. Not for tiles.
        skip_incomplete: leave out cases that lack a file, or hold a copy of another modality in its place, with a
            warning, instead of stopping.
        convert: what happens to the voxels. Not for tiles.
        name: name of the data set; None takes the name of `source`.
        accept_mismatch: take tiles whose annotated nuclei are no darker than their surroundings.
        lacks: modalities that a site does not have, by its name. With the rule ``single`` these are others' that are
            not among its own; else its training cases are listed without them, and its held-out ones whole. Not for
            tiles, nor where one file holds all modalities.
    """

    layout: str
    source: Path
    output: Path
    sites: str
    site: str | None = None
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
    accept_mismatch: bool = False
    lacks: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """What :func:`prepare` did.

    Attributes:
        path: the data list.
        resolved: options as they were resolved.
        size: what the last column of `rows` is, e.g. ``"median nuclei"``.
        rows: (site, training cases, test cases, median size), one for each site; cases of no site come last.
        counts: numbers of the conversion, added up over the cases, e.g. of regions.
        notes: what was converted, and in how many cases.
        warnings: one sentence each.
    """

    path: Path
    resolved: dict[str, Any]
    size: str
    rows: list[tuple[str, int, int, float]]
    counts: dict[str, int]
    notes: dict[str, int]
    warnings: list[str]


def prepare(options: PrepareOptions) -> Summary:
    """Write the data list of a data set, after every file was decoded and checked.

    Converted volumes go to ``OUTPUT/volumes/CASE/MODALITY.nii.gz``, tiles to ``OUTPUT/tiles/CASE/``; cases that were
    converted before, with the same options and from the same files, are kept, so a killed run goes on.
    ``datalist.json`` is written last.

    Raises:
        DataError: bad data or options; nothing but converted cases was written.
        OSError: the output cannot be written.
    """
    layout = get_layout(options.layout)
    _check_options(options, layout)
    warnings: list[str] = []
    modalities = tuple(options.modalities or layout.modalities)
    cases = _discover(layout, options, modalities, warnings)
    modalities = modalities or tuple(cases[0].images)
    labels = dict(options.labels or _labels(cases, layout))
    matched = _match(cases, options, warnings)
    cases = [dataclasses.replace(c, patient=matched[c.case].patient or c.patient) if matched else c for c in cases]
    split, origin = _known_split(cases, matched, options, warnings)
    files = _make_items(cases, layout, modalities, options, warnings)
    if options.skip_incomplete:
        cases, split = _leave_out_copies(cases, split, files, warnings)
    items = files.items
    problems = [
        problem
        for names, group in files.by_channels()
        for problem in check_files(group, names, labels, deep=True, label_type=layout.label_type)
    ]
    if problems:
        raise DataError.listing(f"data in {options.source}", problems)
    warnings += _same_scans(files)
    sizes = {item["case"]: layout.measure(item["label"]) for item in items}
    empty = sorted(case for case, size in sizes.items() if size == 0)
    if empty:
        warnings.append(f"{layout.size} is 0 in {len(empty)} cases: {_names(empty)}")

    if split is not None:
        check_split(cases, split)
    assigned = assign_sites(
        cases,
        options.sites,
        sites={case: row.site for case, row in matched.items() if row.site},
        volumes=sizes,
        split=split,
        num_sites=options.num_sites,
        alpha=options.alpha,
        seed=options.seed,
        name=options.site,
    )
    if split is None:
        fraction = 0.2 if options.test_fraction is None else options.test_fraction
        split = split_patients(cases, assigned, fraction, options.seed)
        tested = {assigned[case] for case in split if split[case] == "test"}
        untested = sorted({site for site in assigned.values() if site is not None} - tested)
        if untested and fraction > 0:
            warnings.append(f"sites with too few patients for a test case: {_names(untested)}")
    if "test" not in split.values():
        warnings.append("the test list is empty: nothing can be evaluated on this data list")
    items = [item | {"site": assigned[item["case"]]} for item in items]
    items.sort(key=lambda item: (item["site"] is None, item["site"] or "", item["case"]))
    training, test = ([item for item in items if split[item["case"]] == part] for part in ("training", "test"))
    sites = sorted({item["site"] for item in training})
    names, own = without(options.lacks, sites, files.channels, options.sites == "single")
    if options.sites != "single":
        training = leave_out_modalities(training, files.names, own)
    resolved: dict[str, Any] = {
        "name": options.name or options.source.resolve().name,
        "task": layout.task,
        "layout": layout.name,
        "modality": names,
        "labels": labels,
        "label_type": layout.label_type,
        "site_rule": _provenance(options, origin),
        "modalities": own,
    }
    path = write_datalist(options.output / FILE_NAME, **resolved, training=training, test=test)
    rows = _rows(assigned, split, sizes)
    return Summary(path, resolved, f"median {layout.size}", rows, dict(files.counts), dict(files.notes), warnings)


@dataclass
class _Files:
    """Items without sites, the channel names of their images, and what conversion had to say."""

    channels: tuple[str, ...]
    items: list[dict[str, Any]] = field(default_factory=list)
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)  # by case: those of its images
    counts: Counter = field(default_factory=Counter)
    notes: Counter = field(default_factory=Counter)

    def by_channels(self) -> Iterator[tuple[tuple[str, ...], list[dict[str, Any]]]]:
        """Items whose images have the same channels, and these; the order follows from the names."""
        for names in sorted(set(self.names.values())):
            yield names, [item for item in self.items if self.names[item["case"]] == names]

    def of_modality(self, name: str) -> list[dict[str, Any]]:
        """The items that have it, with no other image."""
        found = []
        for item in self.items:
            images = dict(zip(self.names[item["case"]], item["image"], strict=True))
            found += [item | {"image": [images[name]]}] if name in images else []
        return found


def _check_options(options: PrepareOptions, layout: Layout) -> None:
    problems = []
    if options.sites not in RULES:
        problems.append(f"sites is {options.sites!r}, expected one of {', '.join(RULES)}")
    if options.site is not None and options.sites != "single":
        problems.append(f"site {options.site} is for the rule single, got the rule {options.sites}")
    if options.site is not None and not is_site_name(options.site):
        problems.append(f"site is {options.site!r}, expected {SITE_NAMES}")
    if options.sites in ("size", "dirichlet") and options.num_sites is None:
        problems.append(f"site rule {options.sites} needs num_sites")
    if options.sites == "table" and options.table is None:
        problems.append("site rule table needs a table: --table FILE")
    if options.split == "table" and options.table is None:
        problems.append("split table needs a table: --table FILE")
    if options.test_fraction is not None and not 0 <= options.test_fraction < 1:
        problems.append(f"test_fraction is {options.test_fraction}, expected 0 <= test_fraction < 1")
    if options.convert.resample is not None and not options.convert.resample > 0:
        problems.append(f"resample is {options.convert.resample}, expected millimetres above 0")
    if options.convert.n4_shrink < 1:
        problems.append(f"n4_shrink is {options.convert.n4_shrink}, expected at least 1")
    if options.modalities is not None and len(set(options.modalities)) != len(options.modalities):
        problems.append(f"modalities are {', '.join(options.modalities)}, expected different ones")
    given = {
        "modalities": options.modalities is not None,
        "labels": options.labels is not None,
        "n4": options.convert.n4,
        "resample": options.convert.resample is not None,
        "trust": options.convert.trust is not None,
        "lacks": bool(options.lacks),
    }
    if not layout.volumes:
        problems += [f"{name} is for volumes, layout {layout.name} has tiles" for name, is_given in given.items()
                     if is_given]  # fmt: skip
    elif options.lacks and layout.channels:
        problems.append(f"lacks is for modalities in files of their own, a file of layout {layout.name} holds all")
    elif options.accept_mismatch:
        problems.append(f"accept_mismatch is for tiles, layout {layout.name} has volumes")
    if problems:
        raise DataError.listing("options", problems)


def _discover(layout: Layout, options: PrepareOptions, modalities: Sequence[str], warnings: list[str]) -> list:
    if not options.source.is_dir():
        raise DataError(f"{options.source}: no such folder, expected layout {layout.name}: {layout.description}")
    lacks = {} if options.sites == "single" else options.lacks
    rows = read_table(options.table) if options.table is not None and lacks else {}
    tabled = {row.site for row in rows.values() if row.site} if options.sites == "table" else set()
    check_names(lacks, modalities, tabled or None)
    known = site_known(rows, by_name=options.sites == "institution")
    cases, problems = discover_lacking(layout, options.source, modalities, lacks, known)
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


def _labels(cases: Sequence[CaseFiles], layout: Layout) -> Mapping[int, str]:
    """What the cases' files tell of their labels, else the layout's."""
    first, *others = [(case.labels or layout.labels, case.case) for case in cases]
    for labels, case in others:
        if labels != first[0]:
            raise DataError(
                f"cases {first[1]} and {case} number their labels in two ways, {dict(first[0])} and {dict(labels)}; "
                "expected one: prepare them apart, or bring them to one numbering and name it with --labels"
            )
    return first[0]


def _match(cases: list[CaseFiles], options: PrepareOptions, warnings: list[str]) -> dict[str, Row]:
    """Rows of the table by case; empty without a table."""
    if options.table is None:
        return {}
    matched, absent = match_table(read_table(options.table), cases, options.table)
    if absent:
        warnings.append(f"{len(absent)} cases of the table are not on disk: {_names(absent)}")
    return matched


def _known_split(
    cases: Sequence[CaseFiles], matched: Mapping[str, Row], options: PrepareOptions, warnings: list[str]
) -> tuple[dict[str, str] | None, str]:
    """Who tests if that is not drawn, else None; and who says so: ``"table"``, ``"published"`` or ``"random"``."""
    tabled = {case: row.split for case, row in matched.items()}
    published = {case.case: case.split for case in cases}
    if options.split == "table" and None in tabled.values():
        raise DataError(f"table {options.table}: no column split, expected train or test for every case")
    if options.split == "random":
        return None, "random"
    origin, split = "table", tabled
    if options.split == "published" or not tabled or None in tabled.values():
        origin, split = "published", published
        unknown = sorted(case for case, part in split.items() if part is None)
        if len(unknown) == len(split) and options.split is None:
            return None, "random"
        if unknown:
            raise DataError(
                f"the published split is not known for {len(unknown)} of {len(split)} cases: {_names(unknown)}; "
                "expected a table with a column split, or --split random"
            )
    if options.test_fraction is not None:
        source = "the table says which cases test" if origin == "table" else "the split is as published"
        warnings.append(f"test_fraction is not used: {source} (--split random would use it)")
    return {case: part for case, part in split.items() if part is not None}, origin


def _make_items(
    cases: Sequence[CaseFiles],
    layout: Layout,
    modalities: tuple[str, ...],
    options: PrepareOptions,
    warnings: list[str],
) -> _Files:
    """The files of every case; cases are converted first where needed."""
    converted = not layout.nifti or options.convert.changes_voxels
    files, problems = _Files(modalities), []
    if not converted and layout.channels:
        files.channels = layout.channels
        if modalities != files.channels:
            warnings.append(f"one file holds {', '.join(files.channels)}: all are kept, training picks its modalities")
    for case in progress(cases, "convert", len(cases)) if converted else cases:
        sources = list(case.images.values())
        image, label = sources[0] if layout.channels else sources, case.label
        if converted:
            try:
                done = layout.convert(
                    layout, case, tuple(case.images), options.output, options.convert, options.accept_mismatch
                )
            except DataError as error:
                problems.append(f"case {case.case}: {error}")
                continue
            image, label = done.image, done.label
            files.counts.update(done.counts)
            files.notes.update(done.notes)
        files.names[case.case] = tuple(case.images) if isinstance(image, list) else files.channels
        absolute = [os.path.abspath(path) for path in image] if isinstance(image, list) else os.path.abspath(image)
        files.items.append(
            {"image": absolute, "label": os.path.abspath(label), "case": case.case, "patient": case.patient}
        )
    if problems:
        raise DataError.listing(f"data in {options.source}", problems)
    return files


def _leave_out_copies(
    cases: list[CaseFiles], split: dict[str, str] | None, files: _Files, warnings: list[str]
) -> tuple[list[CaseFiles], dict[str, str] | None]:
    """Cases, their split and `files` without those that have no modality of their own where another was copied."""
    copies = {
        case: phrase for names, group in files.by_channels() for case, phrase in find_copies(group, names).items()
    }
    if not copies:
        return cases, split
    first = next(iter(copies))
    warnings.append(f"{len(copies)} cases left out; the first: case {first}, {copies[first]}")
    files.items = [item for item in files.items if item["case"] not in copies]
    if not files.items:
        raise DataError(f"no case is left: in all {len(copies)} one modality is a copy of another")
    kept = None if split is None else {case: part for case, part in split.items() if case not in copies}
    return [case for case in cases if case.case not in copies], kept


def _same_scans(files: _Files) -> list[str]:
    """Sentences on one scan under two patients' names, which neither the split nor the folds of a site keep apart."""
    pairs: dict[tuple[str, str], float] = {}
    # cases are compared by their first modality, or by each where not all have the same
    for kept in [None] if len(set(files.names.values())) == 1 else files.channels:
        shown = files.items if kept is None else files.of_modality(kept)
        for first, second, correlation in find_same_scans(shown, files.channels) if shown else []:
            pairs.setdefault((first, second), correlation)
    if not pairs:
        return []
    most_alike = sorted(pairs.items(), key=lambda pair: -pair[1])
    named = [f"{first} and {second} ({correlation:.2f})" for (first, second), correlation in most_alike]
    remedy = "give both one patient (column patient of --table) or leave one out"
    return [f"cases of different patients look like one scan (correlation): {_names(named)}; {remedy}"]


def _provenance(options: PrepareOptions, split: str) -> dict[str, Any]:
    rule: dict[str, Any] = {"rule": options.sites, "seed": options.seed}
    if options.sites in ("size", "dirichlet"):
        rule["num_sites"] = options.num_sites
    if options.sites == "dirichlet":
        rule["alpha"] = options.alpha
    if options.table is not None:
        rule["table"] = options.table.name
    rule["split"] = split
    if split == "random":
        rule["test_fraction"] = 0.2 if options.test_fraction is None else options.test_fraction
    if options.convert.n4:
        rule["n4_shrink"] = options.convert.n4_shrink
    if options.convert.resample is not None:
        rule["resample"] = options.convert.resample
    if options.convert.trust is not None:
        rule["trust"] = options.convert.trust
    return rule


def _rows(assigned: Mapping[str, str | None], split: Mapping[str, str], sizes: Mapping[str, float]) -> list:
    rows = []
    for site in sorted(set(assigned.values()), key=lambda site: (site is None, site or "")):
        held = [case for case, name in assigned.items() if name == site]
        tests = sum(split[case] == "test" for case in held)
        rows.append((site or NO_SITE, len(held) - tests, tests, statistics.median(sizes[case] for case in held)))
    return rows


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
