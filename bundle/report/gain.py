"""What a hospital gains: its own images against its own and synthetic ones, over the same held-out patients.

A case's value is its mean over seeds; patients are drawn with all their cases (`bundle.report.statistics`).
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .display_names import BY_HOSPITAL, LEFT_OUT, natural
from .scores import block, case_sites, case_values, has_gain, key_metric, mean_and_std, settings_of
from .statistics import compare
from .untrained import is_untrained

__all__ = ["OWN", "PLUS", "Gains", "Line", "Side", "against", "hospitals", "read_gains", "scored_at", "side"]

OWN, PLUS = "real_subset", "real_subset_plus_asyndgan"
SHARED = ("fedavg", "fedprox", "real_all", "asyndgan")
"""Kinds of settings that are the same for all hospitals."""


@dataclass(frozen=True)
class Side:
    """
    One side of a comparison.

    Attributes:
        values: value by case, a mean over seeds; NaN where there is none.
        mean: as tables have it: the mean over cases and seeds; NaN without any.
        untrained: whether a segmenter of it is far from what more steps would give: it is shown and not compared.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    mean: float = math.nan
    untrained: bool = False

    @property
    def known(self) -> bool:
        return math.isfinite(self.mean)


@dataclass(frozen=True)
class Line:
    """
    A hospital, or several together.

    Attributes:
        site: the hospital; empty for several.
        sites: the hospitals that are in it.
        sides: what was scored, by kind of setting.
        patients: number of held-out patients that the line is about.
        found: `bundle.report.statistics.compare` of the two kinds that the line compares; empty where one of them is
            missing or untrained.
    """

    site: str
    sites: tuple[str, ...]
    sides: Mapping[str, Side]
    patients: int
    found: Mapping[str, Any]

    @property
    def difference(self) -> float:
        """First kind − second, over the cases of both; NaN where it is not known."""
        return math.nan if (value := self.found.get("difference")) is None else value

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the difference, over patients."""
        return None if (found := self.found.get("difference_interval")) is None else tuple(found)


@dataclass(frozen=True)
class Gains:
    """
    What a run says of its hospitals' gains, by its main metric.

    Attributes:
        results: contents of results.json.
        metric: name of the metric.
        lines: every hospital that has images of its own, over *all* held-out cases; where several can be compared, last
            the mean over hospitals of each patient's difference.
        own: every hospital over its *own* held-out cases; last all of them, each by its own hospital.
        absent: trainings without a hospital, over its held-out cases, beside those with it: compared is AsynDGAN
            without and with it. Last all of them, each by the training without its hospital. Empty where none was left
            out.
    """

    results: Mapping[str, Any]
    metric: str
    lines: Sequence[Line]
    own: Sequence[Line]
    absent: Sequence[Line]

    @property
    def compared(self) -> list[Line]:
        """The single hospitals whose own images are compared with own and synthetic ones."""
        return [line for line in self.lines if line.site and line.found]


def read_gains(results: Mapping[str, Any]) -> Gains | None:
    """None where there are no settings beyond the paper's; it costs a second: read it once."""
    metric = key_metric(results)
    if metric is None or not has_gain(results):
        return None
    kinds = (OWN, *BY_HOSPITAL)
    own = _lines_of_own(results, metric, kinds, (PLUS, OWN))
    absent = _lines_of_own(results, metric, (*LEFT_OUT, OWN), ("leave_out", "asyndgan"))
    there = bool(settings_of(results, LEFT_OUT))
    return Gains(results, metric, _hospital_lines(results, metric), own, absent if there else [])


def hospitals(results: Mapping[str, Any]) -> list[str]:
    """Hospitals that something was trained for or without, in natural order."""
    found = settings_of(results, (OWN, *BY_HOSPITAL, *LEFT_OUT))
    return sorted({setting.partition("/")[2] for setting in found}, key=natural)


def scored_at(results: Mapping[str, Any]) -> dict[str, list[str]]:
    """Held-out cases by hospital, in natural order; those from elsewhere last, under an empty name."""
    cases: dict[str, list[str]] = {}
    for case, site in case_sites(results).items():
        cases.setdefault(site, []).append(case)
    return {site: cases[site] for site in sorted(cases, key=lambda site: (not site, natural(site)))}


