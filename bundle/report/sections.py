"""What a report's page says, section by section, as data: the templates give it its form."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .attendance import attendance
from .claims import verdicts
from .display_names import SETTINGS, display_name, kind_name
from .formats import DASH, as_number, count, human_bytes, human_seconds, listed
from .image_quality import COLUMNS, image_quality
from .page_figures import GROUPS, PageFigure
from .result_in_words import what_is_claimed, what_it_says, what_was_done
from .result_tables import comparison_tables, made_with, score_tables
from .scores import block, case_count, is_synthesis_only, metric_names, order_settings, sites
from .synthesis_only import HEADING, LEGEND, MEANINGS
from .table import Row, Table


@dataclass(frozen=True)
class Report:
    """What a page is made from.

    Attributes:
        results: contents of results.json; any block may be missing.
        figures: in order; those of the other kind of page are left out already.
        notes: paragraphs of plain text.
        results_path: where the reader finds results.json, as it should be printed.
        configs: (what it is of, the resolved configuration as text) of stages.
        shareable: whether the page may be passed on.
    """

    results: Mapping[str, Any]
    figures: Sequence[PageFigure] = ()
    notes: Sequence[str] = ()
    results_path: str = "results.json"
    configs: Sequence[tuple[str, str]] = ()
    shareable: bool = False

    @property
    def name(self) -> str:
        """What the run is called."""
        return str(self.results.get("name") or self.results.get("task") or "run")

    def figures_of(self, group: str) -> list[PageFigure]:
        return [figure for figure in self.figures if figure.group == group]


@dataclass(frozen=True)
class Section:
    """A folded part of the page.

    Attributes:
        name: of its anchor.
        title: its heading.
        shows: one line, which stands under the heading also while it is folded.
        template: the file in ``templates/`` that shows the content.
        content: what the template needs.
    """

    name: str
    title: str
    shows: str
    template: str
    content: Mapping[str, Any] = field(default_factory=dict)


def first_screen(report: Report) -> dict[str, Any]:
    """What everybody reads: the result in a sentence, the table of settings, synthesis beside real."""
    results = report.results
    tables = score_tables(results) if order_settings(results) else []
    headline, _ = what_it_says(results)
    return {
        "facts": _facts(results),
        "headline": headline,
        "notes": [str(paragraph) for paragraph in report.notes],
        "heading": HEADING if is_synthesis_only(results) else "Segmentation on held-out real cases",
        "table": tables[0] if tables else None,
        "figures": report.figures_of("first"),
    }


def _facts(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    seeds = results.get("seeds") or []
    facts = [
        ("Task", results.get("task")),
        ("Profile", results.get("profile")),
        ("Sites", len(sites(results)) or None),
        ("Test cases", case_count(results) or None),
        ("Seed" if len(seeds) == 1 else "Seeds", ", ".join(str(seed) for seed in seeds) or None),
        ("Training time", _duration(results.get("seconds"))),
        ("Whole run", _duration(results.get("wall_seconds"))),
    ]
    return [(name, str(value)) for name, value in facts if value not in (None, "")]


def _duration(seconds: Any) -> str | None:
    return None if seconds is None else human_seconds(seconds)


def in_words(report: Report) -> Section:
    """What was done, what came out, and what the settings are."""
    synthesis_only = is_synthesis_only(report.results)
    headline, rest = what_it_says(report.results)
    content = {
        "done": what_was_done(report.results),
        "headline": headline,
        "rest": rest,
        "heading": LEGEND if synthesis_only else "What each segmentation model was trained on",
        "settings": _meanings(report.results),
        "attacked": bool(block(report.results, "attacks")),
    }
    shows = "The question, the result in full, and what each setting stands for."
    return Section("in-words", "What was done, and what came out", shows, "in_words.html", content)


def _meanings(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    kinds = dict.fromkeys(setting.partition("/")[0] for setting in order_settings(results))
    other = MEANINGS if is_synthesis_only(results) else {}
    return [(kind_name(kind), other.get(kind, SETTINGS[kind][1])) for kind in kinds if kind in SETTINGS]


def claims(report: Report) -> Section | None:
    """Whether what the paper claims holds in this run."""
    found = verdicts(report.results)
    if not found:
        return None
    held = sum(verdict.holds for verdict in found)
    return Section(
        "claims",
        "Does the paper's claim hold here?",
        f"{held} of {count(len(found), 'claim')} that this run can judge {'holds' if held == 1 else 'hold'}.",
        "claims.html",
        {"claim": what_is_claimed(report.results), "verdicts": found},
    )


def certainty(report: Report) -> Section | None:
    """Intervals over patients and paired tests."""
    tables = comparison_tables(report.results)
    if not tables:
        return None
    shows = "Intervals over patients, and AsynDGAN tested against each setting."
    return Section("certainty", "How sure are these numbers?", shows, "certainty.html", {"tables": tables})


def score_details(report: Report) -> Section | None:
    """Scores of single classes, of groups of cases, and case by case."""
    tables = score_tables(report.results)[1:] if order_settings(report.results) else []
    figures = report.figures_of("cases")
    parts = [table.title.lower() for table in tables] + ["every case"] * bool(figures)
    if not parts:
        return None
    shows = f"The scores apart, for {listed(parts)}."
    return Section(
        "scores", "Scores in detail", shows, "tables_and_figures.html", {"tables": tables, "figures": figures}
    )


def segmentations(report: Report) -> Section | None:
    """Segmentations on real images."""
    shows = "The worst, a typical and the best case of every setting, outlined on the real image."
    return _of_figures(report, "segmentations", "Segmentations of held-out cases", shows)


def synthesis(report: Report) -> Section | None:
    """What the generators drew."""
    real = "" if report.shareable else ", and the real images"
    return _of_figures(
        report, "synthesis", "Synthetic images", f"Label maps, what the generators drew on them{real}, site by site."
    )


def neighbours(report: Report) -> Section | None:
    """Real images that are nearest to synthetic ones."""
    shows = "The synthetic images that come nearest to a training image, beside that image."
    return _of_figures(report, "neighbours", "Nearest training images", shows)


def others(report: Report) -> Section | None:
    """Figures that belong to no other section."""
    figures = [figure for figure in report.figures if figure.group not in GROUPS]
    shows = f"{count(len(figures), 'figure')}."
    return Section("figures", "Figures", shows, "tables_and_figures.html", {"figures": figures}) if figures else None


def _of_figures(report: Report, group: str, title: str, shows: str) -> Section | None:
    figures = report.figures_of(group)
    return Section(group, title, shows, "tables_and_figures.html", {"figures": figures}) if figures else None


def quality(report: Report) -> Section | None:
    """The synthetic images themselves; where the table of scores has them already and they are none, nothing."""
    if is_synthesis_only(report.results) and not set(COLUMNS) & set(metric_names(report.results)):
        return None
    found = image_quality(report.results)
    shows = "How near synthetic images are to real ones, and whether they are copies."
    return Section("quality", "Image quality", shows, "quality.html", found) if found else None


def traffic(report: Report) -> Section | None:
    """Bytes between the server and the sites."""
    found = block(report.results, "wire")
    if not found:
        return None
    steps = as_number(found.get("steps"))
    sent = [
        (site, (of or {}).get("to"), (of or {}).get("from")) for site, of in sorted(block(found, "per_site").items())
    ]
    total = "bytes_to_sites" in found or "bytes_from_sites" in found
    if total:
        sent.append(("All sites", found.get("bytes_to_sites"), found.get("bytes_from_sites")))
    rows = []
    for number, (name, to, back) in enumerate(sent, start=1):
        there, here = as_number(to), as_number(back)
        step = (human_bytes(there / steps), human_bytes(here / steps)) if steps > 0 else (DASH, DASH)
        cells = (*step, human_bytes(there), human_bytes(here), human_bytes(there + here))
        rows.append(Row(name, cells, "total" if total and number == len(sent) else ""))
    over = f" over {count(int(steps), 'step')}" if steps > 0 else ""
    seeds = report.results.get("seeds") or []
    over += f" with seed {seeds[0]}" if len(seeds) > 1 else ""
    codec = f" ({found['codec']})" if found.get("codec") else ""
    headings = ("Site", "To site / step", "From site / step", "To site", "From site", "Both ways")
    return Section(
        "traffic",
        "What crosses between server and sites",
        f"{rows[-1].cells[-1]} in AsynDGAN's training{over}, by site and direction." if total else "Bytes by site.",
        "traffic.html",
        {"over": over, "codec": codec, "table": Table("", headings, tuple(rows))},
    )


def who_answered(report: Report) -> Section | None:
    """Which sites took part in AsynDGAN's training."""
    table = attendance(report.results)
    shows = "For each site how many steps it answered, failed or missed."
    return Section("sites", "Which sites answered", shows, "sites.html", {"table": table}) if table.rows else None


