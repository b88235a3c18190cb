"""Which tables a run has: settings and metrics, groups of cases, AsynDGAN against each setting."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .display_names import BY_HOSPITAL, LEFT_OUT, OTHER_WAYS, PAPER_KINDS, Metric, display_name, get_metric, kind_name
from .formats import DASH, as_number, format_count, format_interval, format_p
from .gain import read_gains
from .gain_tables import gain_tables
from .gain_words import absent_words, federated_words, gain_words, headline
from .scores import (
    best_subset,
    block,
    case_sites,
    is_synthesis_only,
    key_metric,
    key_metrics,
    mean_and_std,
    mean_and_std_of_cases,
    mean_and_std_over_sites,
    metric_names,
    order_settings,
    plain_settings,
    ratio_to_reference,
    reference_setting,
    setting_scores,
    settings_of,
)
from .table import BEST_MARK, Row, Table, to_markdown, to_text
from .untrained import is_untrained, warning

_EMPTY = "No results yet."
PAPER, OTHER = "The paper's settings", "Other ways"
"""What heads the groups of a table that has further settings."""


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

    Scores of single classes, of groups of cases and of each hospital's gain have tables of their own. Settings beyond
    the paper's stand in groups, those of each hospital as a mean over hospitals.
    """
    names = metric_names(results)
    groups = [name for name in names if "/" in name]
    classes = [name for name in names if name not in groups and ":" in name]
    union = [name for name in names if name not in groups + classes]
    note = ["Any class counts as foreground here; the classes apart are in a table of their own."] if classes else []
    tables = [_score_table(results, "", union, whole=True, notes=note)]
    others = [("Classes", classes), ("Groups of cases", groups)]
    tables += [_score_table(results, title, listed) for title, listed in others if listed]
    return tables + _hospital_tables(results, union)


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
    rows, apart = [], bool(settings_of(results, (*BY_HOSPITAL, *OTHER_WAYS)))
    for setting in plain_settings(results):
        cells = [_format_mean(get_metric(name), *mean_and_std(results, setting, name)) for name in names]
        group = (PAPER if setting.partition("/")[0] in PAPER_KINDS else OTHER) if apart else ""
        if whole:
            ratio = ratio_to_reference(results, setting, key)
            images = setting_scores(results)[setting].get("training_images")
            cells = [*(format_count(images) for _ in counted), *cells]
            cells += [DASH if math.isnan(ratio) else f"{ratio:.3f}"] if key else []
        rows.append(replace(_row(setting, cells, best=setting == best), group=group))
    rows += _mean_rows(results, names, reference_setting(results) if whole else "")
    notes = [*notes, *([f"{BEST_MARK} best single site by {get_metric(key).label}."] if best else [])]
    notes += [*([said] if whole and (said := warning(results)) else []), *_seed_notes(results, key)]
    return Table(title, ("Setting", *headings), tuple(rows), (*notes, *made_with(results)))


def _mean_rows(results: Mapping[str, Any], names: Sequence[str], reference: str) -> list[Row]:
    """Each hospital's gain as a mean over hospitals; with ``reference`` also as in a whole table."""
    key, rows = key_metric(results), []
    for kind in BY_HOSPITAL:
        settings = settings_of(results, (kind,))
        found = {name: mean_and_std_over_sites(results, kind, name) for name in {*names, *([key] if key else [])}}
        cells = [_format_mean(get_metric(name), *found[name]) for name in names]
        if reference:
            images = [as_number(setting_scores(results)[setting].get("training_images")) for setting in settings]
            cells = [format_count(math.fsum(images) / len(images) if images else None), *cells]
        if reference and key:
            other, unfit = mean_and_std(results, reference, key)[0], [*settings, reference]
            ratio = found[key][0] / other if other and not any(is_untrained(results, s) for s in unfit) else math.nan
            cells += [f"{ratio:.3f}" if math.isfinite(ratio) else DASH]
        if settings:
            name = f"{kind_name(kind)}, mean of {len(settings)}"
            rows.append(Row(name, tuple(cells), kind, group="Own images and more, mean over hospitals"))
    return rows


