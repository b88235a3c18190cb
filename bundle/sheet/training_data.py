"""Part of a data sheet: what the real data were, as far as that may leave the house."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from bundle.settings import kind_of
from bundle.sheet.notes import Notes
from bundle.sheet.sources import Sources

__all__ = ["MIN_PATIENTS", "data_licence", "known_of", "training_data"]

MIN_PATIENTS = 5
"""Numbers of a site with fewer are withheld: as min_cases of a site.yaml, unless its owner says otherwise."""
_WITHHELD = f"withheld: fewer than {MIN_PATIENTS} patients at the site"
_TOTAL = f"withheld: it would tell the number of a site with fewer than {MIN_PATIENTS} patients"
_COUNTS = ("patients", "cases", "samples")
_ADDRESS = re.compile(r"https?://\S+/licenses/\S+")


@cache
def _known() -> dict[str, dict[str, Any]]:
    path = Path(__file__).with_name("data_sets.yaml")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def known_of(layout: str | None) -> dict[str, Any]:
    """Of published data sets, by the layout that a data list names: ``source``, ``references`` and ``licence``."""
    return _known().get(layout or "", {})


def training_data(sources: Sources, notes: Notes, name: str | None = None) -> dict[str, Any]:
    """
    The block ``training_data``.

    Args:
        sources: the files of the run.
        notes: takes the reasons of what is not known.
        name: what the real data are called, in the place of their data list's name.
    """
    datalist, config = sources.read("datalist"), sources.config
    why = sources.why("datalist")

    def known(field: str, value: Any, reason: str = why) -> Any:
        return value if value not in (None, "", []) else notes.missing(reason, "training_data", field)

    # what is called otherwise is not what the layout says of published data
    layout = None if name else (datalist or {}).get("layout")
    size = config.get("image_size")
    groups = config.get("label_groups")
    modality = (datalist or {}).get("modality")
    modalities = config.get("modalities") or (list(modality.values()) if isinstance(modality, dict) else None)
    unpublished = f"the layout {layout!r} is of no published data set that is known here" if layout else why
    sites = _sites(sources, notes)
    return {
        "name": known("name", name or (datalist or {}).get("name")),
        "source": known("source", known_of(layout).get("source"), unpublished),
        "layout": known("layout", layout, "they are called otherwise than their data list says" if name else why),
        "modality": known("modality", modalities if _are_texts(modalities) else None),
        "acquisition": known(
            "acquisition", known_of(layout).get("acquisition"), "data lists do not say how images were acquired"
        ),
        "image_size": known("image_size", [size, size] if isinstance(size, int) else None, "it is computed"),
        "classes": known("classes", list(groups) if isinstance(groups, dict) else None),
        **_totals(sites, notes, why),
        "sites": sites if sites is not None else notes.missing(why, "training_data", "sites"),
    }


def data_licence(sources: Sources, notes: Notes, given: str | None = None) -> list[str] | None:
    """
    Licences of the real data: of a text that was given, else what their data list says, else those of their layout.
    Of a text its addresses, where it has any.

    Args:
        sources, notes: as for :func:`training_data`.
        given: the text of their licence.
    """
    datalist = sources.read("datalist") or {}
    said = datalist.get("licence") or datalist.get("license")
    text = given or (said if isinstance(said, str) else None) or known_of(datalist.get("layout")).get("licence")
    if not text:
        return notes.missing("whoever holds the data knows it", "licence", "data")
    return [address.rstrip(".,;)") for address in _ADDRESS.findall(text)] or [" ".join(text.split())]


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _sites(sources: Sources, notes: Notes) -> dict[str, dict[str, Any]] | None:
    items = _items(sources)
    if not items:
        names = sorted((sources.read("record") or {}).get("sites") or {})
        return {site: _counts(site, [], {}, notes, sources.why("datalist")) for site in names} or None
    samples = ((sources.read("quality") or {}).get("metrics") or {}).get("images/real")
    by_site = samples.get("per_case") if isinstance(samples, Mapping) else None
    own: dict[str, list[Mapping[str, Any]]] = {}
    for item in items:
        own.setdefault(str(item.get("site")), []).append(item)
    reason = "counted when the images are scored: the stage quality"
    return {site: _counts(site, own[site], by_site or {}, notes, reason) for site in sorted(own)}


def _items(sources: Sources) -> list[Mapping[str, Any]]:
    """Training items of the sites that the generator learned from."""
    items = [item for item in (sources.read("datalist") or {}).get("training") or [] if isinstance(item, Mapping)]
    setting = str(sources.config.get("setting", ""))
    site = setting.partition("/")[2]
    try:
        generator = kind_of(setting).generator
    except ValueError:
        return items
    if generator in ("own", "others"):
        return [item for item in items if (item.get("site") == site) == (generator == "own")]
    return items


def _counts(
    site: str, items: Sequence[Mapping[str, Any]], samples: Mapping[str, Any], notes: Notes, reason: str
) -> dict[str, int | None]:
    patients = len({item.get("patient", item.get("case")) for item in items})
    found: dict[str, int | None] = dict.fromkeys(_COUNTS)
    if patients >= MIN_PATIENTS:
        found = {"patients": patients, "cases": len(items), "samples": samples.get(site)}
    for field in _COUNTS:
        if found[field] is None:
            few = 0 < patients < MIN_PATIENTS
            notes.missing(_WITHHELD if few else reason, "training_data", "sites", site, field)
    return found


def _totals(sites: dict[str, dict[str, Any]] | None, notes: Notes, why: str) -> dict[str, int | None]:
    totals: dict[str, int | None] = {}
    for field in ("patients", "cases"):
        values = [of[field] for of in (sites or {}).values()]
        withheld = any("withheld" in reason for reason in notes.values())
        if values and None not in values:
            totals[field] = sum(values)
        else:
            totals[field] = notes.missing(_TOTAL if withheld else why, "training_data", field)
    return totals
