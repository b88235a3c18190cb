"""The sections of a report's page: each a function from a `Report` to HTML, empty where there is nothing to say."""

from __future__ import annotations

import base64
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from .attendance import attendance
from .claims import verdicts
from .formats import DASH, as_number, count, human_bytes, human_seconds
from .names import SETTINGS, display_name
from .quality import COLUMNS, quality_section
from .render import plain_html_table, to_html
from .scores import block, case_count, is_synthesis_only, metric_names, order_settings, sites
from .summary import what_is_claimed, what_it_says, what_was_done
from .synthesis_only import HEADING, LEGEND, MEANINGS
from .tables import comparison_tables, made_with, score_tables


@dataclass(frozen=True)
class Report:
    """What a page is made from.

    Attributes:
        results: contents of results.json; any block may be missing.
        figures: (title, caption, PNG file) in order.
        notes: paragraphs of plain text.
        results_path: where the reader finds results.json, as it should be printed.
        configs: (what it is of, the resolved configuration as text) of stages.
    """

    results: Mapping[str, Any]
    figures: Sequence[tuple[str, str, str | os.PathLike[str]]] = ()
    notes: Sequence[str] = ()
    results_path: str = "results.json"
    configs: Sequence[tuple[str, str]] = ()

    @property
    def name(self) -> str:
        """What the run is called."""
        return str(self.results.get("name") or self.results.get("task") or "run")


def opening(report: Report) -> str:
    """Title, facts, what was done and what came out."""
    return "\n".join(
        [
            f"<h1>{escape(report.name)}</h1>",
            '<p class="subtitle">Distributed synthetic learning (AsynDGAN): results of one run</p>',
            _facts(report.results),
            f"<p>{escape(what_was_done(report.results))}</p>",
            f"<p>{what_it_says(report.results)}</p>",
            *(f"<p>{escape(str(paragraph))}</p>" for paragraph in report.notes),
        ]
    )


def _facts(results: Mapping[str, Any]) -> str:
    seeds = results.get("seeds") or []
    return _fact_list(
        [
            ("Task", results.get("task")),
            ("Profile", results.get("profile")),
            ("Sites", len(sites(results)) or None),
            ("Test cases", case_count(results) or None),
            ("Seed" if len(seeds) == 1 else "Seeds", ", ".join(str(seed) for seed in seeds) or None),
            ("Training time", _duration(results.get("seconds"))),
            ("Whole run", _duration(results.get("wall_seconds"))),
        ]
    )


def _duration(seconds: Any) -> str | None:
    return None if seconds is None else human_seconds(seconds)


def _fact_list(facts: Sequence[tuple[str, Any]]) -> str:
    cells = [
        f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>"
        for name, value in facts
        if value not in (None, "")
    ]
    return f'<dl class="facts">{"".join(cells)}</dl>' if cells else ""


def scores(report: Report) -> str:
    """The table of settings and metrics, and what the settings are."""
    tables = score_tables(report.results) if order_settings(report.results) else []
    heading = HEADING if is_synthesis_only(report.results) else "Segmentation on held-out real cases"
    return "\n".join(
        [
            f"<h2>{heading}</h2>",
            "\n".join(map(to_html, tables)) or '<p class="note">No results yet.</p>',
            _legend(report.results),
        ]
    )


def _legend(results: Mapping[str, Any]) -> str:
    kinds = list(dict.fromkeys(setting.partition("/")[0] for setting in order_settings(results)))
    entries = []
    for kind in kinds:
        if kind in SETTINGS:
            name, meaning = SETTINGS[kind]
            if is_synthesis_only(results):
                meaning = MEANINGS.get(kind, meaning)
            name = name.replace("{site}", "SITE")
            entries.append(f"<div><dt>{escape(name)}</dt><dd>{escape(meaning)}</dd></div>")
    if not entries:
        return ""
    heading = LEGEND if is_synthesis_only(results) else "What each segmentation model was trained on"
    return (
        f"<h3>{heading}</h3>"
        f'<dl class="legend">{"".join(entries)}</dl>'
        '<p class="note">The page measures what synthetic images are good for. '
        "It does not measure how much they reveal about the real ones.</p>"
    )


def quality(report: Report) -> str:
    """The synthetic images themselves; where the table of scores has them already and they are none, nothing."""
    if is_synthesis_only(report.results) and not set(COLUMNS) & set(metric_names(report.results)):
        return ""
    return quality_section(report.results)


def claims(report: Report) -> str:
    """Whether what the paper claims holds in this run."""
    found = verdicts(report.results)
    if not found:
        return ""
    entries = []
    for verdict in found:
        words = f"{verdict.found}. {verdict.certainty}".strip()
        mark, answer = ("holds", "holds in this run") if verdict.holds else ("fails", "does not hold in this run")
        entries.append(
            f'<div class="{mark}"><dt>{escape(verdict.claim.meaning)}: <em>{answer}</em></dt>'
            f"<dd>{escape(verdict.asked)}. {escape(words)}</dd></div>"
        )
    return (
        "<h2>Does the paper's claim hold here?</h2>"
        f"<p>{what_is_claimed(report.results)} Absolute figures depend on how large a run is, so the claims are held "
        "against ratios within this run. The limits, where the paper has words, were set before the run.</p>"
        f'<dl class="claims">{"".join(entries)}</dl>'
    )


