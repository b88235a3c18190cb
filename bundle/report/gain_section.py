"""What the page opens with where a run has settings beyond the paper's, as data: the template gives it its form."""

from __future__ import annotations

from typing import Any

from .crossed import crossed_table
from .federated import federated_table
from .gain import Gains
from .gain_tables import absent_table, gain_table, own_table
from .gain_words import absent_words, federated_words, gain_words, headline
from .sections import Report
from .table import Table

__all__ = ["opening"]


def opening(report: Report, gains: Gains) -> dict[str, Any]:
    """What each hospital gains, what of it there is at one that was never there, what crossed."""
    return {
        "headline": headline(gains),
        "words": gain_words(gains),
        "federated": federated_words(gains),
        "gain": _if_rows(gain_table(gains)),
        "own": _if_rows(own_table(gains)),
        "figures": report.figures_of("gain"),
        "inside": _if_rows(federated_table(gains.results, gains.metric)),
        "absent": _if_rows(absent_table(gains)),
        "absent_words": absent_words(gains),
        "crossed": _if_rows(crossed_table(gains.results)),
    }


def _if_rows(table: Table) -> Table | None:
    return table if table.rows else None
