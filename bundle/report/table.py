"""The table of settings and metrics, from one model to a terminal, Markdown and HTML.

Everything here reads the dict of ``results.json`` and tolerates what a run has not produced yet: a
missing setting is a missing row, a missing number is a dash.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import escape
from typing import Any

DASH = "–"
BEST_MARK = "*"


@dataclass(frozen=True)
class Metric:
    """How one metric is written and read.

    Attributes:
        label: display name, such as ``"Dice"``.
        unit: unit text, empty for a metric without one.
        better: ``"higher"``, ``"lower"``, or ``""`` where neither is known.
        spec: format specification of a value, such as ``".3f"``.
    """

    label: str
    unit: str = ""
    better: str = "higher"
    spec: str = ".3f"

    @property
    def arrow(self) -> str:
        """``"↑"`` where higher is better, ``"↓"`` where lower is, else an empty string."""
        return {"higher": "↑", "lower": "↓"}.get(self.better, "")

    @property
    def heading(self) -> str:
        """Label, unit and direction, as a column is headed: ``"HD95 (mm) ↓"``."""
        unit = f"({self.unit})" if self.unit else ""
        return " ".join(part for part in (self.label, unit, self.arrow) if part)

    def format(self, value: float | None) -> str:
        """``value`` with this metric's digits; a dash for None, NaN and what is not a number."""
        number = as_number(value)
        return DASH if math.isnan(number) else format(number, self.spec)


# The order here is the order of columns.
METRICS: dict[str, Metric] = {
    "dice": Metric("Dice"),
    "dice_tumor_slices": Metric("Dice, tumour slices"),
    "aji": Metric("AJI"),
    "pq": Metric("PQ"),
    "sensitivity": Metric("Sensitivity"),
    # Background is most of an image, so specificity only differs in its later digits.
    "specificity": Metric("Specificity", spec=".4f"),
    "hd95": Metric("HD95", unit="mm", better="lower", spec=".1f"),
    # of the synthetic images themselves
    "fid": Metric("FID", better="lower", spec=".1f"),
    "mmd": Metric("MMD", better="lower"),
    "ssim": Metric("SSIM"),
    # 1 and 0.05 are where real patients are from each other: neither direction is the better one
    "neighbour_ratio": Metric("Distance to nearest, synthetic / real", better="", spec=".2f"),
    "neighbour_share": Metric("Share nearer to another patient than 95 % of real", better=""),
    "own_pair_share": Metric("Share nearest to its own pair", better=""),
    "images": Metric("Images", better="", spec=",.0f"),
}

# Prefix of a setting's key -> (display name, what the segmenter was trained on), in the order of rows.
SETTINGS: dict[str, tuple[str, str]] = {
    "real_all": ("Real-All", "the real images of all sites pooled in one place: the upper reference"),
    "real_subset": (
        "Real-Subset-{site}",
        "the real images of one site alone: what that site can do without the others",
    ),
    "syn_all": (
        "Syn-All",
        "synthetic images from a generator trained on the pooled real images: what the synthesis itself costs",
    ),
    "syn_subset": ("Syn-Subset-{site}", "synthetic images from a generator trained on one site alone"),
    "asyndgan": (
        "AsynDGAN",
        "synthetic images from the central generator, whose discriminators stayed at the sites with the real images",
    ),
}


def register_metric(name: str, label: str, unit: str = "", better: str = "higher", spec: str = ".3f") -> None:
    """Add a metric to the registry, or replace it; its column comes after those already registered.

    Raises:
        ValueError: ``better`` is neither ``"higher"``, ``"lower"`` nor empty.
    """
    if better not in ("higher", "lower", ""):
        raise ValueError(f"metric '{name}': better is '{better}', expected 'higher', 'lower' or ''")
    METRICS[name] = Metric(label, unit, better, spec)


def get_metric(name: str, results: Mapping[str, Any] | None = None) -> Metric:
    """
    The registered metric, or for an unknown name one that shows the name and claims no direction.

    Args:
        name: name of the metric, or ``METRIC/GROUP`` for its mean over a group of cases.
        results: contents of results.json, whose block ``units`` (unit by metric) wins over the registered unit.
    """
    name, _, group = name.partition("/")
    metric = METRICS.get(name, Metric(name, better=""))
    if group:
        metric = replace(metric, label=f"{metric.label}, {group}")
    unit = ((results or {}).get("units") or {}).get(name)
    return metric if unit is None else replace(metric, unit=str(unit))


