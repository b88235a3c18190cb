"""Section: which sites answered a training, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .formats import DASH, as_number
from .render import plain_html_table
from .scores import block

STATES = {"present": "to the end", "missing": "was away at the end", "left out": "left out after strikes"}
STATES |= {"ended": "its budget was spent"}
COLUMNS = (("answered", "Steps answered"), ("failures", "Failed"), ("late", "Too late"), ("strikes", "Strikes"))


def attendance(results: Mapping[str, Any]) -> str:
    """A row per site, as HTML; empty where the training does not say.

    Args:
        results: contents of results.json; ``sites`` holds by site what `bundle.server.roster.Roster` counts.
    """
    found = block(results, "sites")
    rows = [
        (site, STATES.get(str(about.get("state")), DASH), *(_count(about.get(key)) for key, _ in COLUMNS))
        for site, about in sorted(found.items())
        if isinstance(about, Mapping)
    ]
    if not rows:
        return ""
    return (
        "<h2>Which sites answered</h2>"
        "<p>A step that a site does not answer in time goes on without it. A strike is an answer that cannot be "
        "right.</p>" + plain_html_table(("Site", "Took part", *(heading for _, heading in COLUMNS)), rows)
    )


def _count(value: Any) -> str:
    number = as_number(value)
    return f"{int(number):,}" if number == number else DASH