def certainty(report: Report) -> str:
    """Intervals over patients and paired tests."""
    tables = comparison_tables(report.results)
    if not tables:
        return ""
    return (
        "<h2>How sure are these numbers?</h2>"
        "<p>With few patients much depends on which ones were held out. An interval says between which values the "
        "mean moves when patients are drawn again from these; with a dozen it is rather too narrow than too wide. "
        "p says how often chance alone would make AsynDGAN and a setting differ as consistently over the same cases: "
        "small means that the two differ, large that this run cannot tell them apart. Neither knows what another "
        "training with another seed would give; the ± in the table above is about that.</p>"
        + "\n".join(map(to_html, tables))
    )


def pictures(report: Report) -> str:
    """All figures, embedded; a file that cannot be read is named in its place."""
    if not report.figures:
        return ""
    return "\n".join(["<h2>Figures</h2>", *(_figure(*figure) for figure in report.figures)])


def _figure(title: str, caption: str, path: str | os.PathLike[str]) -> str:
    try:
        data = base64.b64encode(Path(path).read_bytes()).decode("ascii")
        picture = f'<img alt="{escape(title)}" src="data:image/png;base64,{data}">'
        picture = f'<div class="scroll" tabindex="0">{picture}</div>'
    except OSError:
        # A report on a long run is worth having without one of its pictures.
        picture = f'<p class="missing">This figure is missing: {escape(Path(path).name)}</p>'
    note = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure><h3>{escape(title)}</h3>{picture}{note}</figure>"


def wire(report: Report) -> str:
    """Bytes between the server and the sites."""
    found = block(report.results, "wire")
    if not found:
        return ""
    steps = as_number(found.get("steps"))
    per_site = block(found, "per_site")
    traffic = [(site, (sent or {}).get("to"), (sent or {}).get("from")) for site, sent in sorted(per_site.items())]
    total = "bytes_to_sites" in found or "bytes_from_sites" in found
    if total:
        traffic.append(("All sites", found.get("bytes_to_sites"), found.get("bytes_from_sites")))
    rows = []
    for name, to, back in traffic:
        sent, received = as_number(to), as_number(back)
        step = (human_bytes(sent / steps), human_bytes(received / steps)) if steps > 0 else (DASH, DASH)
        rows.append((name, *step, human_bytes(sent), human_bytes(received), human_bytes(sent + received)))
    codec = f" ({escape(str(found['codec']))})" if found.get("codec") else ""
    over = f" over {count(int(steps), 'step')}" if steps > 0 else ""
    seeds = report.results.get("seeds") or []
    over += f" with seed {escape(str(seeds[0]))}" if len(seeds) > 1 else ""
    headings = ("Site", "To site / step", "From site / step", "To site", "From site", "Both ways")
    return (
        "<h2>What crosses between server and sites</h2>"
        f"<p>In a step the server sends each site synthetic images; the site returns the gradient of its loss for "
        f"them, the losses and the next label maps. These are the bytes of all messages in AsynDGAN's "
        f"training{over}, as encoded for a network{codec}. Where all sites ran in one process, they are what would "
        "have crossed.</p>" + plain_html_table(headings, rows, total)
    )


def who_answered(report: Report) -> str:
    """Which sites took part in AsynDGAN's training."""
    return attendance(report.results)


def training(report: Report) -> str:
    """Steps and times of the generators."""
    runs = block(report.results, "train")
    rows = []
    for setting in order_settings({"settings": runs}):
        run = block(runs, setting)
        steps = as_number(run.get("steps"))
        cells = (f"{int(steps):,}" if math.isfinite(steps) else DASH, human_seconds(run.get("seconds_per_step")))
        rows.append((display_name(setting), *cells, human_seconds(run.get("seconds"))))
    several = ["Steps and times are means over seeds."] if rows and len(report.results.get("seeds") or []) > 1 else []
    sentences = " ".join(made_with(report.results) + several)
    words = f"<p>{escape(sentences)}</p>" if sentences else ""
    if not rows and not words:
        return ""
    table = plain_html_table(("Generator", "Steps", "Time / step", "Time"), rows) if rows else ""
    return "<h2>Training</h2>" + words + table


_HARDWARE = (("cpu", "CPU"), ("cores", "Cores"), ("memory_gib", "Memory"), ("device", "Device"))


def origin(report: Report) -> str:
    """Command, hardware and where the numbers are."""
    parts = ["<h2>Where this comes from</h2>"]
    if report.results.get("command"):
        # A line breaks between words, never inside an option.
        words = re.split(r"(\s+)", str(report.results["command"]))
        spans = "".join(w if not w or w.isspace() else f"<span>{escape(w)}</span>" for w in words)
        parts.append(f"<p>Command:</p><pre>{spans}</pre>")
    hardware = dict(block(report.results, "hardware"))
    rows = []
    for name, label in _HARDWARE:
        value = hardware.pop(name, None)
        if value is not None:
            memory = as_number(value)
            rows.append((label, f"{memory:.4g} GiB" if name == "memory_gib" and memory == memory else str(value)))
    parts.append(_fact_list(rows + [(str(name), value) for name, value in hardware.items()]))
    parts.append(f"<p>All numbers, with every case and seed: <code>{escape(report.results_path)}</code></p>")
    for title, text in report.configs:
        parts.append(f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>")
    return "".join(parts)


SECTIONS: list[Callable[[Report], str]] = [
    opening,
    scores,
    claims,
    certainty,
    quality,
    pictures,
    wire,
    who_answered,
    training,
    origin,
]
"""The page, from top to bottom."""