def as_number(value: Any) -> float:
    """``value`` as a float; NaN for None and for what is not a number."""
    if isinstance(value, bool) or value is None:
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def display_name(setting: str) -> str:
    """``"real_subset/CS"`` as ``"Real-Subset-CS"``; an unknown setting as it is."""
    kind, _, site = setting.partition("/")
    if kind not in SETTINGS:
        return setting
    name = SETTINGS[kind][0]
    return name.replace("{site}", site) if "{site}" in name or not site else f"{name}/{site}"


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Sort key under which ``site2`` comes before ``site10``."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text) if part]


def _settings(results: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    settings = results.get("settings") or {}
    return {name: block or {} for name, block in settings.items()}


def order_settings(results: Mapping[str, Any]) -> list[str]:
    """The keys of ``results["settings"]`` in the order of rows.

    Real-All, Real-Subset-* (sites sorted, numbers by value), Syn-All, Syn-Subset-*, AsynDGAN, then
    settings that this module does not know. Empty without settings.
    """
    rank = {kind: number for number, kind in enumerate(SETTINGS)}

    def key(setting: str) -> tuple[int, list[tuple[int, int, str]]]:
        kind, _, site = setting.partition("/")
        return (rank[kind], _natural(site)) if kind in rank else (len(rank), _natural(setting))

    return sorted(_settings(results), key=key)


def metric_names(results: Mapping[str, Any]) -> list[str]:
    """Names of the metrics that at least one setting has: registered ones first, in registry order; groups last."""
    found: dict[str, None] = {}
    for block in _settings(results).values():
        for name, entry in block.items():
            if isinstance(entry, Mapping) and ("mean" in entry or "per_seed" in entry):
                found[name] = None
    rank = {name: number for number, name in enumerate(METRICS)}
    # groups come after all that is of every case, in the order in which they were found
    groups = {
        name: number for number, name in enumerate(dict.fromkeys(["", *(name.partition("/")[2] for name in found)]))
    }
    return sorted(
        found, key=lambda name: (groups[name.partition("/")[2]], rank.get(name.partition("/")[0], len(METRICS)))
    )


def key_metric(results: Mapping[str, Any]) -> str | None:
    """The metric that settings are compared by: dice if there, else the first of `metric_names`; None without any."""
    names = metric_names(results)
    return "dice" if "dice" in names else (names[0] if names else None)


def mean_and_std(results: Mapping[str, Any], setting: str, metric: str) -> tuple[float, float]:
    """Mean and standard deviation over seeds, as floats; NaN for each that is not known (std with one seed)."""
    entry = _settings(results).get(setting, {}).get(metric)
    if not isinstance(entry, Mapping):
        return math.nan, math.nan
    mean = as_number(entry.get("mean"))
    if math.isnan(mean):
        per_seed = [as_number(value) for value in entry.get("per_seed") or []]
        mean = math.fsum(per_seed) / len(per_seed) if per_seed else math.nan
    return mean, as_number(entry.get("std"))


def best_subset(results: Mapping[str, Any], metric: str | None = None) -> str | None:
    """The Real-Subset setting with the best mean, such as ``"real_subset/CS"``.

    Args:
        results: contents of results.json.
        metric: metric to compare by; the key metric if None. The smallest mean wins where lower is
            better. Of equals the first in row order wins.

    Returns:
        None without subsets, without the metric, or where the metric's direction is not known.
    """
    metric = metric or key_metric(results)
    if metric is None or not get_metric(metric).better:
        return None
    sign = -1.0 if get_metric(metric).better == "lower" else 1.0
    best, best_value = None, -math.inf
    for setting in order_settings(results):
        mean, _ = mean_and_std(results, setting, metric)
        if setting.startswith("real_subset/") and not math.isnan(mean) and (best is None or sign * mean > best_value):
            best, best_value = setting, sign * mean
    return best


def ratio_to_real_all(results: Mapping[str, Any], setting: str, metric: str | None = None) -> float:
    """Mean of ``setting`` divided by the mean of Real-All; NaN where either is missing or Real-All's is 0."""
    metric = metric or key_metric(results)
    if metric is None:
        return math.nan
    mean, _ = mean_and_std(results, setting, metric)
    reference, _ = mean_and_std(results, "real_all", metric)
    return mean / reference if reference and math.isfinite(reference) else math.nan


@dataclass(frozen=True)
class _Row:
    setting: str
    name: str
    cells: tuple[str, ...]
    best: bool


@dataclass(frozen=True)
class _Table:
    headings: tuple[str, ...]
    rows: tuple[_Row, ...]
    notes: tuple[str, ...]


def _format_count(value: Any) -> str:
    number = as_number(value)
    return f"{int(number):,}" if math.isfinite(number) else DASH


def _format_mean(metric: Metric, mean: float, std: float) -> str:
    text = metric.format(mean)
    return text if math.isnan(std) or text == DASH else f"{text} ± {metric.format(std)}"


def _seed_notes(results: Mapping[str, Any], order: list[str], key: str | None) -> list[str]:
    """What the numbers are averaged over, and which settings have fewer seeds than the run was asked for."""
    seeds = list(results.get("seeds") or [])
    done = {}
    for setting in order if key else []:
        entry = _settings(results)[setting].get(key)
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


def _build(results: Mapping[str, Any]) -> _Table:
    order, metrics, key = order_settings(results), metric_names(results), key_metric(results)
    best = best_subset(results)
    headings = ["Setting", "Training images", *(get_metric(name, results).heading for name in metrics)]
    if key:
        headings.append(f"{get_metric(key).label} / Real-All")
    rows = []
    for setting in order:
        cells = [_format_count(_settings(results)[setting].get("training_images"))]
        cells += [_format_mean(get_metric(name), *mean_and_std(results, setting, name)) for name in metrics]
        if key:
            ratio = ratio_to_real_all(results, setting, key)
            cells.append(DASH if math.isnan(ratio) else f"{ratio:.3f}")
        rows.append(_Row(setting, display_name(setting), tuple(cells), setting == best))
    notes = []
    # With a single subset "the best" would say nothing.
    if best and sum(row.setting.startswith("real_subset/") for row in rows) > 1:
        notes.append(f"{BEST_MARK} best single site by {get_metric(key).label}.")
    else:
        rows = [_Row(row.setting, row.name, row.cells, False) for row in rows]
    return _Table(tuple(headings), tuple(rows), tuple(notes + _seed_notes(results, order, key)))


_EMPTY = "No results yet."


def _one_line(text: str) -> str:
    return " ".join(text.split())


def text_table(results: Mapping[str, Any]) -> str:
    """The table for a terminal: aligned columns, numbers to the right, notes below; no newline at the end.

    Args:
        results: contents of results.json; any block may be missing.
    """
    table = _build(results)
    if not table.rows:
        return _EMPTY
    lines = [table.headings]
    lines += [(_one_line(row.name) + (f" {BEST_MARK}" if row.best else ""), *row.cells) for row in table.rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.headings))]
    text = []
    for line in lines:
        cells = [
            line[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
        ]
        text.append("  ".join(cells).rstrip())
    text.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*text, *([""] if table.notes else []), *table.notes])


