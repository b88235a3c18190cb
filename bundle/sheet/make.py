"""A data sheet, put together from its parts."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from bundle.settings import kind_of
from bundle.sheet.attacks import attacks, reason_in_attacks
from bundle.sheet.fields import DATA_SET, FORMAT, GENERATOR
from bundle.sheet.made import made
from bundle.sheet.notes import UNSAID, Notes, nulls, plain
from bundle.sheet.releases import releases
from bundle.sheet.scores import downstream, quality
from bundle.sheet.sources import Sources
from bundle.sheet.training_data import data_licence, training_data

__all__ = ["make_sheet"]

NOT_FOR = (
    "diagnosis, treatment or any other clinical use: it is no medical device",
    "as anonymous data: synthetic images may show what the generator learned of single patients",
    "as a replacement of real images where a method is tested or validated",
    "looking for the people whose images it learned from",
)


def make_sheet(
    kind: str,
    sources: Sources,
    texts: Mapping[str, str],
    own: Mapping[str, Any],
    data_name: str | None = None,
    licence: str | None = None,
) -> dict[str, Any]:
    """
    The sheet of a generator or of a synthetic data set; nothing in it names a patient, a case, a place or a machine.

    Args:
        kind: ``generator`` or ``data set``.
        sources: the files of the run.
        texts: ``name``, ``description`` and ``version``.
        own: the blocks that this kind alone has, by name.
        data_name: what the real data are called, in the place of their data list's name.
        licence: text of the licence of the real data, where it is not one that is known here.

    Returns:
        What JSON knows; every field of :data:`bundle.sheet.fields.FIELDS` that the kind has.
    """
    notes = Notes()
    made_on = sources.path("record" if kind == GENERATOR else "synthetic")
    task = sources.config.get("task")
    sheet = {
        "format": FORMAT,
        "kind": kind,
        **{field: texts[field] for field in ("name", "description")},
        "task": task if isinstance(task, str) else notes.missing(UNSAID, "task"),
        "version": texts["version"],
        "made": made(sources, notes, made_on),
        "training_data": training_data(sources, notes, data_name),
        "releases": releases(sources, notes),
        "attacks": attacks(sources, notes),
        "quality": quality(sources, notes),
        "downstream": downstream(sources, notes),
        **own,
        "not_for": list(NOT_FOR),
        "limitations": _limitations(kind, sources),
        "licence": {"code": "Apache-2.0", "data": data_licence(sources, notes, licence)},
    }
    sheet = plain(sheet)
    open_ends = {pointer: notes.get(pointer) or _reason(pointer) for pointer in nulls(sheet)}
    return sheet | {"not_known": plain(open_ends)}


def _reason(pointer: str) -> str:
    in_attacks = reason_in_attacks(pointer.rpartition("/")[2]) if pointer.startswith("/attacks/") else None
    return in_attacks or UNSAID


def _limitations(kind: str, sources: Sources) -> list[str]:
    config = sources.config
    found = ["one training with one seed; another one may be better or worse"]
    if isinstance(size := config.get("image_size"), int):
        found.append(f"images were learned at {size} × {size} pixels")
    if config.get("task") == "brats":
        found.append("slices are drawn one by one: neighbours need not continue each other")
    with suppress(ValueError):
        pooled = kind_of(str(config.get("setting"))).generator == "pooled"
        found += ["its real images were pooled in one place: nothing of it is learning from a distance"] * pooled
    if kind == DATA_SET:
        found.append(
            "images are drawn on the label maps that sites released under their policies, or on the server's own"
        )
    return [*found, "patients unlike those of its sites are not shown"]
