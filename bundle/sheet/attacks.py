"""Part of a data sheet: what attacks on this generator, and on no other, have found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bundle.files import digest
from bundle.sheet.notes import Notes
from bundle.sheet.sources import Sources

__all__ = ["PARTS", "attacks", "is_attacked"]

PARTS = ("membership", "readout", "label_maps")
_COMMANDS = {"membership": "membership", "readout": "readout", "label_maps": "conditions"}
_FEW = "no answer, no control or too few patients for an interval"


def attacks(sources: Sources, notes: Notes) -> dict[str, Any]:
    """
    The block ``attacks``, from what audits left beside the generator.

    What was measured on other weights than those that are there now counts as not measured.
    """
    content, weights = sources.read("audit"), sources.path("weights")
    present = digest(weights) if weights is not None and weights.is_file() else None
    found: dict[str, Any] = {}
    for part in PARTS:
        measured = (content or {}).get(part)
        if not isinstance(measured, Mapping) or not measured.get("found"):
            reason = f"not attacked in this way: asyndgan audit {_COMMANDS[part]} does"
            found[part] = notes.missing(sources.why("audit") if content is None else reason, "attacks", part)
        elif measured.get("weights_sha256") != present:
            found[part] = notes.missing("attacked was another generator, of other weights", "attacks", part)
        else:
            found[part] = measured["found"]
    return found


def is_attacked(sheet: Mapping[str, Any]) -> bool:
    """Whether a sheet has any attack that was measured."""
    return any((sheet.get("attacks") or {}).get(part) for part in PARTS)


def reason_in_attacks(name: str) -> str | None:
    """Why a value within an attack is null: what an audit leaves open says nothing of itself."""
    if name.endswith("interval"):
        return _FEW
    return "the attack has no control" if name in ("control", "excess") else None
