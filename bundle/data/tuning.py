"""Data lists to choose settings on: without the test cases, and with some patients of every site in their place."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

from bundle.data.datalist import DataList, write_part
from bundle.data.errors import DataError
from bundle.data.splits import seeded_generator

__all__ = ["write_tuning_list"]


def write_tuning_list(datalist: DataList, folder: str | os.PathLike, patients: int = 2, seed: int = 0) -> Path:
    """
    Write the data list for choices that must not be made on the test cases: none of them is in it.

    Args:
        datalist: of the whole data set, with all its modalities.
        folder: where ``datalist.json`` is written; it names the files where they are.
        patients: of every site, to be held out of its training patients, with all their cases.
        seed: of the draw of patients; that of a site does not depend on the other sites.

    Returns:
        Path of the data list.

    Raises:
        DataError: when a site would keep no training patient.
        ValueError: when ``patients`` is below 1.
    """
    if patients < 1:
        raise ValueError(f"patients: expected at least 1 of every site, got {patients}")
    training, held_out, problems = [], [], []
    for site in datalist.sites:
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
    rule = {"tuning": {"patients": patients, "seed": seed}}
    return write_part(datalist, folder, f"{datalist.name}, for tuning", training, held_out, rule)
