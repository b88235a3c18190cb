"""What a ledger's entries add up to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod
from typing import Any

__all__ = ["NO_RELEASE", "Policy", "Tally", "tally"]

NO_RELEASE = frozenset({"start", "refusal", "folds", "update", "end"})
"""Kinds of entries with which no data leave; every other kind is a release."""


@dataclass
class Policy:
    """A policy in force, from a ``start`` to the entry before the ``start`` of another one."""

    name: str
    fields: dict
    first: str
    last: str
    releases: int = 0


@dataclass
class Tally:
    """
    Args:
        policies: in the order of their starts, with the dates of their first and last entry.
        unruled: releases before any ``start``.
        releases: number by kind.
        gradients: number of image gradients by ``(shape of one, dtype)``.
        losses: names of losses, with the number of releases that held them.
        conditions: number of label maps by origin.
        taught: number of images that a teacher predicted.
        scored: number of scored segmenters by how many held-out cases they were scored on.
        others: number of parts of other kinds by their ``what``.
        size: bytes of all parts; of ``unsized`` parts none are stated.
        issued: how often each sample was issued.
        epsilons: releases that state an ε; ``last`` is the ε and δ of the last of them, ``anew`` the numbers of entries
            whose ε is below the one before.
        refusals: number by reason.
        sites: number of entries by site.
        clock: by how many seconds the clock went back, each time.
    """

    policies: list[Policy] = field(default_factory=list)
    unruled: int = 0
    releases: Counter = field(default_factory=Counter)
    gradients: Counter = field(default_factory=Counter)
    losses: Counter = field(default_factory=Counter)
    conditions: Counter = field(default_factory=Counter)
    taught: int = 0
    scored: Counter = field(default_factory=Counter)
    others: Counter = field(default_factory=Counter)
    size: int = 0
    unsized: int = 0
    issued: Counter = field(default_factory=Counter)
    epsilons: int = 0
    last: tuple[float, Any] | None = None
    anew: list[int] = field(default_factory=list)
    refusals: Counter = field(default_factory=Counter)
    sites: Counter = field(default_factory=Counter)
    clock: list[int] = field(default_factory=list)


def tally(entries: Iterable[dict]) -> Tally:
    """
    Add up entries; a field that is missing or of another type than documented counts as not stated.

    Read are, of a ``start``: ``policy`` (text) and ``policy_fields`` (dictionary); of a ``refusal``: ``reason``
    and ``count``, 1 where it is not stated; of any entry: ``clock_went_back``; of a release: ``samples`` (list of names
    of those whose conditions it issues), ``epsilon`` (so far, ``"inf"`` or None without bound) with ``delta``, and
    ``parts``, a list of dictionaries with ``what``, ``bytes`` and, by ``what``,

    - ``image gradient``: ``shape`` B×C×H×W and ``dtype``;
    - ``losses``: ``names``;
    - ``teacher images``: ``shape`` B×C×H×W;
    - ``conditions``: ``shape`` B×X×H×W and ``origin``, such as ``real`` or ``deformed``;

    and of ``scores`` ``cases``, how many they are of.
    """
    found = Tally()
    for entry in entries:
        found.sites[entry["site"]] += 1
        kind = entry["kind"]
        if kind == "start":
            _start(found, entry)
        if found.policies:
            found.policies[-1].last = entry["time"]
        if kind == "refusal":
            found.refusals[_text(entry.get("reason"))] += max(1, _whole(entry.get("count")))
        if back := _whole(entry.get("clock_went_back")):
            found.clock.append(back)
        if kind not in NO_RELEASE:
            _release(found, entry)
    return found


def _start(found: Tally, entry: dict) -> None:
    name, fields = _text(entry.get("policy")), entry.get("policy_fields")
    fields = fields if isinstance(fields, dict) else {}
    if not found.policies or (found.policies[-1].name, found.policies[-1].fields) != (name, fields):
        found.policies.append(Policy(name, fields, entry["time"], entry["time"]))


def _release(found: Tally, entry: dict) -> None:
    found.releases[entry["kind"]] += 1
    if found.policies:
        found.policies[-1].releases += 1
    else:
        found.unruled += 1
    if entry["kind"] == "scores":
        found.scored[_whole(entry.get("cases"))] += 1
    for part in _list(entry.get("parts")):
        _part(found, part if isinstance(part, dict) else {})
    found.issued.update(_text(sample) for sample in _list(entry.get("samples")))
    if "epsilon" in entry:
        value = entry["epsilon"]
        # no number: without bound
        value = float(value) if isinstance(value, int | float) else float("inf")
        if found.last and value < found.last[0]:
            found.anew.append(entry["number"])
        found.epsilons += 1
        found.last = value, entry.get("delta")


def _part(found: Tally, part: dict) -> None:
    what = _text(part.get("what"))
    shape = tuple(n for n in _list(part.get("shape")) if isinstance(n, int))
    # without a shape, one at least
    count = shape[0] if shape else 1
    if what == "image gradient":
        found.gradients[shape[1:], _text(part.get("dtype"))] += count
    elif what == "losses":
        found.losses.update(map(_text, _list(part.get("names"))))
    elif what == "conditions":
        # a batch without elements holds no label map, whatever its shape says
        found.conditions[_text(part.get("origin"))] += count if prod(shape) else 0
    elif what == "teacher images":
        found.taught += count
    else:
        found.others[what] += 1
    if isinstance(part.get("bytes"), int):
        found.size += part["bytes"]
    else:
        found.unsized += 1


def _list(value: Any) -> list:
    return value if isinstance(value, list) else []


def _whole(value: Any) -> int:
    return value if type(value) is int else 0


def _text(value: Any) -> str:
    return "not stated" if value is None else str(value)
