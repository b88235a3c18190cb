"""Which tables a run has: settings and metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from .formats import DASH, as_number
from .names import Metric, display_name, get_metric
from .render import BEST_MARK, Row, Table, to_html, to_markdown, to_text
from .scores import (
    best_subset,
    block,
    key_metric,
    mean_and_std,
    metric_names,
    order_settings,
    ratio_to_real_all,
)

_EMPTY = "No results yet."


def text_table(results: Mapping[str, Any]) -> str:
    """All tables for a terminal; no newline at the end.

    Args:
        results: contents of results.json; any block may be missing.
    """
    return "\n\n\n".join(map(to_text, result_tables(results))) or _EMPTY


def markdown_table(results: Mapping[str, Any]) -> str:
    """All tables in GitHub's Markdown; ends with a newline.

    Args:
        results: contents of results.json; any block may be missing.
    """
    return "\n".join(map(to_markdown, result_tables(results))) or _EMPTY + "\n"


def html_table(results: Mapping[str, Any]) -> str:
    """All tables as an HTML fragment, see `to_html`. Row classes: ``setting-KIND`` and ``best``.

    Args:
        results: contents of results.json; any block may be missing.
    """
    return "\n".join(map(to_html, result_tables(results))) or f'<p class="note">{_EMPTY}</p>'


def result_tables(results: Mapping[str, Any]) -> list[Table]:
    """The tables of a run, in the order in which they are read; those without rows or columns are left out."""
    if not order_settings(results):
        return []
    return [table for make in TABLES if (table := make(results)) is not None]


def score_table(results: Mapping[str, Any]) -> Table | None:
    """A row per setting, a column per metric: mean ± standard deviation over seeds; the best single site marked."""
    key, best = key_metric(results), best_subset(results)
    # With a single subset "the best" would say nothing.
    if best is not None and sum(s.partition("/")[0] == best.partition("/")[0] for s in order_settings(results)) < 2:
        best = None
    names = metric_names(results)
    headings = ["Setting", "Training images", *(get_metric(name, results).heading for name in names)]
    if key:
        headings.append(f"{get_metric(key).label} / Real-All")
    rows = []
    for setting in order_settings(results):
        cells = [_format_count((block(results, "settings")[setting] or {}).get("training_images"))]
        cells += [_format_mean(get_metric(name), *mean_and_std(results, setting, name)) for name in names]
        if key:
            ratio = ratio_to_real_all(results, setting, key)
            cells.append(DASH if math.isnan(ratio) else f"{ratio:.3f}")
        rows.append(_row(setting, cells, best=setting == best))
    notes = [f"{BEST_MARK} best single site by {get_metric(key).label}."] if best else []
    return Table("", tuple(headings), tuple(rows), tuple(notes + _seed_notes(results, key)))


# What a newcomer to this file extends: from results.json to a table, or None where it has nothing to show.
TABLES: list[Callable[[Mapping[str, Any]], Table | None]] = [score_table]


def _row(setting: str, cells: list[str], best: bool = False) -> Row:
    return Row(display_name(setting), tuple(cells), setting.partition("/")[0], best)


def _format_count(value: Any) -> str:
    number = as_number(value)
    return f"{int(number):,}" if math.isfinite(number) else DASH


def _format_mean(metric: Metric, mean: float, std: float) -> str:
    text = metric.format(mean)
    return text if math.isnan(std) or text == DASH else f"{text} ± {metric.format(std)}"


def _seed_notes(results: Mapping[str, Any], key: str | None) -> list[str]:
    """What the numbers are averaged over, and which settings have fewer seeds than the run was asked for."""
    seeds = list(results.get("seeds") or [])
    done = {}
    for setting in order_settings(results) if key else []:
        entry = (block(results, "settings")[setting] or {}).get(key)
        if isinstance(entry, Mapping) and entry.get("per_seed"):
            done[setting] = len(entry["per_seed"])
    count = len(seeds) or max(done.values(), default=0)
    notes = []
    if max(done.values(), default=count) > 1:
        notes.append(f"Mean ± standard deviation over {count} seeds.")
    elif count:
        notes.append("One seed: the spread between repeated runs is not known.")
    behind = [f"{display_name(setting)} {number} of {count}" for setting, number in done.items() if number < count]
    if behind:
        notes.append("Seeds finished so far: " + ", ".join(behind) + ".")
    return notes
