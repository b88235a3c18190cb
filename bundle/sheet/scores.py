"""Parts of a data sheet: how good the synthetic images are, and what a segmenter learns from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bundle.report.image_quality import REFERENCES
from bundle.report.statistics import compute_statistics
from bundle.settings import kind_of
from bundle.sheet.notes import Notes
from bundle.sheet.sources import Sources

__all__ = ["downstream", "quality"]

COUNTS = ("images", "images/real")
"""Of the measures: how many there were, which a sheet says elsewhere, or withholds."""
COMPARED = ("real_all", "syn_all")
"""Settings whose scores stand beside, where the run has them."""
_OF_REAL = {metric: (name, title) for title, of in REFERENCES.items() for name, metric in of.items()}
_DIGITS = 5


def quality(sources: Sources, notes: Notes) -> dict[str, Any] | None:
    """The block ``quality``."""
    metrics = _metrics(sources.read("quality"))
    if not metrics:
        return notes.missing(sources.why("quality"), "quality")
    found = {
        name: {**_value(of), "references": {}}
        for name, of in metrics.items()
        if name not in _OF_REAL and name not in COUNTS
    }
    for metric, (name, title) in _OF_REAL.items():
        if metric in metrics and name in found:
            found[name]["references"][title] = _value(metrics[metric])
    for name, of in found.items():
        if of["value"] is None:
            notes.missing("it is defined site by site", "quality", name, "value")
        for title, reference in of["references"].items():
            if reference["value"] is None:
                notes.missing("it is defined site by site", "quality", name, "references", title, "value")
    return found


def downstream(sources: Sources, notes: Notes) -> dict[str, Any] | None:
    """The block ``downstream``; null where the segmenter has seen real images as well."""
    scores = sources.read("metrics")
    metrics = _metrics(scores)
    if not metrics:
        return notes.missing(sources.why("metrics"), "downstream")
    try:
        if kind_of(str((scores or {}).get("setting", "asyndgan"))).real:
            return notes.missing("the segmenter was trained on real images as well", "downstream")
    except ValueError:
        pass
    items = (sources.read("datalist") or {}).get("test") or []
    patients = {item.get("case"): f"{item.get('site')}/{item.get('patient', item.get('case'))}" for item in items}
    # a setting of any name: the statistics are of one alone
    per_case = {name: {"per_case": _cases(of), "mean": of.get("mean")} for name, of in metrics.items()}
    statistics = compute_statistics({"settings": {"this": per_case}, "test_patients": patients})
    units = (scores or {}).get("units") or {}
    beside = _beside(sources)
    found = {}
    for name, of in metrics.items():
        about = ((statistics.get("metrics") or {}).get(name) or {}).get("this") or {}
        values = [value for value in _cases(of).values() if value is not None]
        found[name] = {
            "mean": _rounded(of.get("mean")),
            "interval": [_rounded(end) for end in about["interval"]] if about.get("interval") else None,
            "lowest": _rounded(min(values)) if values else None,
            "highest": _rounded(max(values)) if values else None,
            "cases": len(values),
            "patients": about.get("patients", 0),
            "unit": units.get(name.partition("/")[0].partition(":")[0], ""),
            "references": {setting: _rounded(m[name].get("mean")) for setting, m in beside.items() if name in m},
        }
        reason = "too few patients for an interval" if values else "no held-out case has it"
        for field in ("mean", "interval", "lowest", "highest"):
            if found[name][field] is None:
                notes.missing(reason, "downstream", name, field)
        for setting, value in found[name]["references"].items():
            if value is None:
                notes.missing("no held-out case has it", "downstream", name, "references", setting)
    return found


def _beside(sources: Sources) -> dict[str, dict[str, Any]]:
    """Scores of other settings of the same seed."""
    if sources.seed is None:
        return {}
    folders = {setting: sources.seed / setting for setting in COMPARED}
    found = {s: _metrics(Sources(folder).read("metrics")) for s, folder in folders.items() if folder != sources.folder}
    return {setting: metrics for setting, metrics in found.items() if metrics}


def _metrics(content: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any]]:
    metrics = (content or {}).get("metrics")
    if not isinstance(metrics, Mapping):
        return {}
    # what is written by hand may be a number alone
    return {name: of if isinstance(of, Mapping) else {"mean": of} for name, of in metrics.items()}


def _cases(of: Mapping[str, Any]) -> dict[str, Any]:
    return dict(of.get("per_case") or {})


def _value(of: Mapping[str, Any]) -> dict[str, Any]:
    by_site = {site: _rounded(value) for site, value in _cases(of).items() if value is not None}
    return {"value": _rounded(of.get("mean")), "by_site": by_site}


def _rounded(value: Any) -> float | None:
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, int | float) else None