def markdown_table(results: Mapping[str, Any]) -> str:
    """The table in GitHub's Markdown, notes below in a paragraph of their own; ends with a newline.

    Args:
        results: contents of results.json; any block may be missing. Pipes and markup in names are escaped.
    """
    table = _build(results)
    if not table.rows:
        return _EMPTY + "\n"

    def clean(text: str) -> str:
        return re.sub(r"([\\`*_\[\]|<>])", r"\\\1", _one_line(text))

    lines = ["| " + " | ".join(clean(heading) for heading in table.headings) + " |"]
    lines.append("| --- |" + " ---: |" * (len(table.headings) - 1))
    for row in table.rows:
        name = clean(row.name) + (f" \\{BEST_MARK}" if row.best else "")
        lines.append("| " + " | ".join((name, *row.cells)) + " |")
    if table.notes:
        lines += ["", " ".join(clean(note) for note in table.notes)]
    return "\n".join(lines) + "\n"


def html_table(results: Mapping[str, Any]) -> str:
    """The table as an HTML fragment: ``<table class="results">`` in ``<div class="scroll">``, then the notes.

    Args:
        results: contents of results.json; any block may be missing. All text is escaped. Row classes:
            ``setting-KIND`` and ``best``.
    """
    table = _build(results)
    if not table.rows:
        return f'<p class="note">{_EMPTY}</p>'
    # A heading may wrap between words, but a unit or an arrow stays with its metric, and "Real-All" whole.
    headings = [re.sub(r" (?=[(↑↓])", "\N{NO-BREAK SPACE}", heading) for heading in table.headings]
    headings = [heading.replace("Real-All", "Real\N{NON-BREAKING HYPHEN}All") for heading in headings]
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    body = []
    for row in table.rows:
        kind = re.sub(r"[^a-z0-9]+", "-", row.setting.partition("/")[0].lower())
        classes = f"setting-{kind}" + (" best" if row.best else "")
        name = escape(row.name) + (f' <span class="mark">{BEST_MARK}</span>' if row.best else "")
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row.cells)
        body.append(f'<tr class="{classes}"><th scope="row">{name}</th>{cells}</tr>')
    notes = f'<p class="note">{escape(" ".join(table.notes))}</p>' if table.notes else ""
    return (
        '<div class="scroll" tabindex="0"><table class="results"><thead><tr>'
        + head
        + "</tr></thead><tbody>\n"
        + "\n".join(body)
        + "\n</tbody></table></div>"
        + notes
    )
