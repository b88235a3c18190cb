"""Table: which sites answered a training, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .formats import DASH, as_number
from .scores import block
from .table import Row, Table

STATES = {"present": "to the end", "missing": "was away at the end", "left out": "left out after strikes"}
STATES |= {"ended": "its budget was spent"}
COLUMNS = (("answered", "Steps answered"), ("failures", "Failed"), ("late", "Too late"), ("strikes", "Strikes"))


def attendance(results: Mapping[str, Any]) -> Table:
    """A row per site; no rows where the training does not say.

    Args:
        results: contents of results.json; ``sites`` holds by site what `bundle.server.roster.Roster` counts.
    """
    rows = [
        Row(site, (STATES.get(str(about.get("state")), DASH), *(_count(about.get(key)) for key, _ in COLUMNS)))
        for site, about in sorted(block(results, "sites").items())
        if isinstance(about, Mapping)
    ]
    return Table("", ("Site", "Took part", *(heading for _, heading in COLUMNS)), tuple(rows))


def _count(value: Any) -> str:
    number = as_number(value)
    return f"{int(number):,}" if number == number else DASH