def training(report: Report) -> Section | None:
    """Steps, times and losses of the generators."""
    runs = block(report.results, "train")
    rows = []
    for setting in order_settings({"settings": runs}):
        run = block(runs, setting)
        steps = as_number(run.get("steps"))
        cells = (f"{int(steps):,}" if math.isfinite(steps) else DASH, human_seconds(run.get("seconds_per_step")))
        rows.append(Row(display_name(setting), (*cells, human_seconds(run.get("seconds")))))
    several = ["Steps and times are means over seeds."] if rows and len(report.results.get("seeds") or []) > 1 else []
    sentences, figures = made_with(report.results) + several, report.figures_of("losses")
    if not rows and not sentences and not figures:
        return None
    tables = [Table("", ("Generator", "Steps", "Time / step", "Time"), tuple(rows))] if rows else []
    content = {"sentences": sentences, "tables": tables, "figures": figures}
    shows = "Steps and times of the generators" + (", and their losses." if figures else ".")
    return Section("training", "Training", shows, "tables_and_figures.html", content)


_HARDWARE = (("cpu", "CPU"), ("cores", "Cores"), ("memory_gib", "Memory"), ("device", "Device"))


def origin(report: Report) -> Section:
    """Command, hardware and where the numbers are."""
    hardware = dict(block(report.results, "hardware"))
    facts = []
    for name, label in _HARDWARE:
        value = hardware.pop(name, None)
        if value is not None:
            memory = as_number(value)
            facts.append((label, f"{memory:.4g} GiB" if name == "memory_gib" and memory == memory else str(value)))
    facts += [(str(name), str(value)) for name, value in hardware.items() if value not in (None, "")]
    content = {
        # a line breaks between words, never inside an option
        "command": re.findall(r"\s+|\S+", str(report.results.get("command") or "")),
        "facts": facts,
        "results_path": report.results_path,
        "configs": report.configs,
    }
    parts = (
        ["command"] * bool(content["command"]) + ["hardware"] * bool(facts) + ["configuration"] * bool(report.configs)
    )
    shows = f"{', '.join(parts).capitalize()}, and where all numbers are." if parts else "Where all numbers are."
    return Section("origin", "Where this comes from", shows, "origin.html", content)


SECTIONS: list[Callable[[Report], Section | None]] = [
    in_words,
    claims,
    certainty,
    score_details,
    segmentations,
    synthesis,
    quality,
    neighbours,
    traffic,
    who_answered,
    training,
    others,
    origin,
]
"""Below the first screen, from top to bottom; one that has nothing to say is left out."""
