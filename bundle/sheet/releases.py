"""Part of a data sheet: what every site let out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bundle.sheet.notes import Notes
from bundle.sheet.sources import Sources

__all__ = ["policy_fields", "releases"]

_NUMBER = re.compile(r"\b(epsilon|delta) ([0-9.eE+-]+|inf)\b")
_NONE = "the policy has no differential privacy"
_ENDLESS = "it is infinite: gradients are clipped, and there is no noise"


def policy_fields(words: str) -> dict[str, Any]:
    """
    A release policy in words (:meth:`bundle.site.release.ReleasePolicy.describe`), with its name and its budget.

    >>> policy_fields("private (epsilon 4, delta 1e-05, clip_norm 0.01)")["epsilon"]
    4.0
    """
    numbers = {name: float(value) for name, value in _NUMBER.findall(words)}
    return {
        "policy": words.partition(" (")[0],
        "in_words": words,
        "epsilon": numbers.get("epsilon"),
        "delta": numbers.get("delta"),
    }


def releases(sources: Sources, notes: Notes) -> dict[str, dict[str, Any]] | None:
    """The block ``releases``; ε is the budget of all releases of a site, which a training may not have spent."""
    record = sources.read("released")
    sites = (record or {}).get("sites")
    if not isinstance(sites, Mapping) or not sites:
        return notes.missing(sources.why("released"), "releases")
    found = {}
    for site in sorted(sites):
        words = (sites[site] or {}).get("policy")
        of = dict.fromkeys(("policy", "in_words", "epsilon", "delta")) if words is None else policy_fields(str(words))
        if words is None:
            for field in of:
                notes.missing("the site never said it", "releases", site, field)
        if of["epsilon"] == float("inf"):
            of["epsilon"] = notes.missing(_ENDLESS, "releases", site, "epsilon")
        elif words is not None:
            for field in ("epsilon", "delta"):
                if of[field] is None:
                    notes.missing(_NONE, "releases", site, field)
        found[site] = of
    return found
