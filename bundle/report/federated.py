"""Table: segmenters that were scored inside the hospitals, `asyndgan federate evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bundle.text import refusals

from .display_names import display_name, get_metric
from .formats import DASH, as_number
from .scores import block
from .table import Row, Table

__all__ = ["federated_table"]


def federated_table(results: Mapping[str, Any], metric: str) -> Table:
    """
    A row for each segmenter, a column for each hospital that scored it: the mean over its held-out cases, of sums that
    left it; no rows without any.

    Args:
        results: contents of results.json; under ``federated_evaluation`` those of ``federated_evaluation.json``.
        metric: name of a metric.
    """
    found = block(results, "federated_evaluation")
    sites = [str(site) for site in found.get("sites") or []]
    rows: list[Row] = []
    for name, about in block(found, "segmenters").items():
        scored = block(about, "sites")
        pooled = block(block(about, "pooled"), metric)
        cells = [_mean(block(block(scored, site), metric)) for site in sites]
        rows.append(Row(display_name(str(name)), (*cells, _shown(pooled.get("mean"), pooled.get("count")))))
    title = f"Scored inside the hospitals: {get_metric(metric, results).label}"
    headings = ("Segmenter of", *(f"Scored at {site}" for site in sites), "All cases")
    lead = "Sums and counts left the hospitals, and no image. In brackets the number of cases."
    return Table(title, headings, tuple(rows), (lead, *(f"{said}." for said in refusals(block(found, "segmenters")))))


def _mean(sums: Mapping[str, Any]) -> str:
    count = as_number(sums.get("count"))
    return _shown(as_number(sums.get("sum")) / count, count) if count >= 1 else DASH


def _shown(mean: Any, count: Any) -> str:
    value, number = as_number(mean), as_number(count)
    return f"{value:.3f} ({number:.0f})" if value == value and number >= 1 else DASH
