"""What is wrong with a data sheet, in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from bundle.sheet.fields import DATA_SET, FIELDS, FORMAT, GENERATOR, fields_of, pointer_to, value_at
from bundle.sheet.notes import PLACE, nulls

__all__ = ["check_sheet"]

_TYPES: dict[str, tuple[type, ...]] = {"text": (str,), "number": (int, float), "list": (list,), "table": (dict,)}
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MAX_DEPTH = 12


def check_sheet(sheet: Any) -> list[str]:
    """
    Everything that contradicts the format of a data sheet, each in one line; empty where nothing does.

    Args:
        sheet: what a ``data_sheet.json`` holds; anything may come from outside.
    """
    if not isinstance(sheet, dict):
        return [f"expected an object, got {type(sheet).__name__}"]
    if sheet.get("format") != FORMAT:
        return [f"/format is {sheet.get('format')!r:.40}, expected {FORMAT}"]
    if sheet.get("kind") not in (GENERATOR, DATA_SET):
        return [f"/kind is {sheet.get('kind')!r:.40}, expected {GENERATOR!r} or {DATA_SET!r}"]
    if _depth(sheet) > _MAX_DEPTH:
        return [f"nested more than {_MAX_DEPTH} deep"]
    problems = [*_fields(sheet), *_unknown(sheet)]
    return problems or [*_reasons(sheet), *_digests(sheet), *_policies(sheet), *_places(sheet)]


def _fields(sheet: Mapping[str, Any]) -> Iterator[str]:
    for pointer in fields_of(str(sheet["kind"])):
        try:
            value = value_at(sheet, pointer)
        except KeyError:
            yield f"{pointer} is missing"
            continue
        types = _TYPES[FIELDS[pointer].type]
        if value is not None and (not isinstance(value, types) or isinstance(value, bool)):
            yield f"{pointer} is {type(value).__name__}, expected a {FIELDS[pointer].type}"


def _unknown(sheet: Mapping[str, Any]) -> Iterator[str]:
    """Fields that no sheet of this kind has."""
    known = list(fields_of(str(sheet["kind"])))
    blocks = {pointer.split("/")[1] for pointer in known if pointer.count("/") == 2}
    for name, content in sheet.items():
        names = [pointer_to(name, part) for part in content] if name in blocks and isinstance(content, dict) else []
        for pointer in names or [pointer_to(name)]:
            if pointer not in known and not (name in blocks and pointer == f"/{name}"):
                yield f"{pointer} is unknown"


def _reasons(sheet: Mapping[str, Any]) -> Iterator[str]:
    """A null needs a reason, and a reason a null."""
    reasons = sheet["not_known"] or {}
    open_ends = set(nulls({key: value for key, value in sheet.items() if key != "not_known"}))
    for pointer in sorted(open_ends - reasons.keys()):
        yield f"{pointer} is null, and /not_known does not say why"
    for pointer, reason in reasons.items():
        if pointer not in open_ends:
            yield f"/not_known has a reason for {pointer!r:.80}, which is not null"
        elif not isinstance(reason, str) or not reason.strip():
            yield f"/not_known has no words for {pointer}"


def _digests(sheet: Mapping[str, Any]) -> Iterator[str]:
    for block in ("made", "network"):
        for name, value in (sheet.get(block) or {}).items():
            if name.endswith("sha256") and value is not None and not _DIGEST.fullmatch(str(value)):
                yield f"/{block}/{name} is {value!r:.80}, expected 64 hexadecimal digits"


def _policies(sheet: Mapping[str, Any]) -> Iterator[str]:
    from bundle.site.release import POLICIES  # late: it takes seconds, and reports do without

    for site, of in (sheet["releases"] or {}).items():
        pointer = pointer_to("releases", site)
        if not isinstance(of, Mapping):
            yield f"{pointer} is {type(of).__name__}, expected a table"
            continue
        name, words, epsilon = of.get("policy"), of.get("in_words"), of.get("epsilon")
        if name is not None and name not in POLICIES:
            yield f"{pointer}/policy is {name!r:.40}, expected one of {', '.join(POLICIES)}"
        elif name is not None and str(words).partition(" (")[0] != name:
            yield f"{pointer}/in_words is {words!r:.80}, expected the policy {name}"
        if epsilon is not None and (isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or epsilon <= 0):
            yield f"{pointer}/epsilon is {epsilon!r:.40}, expected a number above 0"


def _places(sheet: Mapping[str, Any]) -> Iterator[str]:
    for pointer, text in _texts(sheet):
        if PLACE.search(text):
            yield f"{pointer} names a place on a disk, and a sheet leaves the house"


def _texts(value: Any, *names: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield pointer_to(*names), value
    elif isinstance(value, dict | list):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(item, *names, name)


def _depth(value: Any, level: int = 0) -> int:
    if level > _MAX_DEPTH or not isinstance(value, dict | list):
        return level
    parts = value.values() if isinstance(value, dict) else value
    return max((_depth(part, level + 1) for part in parts), default=level)