def patient_count(results: Mapping[str, Any], cases: Sequence[str]) -> int:
    """To how many patients cases belong."""
    patients = block(results, "test_patients")
    return len({patients.get(case, case) for case in cases})


def side(results: Mapping[str, Any], setting: str, metric: str, cases: Container[str] | None = None) -> Side:
    """A setting over all held-out cases, or over some."""
    values = case_values(results, setting, metric)
    if cases is None:
        return Side(values, mean_and_std(results, setting, metric)[0], is_untrained(results, setting))
    values = {case: value for case, value in values.items() if case in cases}
    return Side(values, _mean(values.values()), is_untrained(results, setting))


def _hospital_lines(results: Mapping[str, Any], metric: str) -> list[Line]:
    shared = {kind: side(results, kind, metric) for kind in SHARED}
    lines = []
    for site in hospitals(results):
        own = {kind: side(results, f"{kind}/{site}", metric) for kind in (OWN, *BY_HOSPITAL)}
        if any(one.known for one in own.values()):
            lines.append(_line(results, (site,), own | shared, (PLUS, OWN)))
    complete = [line for line in lines if line.found]
    if len(complete) > 1:
        sides = {kind: _averaged([line.sides[kind] for line in complete]) for kind in (OWN, *BY_HOSPITAL)}
        lines.append(_line(results, tuple(line.site for line in complete), sides | shared, (PLUS, OWN)))
    return lines


def _lines_of_own(results: Mapping[str, Any], metric: str, by_site: Sequence[str], pair: tuple[str, str]) -> list[Line]:
    lines = []
    cases_of = scored_at(results)
    for site in hospitals(results):
        cases = set(cases_of.get(site, ()))
        sides = {kind: side(results, f"{kind}/{site}", metric, cases) for kind in by_site}
        sides |= {kind: side(results, kind, metric, cases) for kind in SHARED}
        lines.append(_line(results, (site,), sides, pair))
    complete = [line for line in lines if line.found]
    if len(complete) > 1:
        sides = {kind: _pooled([line.sides[kind] for line in complete]) for kind in (*by_site, *SHARED)}
        lines.append(_line(results, tuple(line.site for line in complete), sides, pair))
    return lines


def against(results: Mapping[str, Any], one: Side, other: Side) -> dict[str, Any]:
    """`bundle.report.statistics.compare`; empty where a side is untrained or no case has a value in both."""
    if one.untrained or other.untrained:
        return {}
    found = compare(one.values, other.values, block(results, "test_patients"))
    return found if found["patients"] else {}


def _line(results: Mapping[str, Any], sites: tuple[str, ...], sides: Mapping[str, Side], pair: tuple[str, str]) -> Line:
    cases = {case for one in sides.values() for case, value in one.values.items() if math.isfinite(value)}
    found = against(results, sides[pair[0]], sides[pair[1]])
    return Line(sites[0] if len(sites) == 1 else "", sites, sides, patient_count(results, sorted(cases)), found)


def _averaged(sides: Sequence[Side]) -> Side:
    """Sides over the same cases, as their mean case by case; where one has no value, there is none."""
    cases = dict.fromkeys(case for one in sides for case in one.values)
    values = {case: math.fsum(one.values.get(case, math.nan) for one in sides) / len(sides) for case in cases}
    mean = math.fsum(one.mean for one in sides) / len(sides)
    return Side(values, mean, any(one.untrained for one in sides))


def _pooled(sides: Sequence[Side]) -> Side:
    """Sides over different cases, as one; empty where one of them is not known."""
    if not all(one.known for one in sides):
        return Side()
    values = {case: value for one in sides for case, value in one.values.items()}
    return Side(values, _mean(values.values()), any(one.untrained for one in sides))


def _mean(values: Any) -> float:
    known = [value for value in values if math.isfinite(value)]
    return math.fsum(known) / len(known) if known else math.nan
