"""Tables of what a hospital gains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .display_names import BY_HOSPITAL, LEFT_OUT, get_metric
from .formats import DASH, count, format_count, format_interval
from .gain import OWN, PLUS, Gains, Line
from .scores import block
from .statistics import CONFIDENCE, RESAMPLES
from .table import Row, Table
from .untrained import warning

__all__ = ["absent_table", "gain_table", "gain_tables", "own_table"]

HEADINGS = dict(
    zip((OWN, *BY_HOSPITAL), ("Own images", "Own, augmented", "Own + synthetic", "Synthetic, then own"), strict=True)
)
HEADINGS |= dict(zip(LEFT_OUT, ("AsynDGAN without it", "Real-All without it", "FedAvg without it"), strict=True))
HEADINGS |= {"asyndgan": "AsynDGAN", "fedavg": "FedAvg", "real_all": "Real-All"}
DIFFERENCE = "difference"
GAINED = (OWN, PLUS, DIFFERENCE, "real_subset_augmented", "asyndgan_then_real_subset", "fedavg", "real_all")
ABSENT = ("leave_out", "asyndgan", DIFFERENCE, "leave_out_real_all", "real_all", "leave_out_fedavg", OWN)


def gain_tables(gains: Gains) -> list[Table]:
    """All of them, those without rows left out."""
    tables = [gain_table(gains), own_table(gains), absent_table(gains)]
    return [table for table in tables if table.rows]


def gain_table(gains: Gains) -> Table:
    """A row for each hospital, and their mean: own images, own and synthetic ones, their difference, other ways."""
    patients = max((line.patients for line in gains.lines), default=0)
    title = f"Each hospital, over all {count(patients, 'held-out patient')}: {_label(gains)}"
    extra = block(gains.results, "training_cases")
    rows, headings = _rows(gains, gains.lines, GAINED, "Mean over hospitals")
    if any(line.site in extra for line in gains.lines):
        headings = [headings[0], "Training cases", *headings[1:]]
        rows = [Row(r.name, (_cases(extra, line), *r.cells), r.kind) for r, line in zip(rows, gains.lines, strict=True)]
    return Table(title, tuple(headings), tuple(rows), (*_notes(gains), *_untrained(gains)))


def _untrained(gains: Gains) -> list[str]:
    return [said] if (said := warning(gains.results)) else []


def own_table(gains: Gains) -> Table:
    """The same over each hospital's own held-out patients."""
    lines = [line for line in gains.own if line.patients]
    title = f"Each hospital, over its own held-out patients: {_label(gains)}"
    rows, headings = _rows(gains, lines, GAINED, "All", patients=True)
    note = "All: every patient by what was trained at its own hospital."
    return Table(title, tuple(headings), tuple(rows), _if_total(lines, note))


def absent_table(gains: Gains) -> Table:
    """A row for each hospital that was left out, over its own held-out patients."""
    title = f"A hospital that was never there, over its own held-out patients: {_label(gains)}"
    rows, headings = _rows(gains, gains.absent, ABSENT, "All", patients=True)
    headings = ["Difference, without − with" if heading == "Difference" else heading for heading in headings]
    headings = [f"{heading} with it" if heading in ("AsynDGAN", "Real-All") else heading for heading in headings]
    note = "All: every patient by what was trained without its hospital."
    return Table(title, tuple(headings), tuple(rows), _if_total(gains.absent, note))


def _if_total(lines: Sequence[Line], note: str) -> tuple[str, ...]:
    return (note,) if lines and not lines[-1].site else ()


def _label(gains: Gains) -> str:
    return get_metric(gains.metric, gains.results).heading


def _rows(
    gains: Gains, lines: Sequence[Line], kinds: Sequence[str], total: str, patients: bool = False
) -> tuple[list[Row], list[str]]:
    """Rows and headings; a column that no line has anything in is left out."""
    metric = get_metric(gains.metric, gains.results)
    shown = [kind for kind in kinds if kind == DIFFERENCE or any(line.sides[kind].known for line in lines)]
    if not any(line.found for line in lines):
        shown = [kind for kind in shown if kind != DIFFERENCE]
    rows = []
    for line in lines:
        cells = [format_count(line.patients or None)] if patients else []
        for kind in shown:
            if kind == DIFFERENCE:
                cells.append(format_interval(line.difference, line.interval, f"+{metric.spec}") if line.found else DASH)
            else:
                cells.append(metric.format(line.sides[kind].mean))
        singles = sum(bool(one.site) for one in lines)
        name = line.site or (total if len(line.sites) == singles else f"{total} ({len(line.sites)} of {singles})")
        rows.append(Row(name, tuple(cells), "" if line.site else "total"))
    headings = ["Hospital", *(["Patients"] if patients else [])]
    return rows, headings + ["Difference" if kind == DIFFERENCE else HEADINGS[kind] for kind in shown]


def _cases(by_site: Any, line: Line) -> str:
    return format_count(by_site.get(line.site)) if line.site else DASH


def _seeds(gains: Gains) -> list[int]:
    """How many seeds the compared settings have, the fewest and the most where they differ."""
    scores, metric = gains.results["settings"], gains.metric
    lines = [f"{kind}/{line.site}" for line in gains.compared for kind in (OWN, PLUS)]
    found = [values for one in lines for values in scores[one][metric]["per_case"].values()]
    counts = {len(values) if isinstance(values, Sequence) else 1 for values in found}
    return sorted({min(counts), max(counts)})


def _notes(gains: Gains) -> list[str]:
    if not any(line.found for line in gains.lines):
        return []
    level, seeds = f"{100 * CONFIDENCE:.3g} %", _seeds(gains)
    over = f"means over {' to '.join(map(str, seeds))} seeds" if seeds[-1] > 1 else "from one seed"
    notes = [
        f"Difference: own + synthetic − own, patient by patient ({over}), with its {level} interval, bootstrap over "
        f"patients ({RESAMPLES:,} resamples; cases and seeds of a patient stay together)."
    ]
    notes += [] if seeds[-1] > 1 else ["The interval does not know what another seed would give."]
    if not gains.lines[-1].site:
        notes.append(
            "Mean over hospitals: of every patient's differences; hospitals stay, patients are drawn. The intervals of "
            "single hospitals are not corrected for their number."
        )
    if any(not math.isfinite(line.difference) for line in gains.lines):
        notes.append(f"{DASH}: not scored yet, or not trained to the end.")
    return notes
