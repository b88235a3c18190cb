"""Data lists to choose settings on: without the test cases, and with patients of the sites in their place."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from bundle.data.datalist import DataList, write_part
from bundle.data.errors import DataError
from bundle.data.splits import seeded_generator

__all__ = ["write_tuning_list"]


def write_tuning_list(
    datalist: DataList, folder: str | os.PathLike, patients: int = 2, seed: int = 0, left_out: Collection[str] = ()
) -> Path:
    """
    Write the data list for choices that must not be made on the test cases: none of them is in it.

    Args:
        datalist: of the whole data set, with all its modalities.
        folder: where ``datalist.json`` is written; it names the files where they are.
        patients: of every site that trains, to be held out of its training patients, with all their cases.
        seed: of the draw of patients; that of a site does not depend on the other sites.
        left_out: sites that do not train: all their training patients are held out, as cases of no site, as other
            organs are among the published test cases.

    Returns:
        Path of the data list.

    Raises:
        DataError: when a site that trains would keep no patient, or ``left_out`` names none or all of the sites.
        ValueError: when nothing would be held out, or ``patients`` is negative.
    """
    if patients < (0 if left_out else 1):
        raise ValueError(f"patients: expected at least {0 if left_out else 1} of every site, got {patients}")
    if set(left_out) - set(datalist.sites) or set(left_out) >= set(datalist.sites):
        raise DataError(
            f"data list {datalist.name!r}: expected some, not all, of the sites {', '.join(datalist.sites)} to leave "
            f"out, got {', '.join(left_out)}"
        )
    training, held_out, problems = [], [], []
    for site in datalist.sites:
        if site in left_out:
            held_out.extend(item | {"site": None} for item in datalist.site_items(site))
            continue
        items = defaultdict(list)
        for item in datalist.site_items(site):
            items[item["patient"]].append(item)
        if len(items) <= patients:
            problems.append(f"site {site} has {len(items)} training patients, expected more than {patients}")
            continue
        rng = seeded_generator(seed, f"tuning {site}")
        drawn = set(rng.permutation(sorted(items))[:patients].tolist())
        for patient, cases in items.items():
            (held_out if patient in drawn else training).extend(cases)
    if problems:
        raise DataError.listing(f"data list {datalist.name!r}", problems)
    rule = {"tuning": {"patients": patients, "seed": seed, "left_out": sorted(left_out)}}
    return write_part(datalist, folder, f"{datalist.name}, for tuning", training, held_out, rule)
