"""Which tables a run has: settings and metrics, groups of cases, AsynDGAN against each setting."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .display_names import Metric, display_name, get_metric
from .formats import DASH, as_number
from .scores import (
    best_subset,
    block,
    is_synthesis_only,
    key_metric,
    key_metrics,
    mean_and_std,
    metric_names,
    order_settings,
    ratio_to_reference,
    reference_setting,
    setting_scores,
)
from .table import BEST_MARK, Row, Table, to_markdown, to_text
from .untrained import is_untrained, warning

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


def result_tables(results: Mapping[str, Any]) -> list[Table]:
    """The tables of a run, in the order in which they are read; those without rows are left out."""
    return [table for make in TABLES for table in make(results) if table.rows]


def score_tables(results: Mapping[str, Any]) -> list[Table]:
    """
    A row per setting, a column per metric: mean ± standard deviation over seeds; the best single site marked.

    Scores of single classes and of groups of cases have tables of their own.
    """
    names = metric_names(results)
    groups = [name for name in names if "/" in name]
    classes = [name for name in names if name not in groups and ":" in name]
    union = [name for name in names if name not in groups + classes]
    note = ["Any class counts as foreground here; the classes apart are in a table of their own."] if classes else []
    tables = [_score_table(results, "", union, whole=True, notes=note)]
    others = [("Classes", classes), ("Groups of cases", groups)]
    return tables + [_score_table(results, title, listed) for title, listed in others if listed]


def _score_table(
    results: Mapping[str, Any], title: str, names: list[str], whole: bool = False, notes: Sequence[str] = ()
) -> Table:
    """``whole``: with the number of training images, if any segmenter was trained, and the ratio to the reference."""
    key, best = key_metric(results), best_subset(results)
    # With a single subset "the best" would say nothing.
    if best is not None and sum(s.partition("/")[0] == best.partition("/")[0] for s in order_settings(results)) < 2:
        best = None
    counted = [] if is_synthesis_only(results) else ["Training images"]
    headings = [get_metric(name, results).heading for name in names]
    if whole:
        reference = display_name(reference_setting(results))
        headings = [*counted, *headings, *([f"{get_metric(key).label} / {reference}"] if key else [])]
    rows = []
    for setting in order_settings(results):
        cells = [_format_mean(get_metric(name), *mean_and_std(results, setting, name)) for name in names]
        if whole:
            ratio = ratio_to_reference(results, setting, key)
            images = setting_scores(results)[setting].get("training_images")
            cells = [*(_format_count(images) for _ in counted), *cells]
            cells += [DASH if math.isnan(ratio) else f"{ratio:.3f}"] if key else []
        rows.append(_row(setting, cells, best=setting == best))
    notes = [*notes, *([f"{BEST_MARK} best single site by {get_metric(key).label}."] if best else [])]
    notes += [*([said] if whole and (said := warning(results)) else []), *_seed_notes(results, key)]
    return Table(title, ("Setting", *headings), tuple(rows), (*notes, *made_with(results)))


def comparison_tables(results: Mapping[str, Any]) -> list[Table]:
    """For each key metric: intervals over patients, and AsynDGAN against every other setting."""
    metrics = block(block(results, "statistics"), "metrics")
    return [_comparison_table(results, name) for name in key_metrics(results) if name in metrics]


def _comparison_table(results: Mapping[str, Any], name: str) -> Table:
    metric, sure = get_metric(name, results), block(results, "statistics")
    of_setting = sure["metrics"][name]
    rows = []
    for setting in order_settings(results):
        found = of_setting.get(setting)
        if found is None:
            continue
        to_real, against = found.get("ratio_to_real_all") or {}, found.get("asyndgan") or {}
        if is_untrained(results, setting) or is_untrained(results, "real_all"):
            to_real = {}
        if is_untrained(results, setting) or is_untrained(results, "asyndgan"):
            against = {}
        interval = found.get("interval")
        rows.append(
            _row(
                setting,
                [
                    metric.format(mean_and_std(results, setting, name)[0]),
                    f"{metric.format(interval[0])} to {metric.format(interval[1])}" if interval else DASH,
                    format_interval(to_real.get("ratio"), to_real.get("interval"), ".3f"),
                    format_interval(against.get("difference"), against.get("difference_interval"), f"+{metric.spec}"),
                    format_p(against.get("p_holm")),
                    _format_cases(against or found),
                ],
            )
        )
    level = f"{100 * as_number(sure.get('confidence')):.3g} %"
    compared = sum((found.get("asyndgan") or {}).get("p") is not None for found in of_setting.values())
    headings = ("Setting", metric.heading, f"{level} interval", "Ratio to Real-All", "AsynDGAN − setting", "p", "Cases")
    notes = [
        f"Intervals, also those in brackets: {level}, bootstrap over patients "
        f"({_format_count(sure.get('resamples'))} resamples; cases and seeds of a patient stay together)."
    ]
    if compared:
        notes.append(
            "p: Wilcoxon signed-rank test, two-sided, over the patients' values in AsynDGAN and in the setting (means "
            f"over seeds), Holm-corrected for {compared} comparison{'s' * (compared != 1)}."
        )
    title = f"{metric.label}: intervals, and AsynDGAN against each setting"
    notes += filter(None, [warning(results)])
    return Table(title, headings, tuple(rows), (*notes, *made_with(results)))


TABLES: list[Callable[[Mapping[str, Any]], list[Table]]] = [score_tables, comparison_tables]
"""From results.json to tables, in the order in which they are read."""


def made_with(results: Mapping[str, Any]) -> list[str]:
    """What the generators were trained with: the loss terms, and what the sites let out."""
    losses, policy = results.get("losses"), results.get("policy")
    said = [f"Loss terms of the generators: {losses}."] if losses else []
    return said + ([f"Release policy: {policy}."] if policy else [])


def format_interval(value: Any, interval: Any, spec: str) -> str:
    """``"−0.161 (−0.247 to −0.082)"``: a value with its interval, as far as they are known."""
    number = as_number(value)
    if not math.isfinite(number):
        return DASH
    text = format(number, spec)
    if interval:
        text += f" ({format(as_number(interval[0]), spec)} to {format(as_number(interval[1]), spec)})"
    return text.replace("-", "−")


def format_p(p: Any) -> str:
    """Three digits, ``"<0.001"`` below; a dash for what is not known."""
    number = as_number(p)
    return DASH if math.isnan(number) else f"{number:.3f}" if number >= 0.001 else "<0.001"


def _format_cases(found: Mapping[str, Any]) -> str:
    text = _format_count(found.get("cases"))
    if found.get("patients") != found.get("cases"):
        text += f" of {_format_count(found.get('patients'))} patients"
    return text + (f" ({found['left_out']} left out)" if found.get("left_out") else "")


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
        entry = setting_scores(results)[setting].get(key)
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
