"""The sheet of a synthetic data set, beside its data list, with its ``README.md`` and ``croissant.json``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundle.files import write_json, write_text
from bundle.sheet.croissant import croissant
from bundle.sheet.fields import DATA_SET
from bundle.sheet.make import make_sheet
from bundle.sheet.readme import render
from bundle.sheet.sources import Sources

__all__ = ["SHEET_FILE", "write_data_set_sheet", "write_sheets"]

SHEET_FILE = "data_sheet.json"
VERSION = "1.0.0"
"""Of a data set that is written once, and never in part."""


def write_sheets(run_dir: str | os.PathLike[str]) -> list[Path]:
    """
    Write the sheets of all synthetic data sets of a run, with what is known by now.

    Args:
        run_dir: folder of the run.

    Returns:
        The sheets.
    """
    settings = [
        path.parent.parent
        for pattern in ("seed_*/*/synthetic/datalist.json", "seed_*/*/*/synthetic/datalist.json")
        for path in sorted(Path(run_dir).glob(pattern))
    ]
    return [sheet for folder in settings if (sheet := write_data_set_sheet(folder)) is not None]


def write_data_set_sheet(folder: str | os.PathLike[str]) -> Path | None:
    """
    Write the sheet of a setting's synthetic data set, anew where there is one.

    Args:
        folder: of the setting, ``RUN/seed_S/SETTING``.

    Returns:
        The path of the sheet; None without a data set.

    Raises:
        OSError: it cannot be written.
    """
    sources = Sources(Path(os.path.abspath(folder)))
    datalist, target = sources.read("synthetic"), sources.folder / "synthetic"
    if datalist is None:
        return None
    setting, seed = (sources.config.get(key, "not known") for key in ("setting", "seed"))
    texts = {
        "name": f"Synthetic images of the task {datalist.get('task')}, {setting}, seed {seed}",
        "description": _description(datalist, sources),
        "version": VERSION,
    }
    sheet = make_sheet(DATA_SET, sources, texts, {"contents": _contents(datalist)})
    write_json(target / SHEET_FILE, sheet)
    write_text(target / "README.md", render(Path(__file__).with_name("templates") / "README_data_set.md", sheet))
    write_json(target / "croissant.json", croissant(target, datalist, sheet))
    return target / SHEET_FILE


def _description(datalist: Mapping[str, Any], sources: Sources) -> str:
    channels = ", ".join((datalist.get("modality") or {}).values())
    painted = {"painted label maps": "painted at random by class", "images of teachers": "predicted by sites' teachers"}
    guided = " that saw what sites' teachers predicted" if sources.config.get("generator_guide") else ""
    by = painted.get(str(datalist.get("reference")), f"drawn by a generator{guided}")
    return f"Images ({channels}), {by} on label maps, with these label maps. No image of a patient is among them."


def _contents(datalist: Mapping[str, Any]) -> dict[str, Any]:
    items = datalist.get("training") or []
    sources = (datalist.get("site_rule") or {}).get("condition_source") or {}
    return {
        "images": sum(sources.values()) or len(items),
        "by_site": dict(sorted(Counter(str(item.get("site")) for item in items).items())),
        "by_source": dict(sources),
        "labels": dict(datalist.get("labels") or {}),
        "intensity_range": next((item.get("intensity_range") for item in items), None),
    }
