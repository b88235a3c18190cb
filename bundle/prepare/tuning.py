"""Data lists to choose settings on: without the test cases, and with patients of the sites in their place."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch

from bundle.data.datalist import DataList, write_part
from bundle.data.errors import DataError
from bundle.data.tiles import TILE_SUFFIXES, read_tile, write_pixels
from bundle.files import atomic_path
from bundle.prepare.splits import seeded_generator
from bundle.transforms import scale_stains

__all__ = ["write_tuning_list"]


def write_tuning_list(
    datalist: DataList,
    folder: str | os.PathLike,
    patients: int = 2,
    seed: int = 0,
    left_out: Collection[str] = (),
    stain_strengths: Sequence[float] | None = None,
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
        stain_strengths: of H&E tiles: factors for the haematoxylin and the eosin of every case held out, which is
            written into ``folder`` as another laboratory might have stained it; see
            :func:`bundle.transforms.scale_stains`.

    Returns:
        Path of the data list.

    Raises:
        DataError: when a site that trains would keep no patient, ``left_out`` names none or all of the sites, or what
            should be stained anew is no RGB tile.
        ValueError: when nothing would be held out, ``patients`` is negative, or a factor of a stain is not above 0.
        OSError: naming the file, a tile that cannot be written.
    """
    if patients < (0 if left_out else 1):
        raise ValueError(f"patients: expected at least {0 if left_out else 1} of every site, got {patients}")
    if set(left_out) - set(datalist.sites) or set(left_out) >= set(datalist.sites):
        raise DataError(
            f"data list {datalist.name!r}: expected some, not all, of the sites {', '.join(datalist.sites)} to leave "
            f"out, got {', '.join(left_out)}"
        )
    if stain_strengths is not None and not (len(stain_strengths) == 2 and min(stain_strengths) > 0):
        raise ValueError(f"stain_strengths: expected two factors above 0, got {stain_strengths}")
    training: list[dict[str, Any]] = []
    held_out: list[dict[str, Any]] = []
    problems: list[str] = []
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
    rule = {"patients": patients, "seed": seed, "left_out": sorted(left_out)}
    if stain_strengths is not None:
        held_out = [_restained(item, Path(folder), stain_strengths) for item in held_out]
        rule["stain_strengths"] = list(stain_strengths)
    return write_part(datalist, folder, f"{datalist.name}, for tuning", training, held_out, {"tuning": rule})


def _restained(item: dict[str, Any], folder: Path, strengths: Sequence[float]) -> dict[str, Any]:
    """The case with its tile stained anew, in a file of its own."""
    source = Path(item["image"]) if isinstance(item["image"], str) else None
    if source is None or source.suffix.lower() not in TILE_SUFFIXES:
        raise DataError(f"case {item['case']}: expected an RGB tile in one file to stain anew, got {item['image']}")
    tile, _ = read_tile(source)
    stained = scale_stains(torch.from_numpy(tile.transpose(2, 0, 1)), strengths).round().to(torch.uint8)
    with atomic_path(folder / "tiles" / f"{item['case']}.png") as path:
        write_pixels(stained.numpy().transpose(1, 2, 0), path)
    return item | {"image": str(folder.resolve() / "tiles" / f"{item['case']}.png")}