def _hospital_tables(results: Mapping[str, Any], names: Sequence[str]) -> list[Table]:
    """What was trained for each hospital, a group for each kind; those without a hospital over its own cases."""
    of_case, rows = case_sites(results), []
    for setting in settings_of(results, (*BY_HOSPITAL, *LEFT_OUT)):
        kind, _, site = setting.partition("/")
        if kind in LEFT_OUT:
            cases = [case for case, where in of_case.items() if where == site]
            found = [mean_and_std_of_cases(results, setting, name, cases) for name in names]
        else:
            found = [mean_and_std(results, setting, name) for name in names]
        cells = [_format_mean(get_metric(name), *of) for name, of in zip(names, found, strict=True)]
        images = format_count(setting_scores(results)[setting].get("training_images"))
        group = kind_name(kind) + (", on the held-out cases of SITE" if kind in LEFT_OUT else "")
        rows.append(Row(site, (images, *cells), kind, group=group))
    headings = ("Hospital", "Training images", *(get_metric(name, results).heading for name in names))
    return [Table("Hospitals", headings, tuple(rows))] if rows else []


def comparison_tables(results: Mapping[str, Any]) -> list[Table]:
    """For each key metric: intervals over patients, and AsynDGAN against every other setting."""
    metrics = block(block(results, "statistics"), "metrics")
    return [_comparison_table(results, name) for name in key_metrics(results) if name in metrics]


def _comparison_table(results: Mapping[str, Any], name: str) -> Table:
    metric, sure = get_metric(name, results), block(results, "statistics")
    of_setting = sure["metrics"][name]
    rows = []
    for setting in plain_settings(results):
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
        f"({format_count(sure.get('resamples'))} resamples; cases and seeds of a patient stay together)."
    ]
    if compared:
        notes.append(
            "p: Wilcoxon signed-rank test, two-sided, over the patients' values in AsynDGAN and in the setting (means "
            f"over seeds), Holm-corrected for {compared} comparison{'s' * (compared != 1)}."
        )
    title = f"{metric.label}: intervals, and AsynDGAN against each setting"
    notes += filter(None, [warning(results)])
    return Table(title, headings, tuple(rows), (*notes, *made_with(results)))


def tables_of_gain(results: Mapping[str, Any]) -> list[Table]:
    """What each hospital gains, with the words that the page has beside it below the first and the last table."""
    gains = read_gains(results)
    if gains is None:
        return []
    said = [headline(gains), *gain_words(gains), *federated_words(gains)]
    first, *others = gain_tables(gains) or [Table("", (), ())]
    tables = [replace(first, notes=(*said, *first.notes)), *others]
    if gains.absent:
        tables[-1] = replace(tables[-1], notes=(*absent_words(gains), *tables[-1].notes))
    return tables


TABLES: list[Callable[[Mapping[str, Any]], list[Table]]] = [tables_of_gain, score_tables, comparison_tables]
"""From results.json to tables, in the order in which they are read."""


def made_with(results: Mapping[str, Any]) -> list[str]:
    """What the generators were trained with: the loss terms, and what the sites let out."""
    losses, policy = results.get("losses"), results.get("policy")
    said = [f"Loss terms of the generators: {losses}."] if losses else []
    return said + ([f"Release policy: {policy}."] if policy else [])


def _format_cases(found: Mapping[str, Any]) -> str:
    text = format_count(found.get("cases"))
    if found.get("patients") != found.get("cases"):
        text += f" of {format_count(found.get('patients'))} patients"
    return text + (f" ({found['left_out']} left out)" if found.get("left_out") else "")


def _row(setting: str, cells: list[str], best: bool = False) -> Row:
    return Row(display_name(setting), tuple(cells), setting.partition("/")[0], best)


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
