"""What the page says of the synthetic images themselves: tables overall and by site, and numbers for its sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from .display_names import display_name, get_metric
from .formats import DASH, as_number
from .result_tables import made_with
from .scores import mean_and_std, order_settings
from .table import Row, Table

COLUMNS = ("fid", "fid/other patients", "mmd", "mmd/other patients", "ssim", "ssim/held-out conditions")
READINGS = ("gan_test", "false_foreground")
PATTERNS = ("fixed_pattern", "fixed_pattern_rate", "fixed_texture")
NEIGHBOURS = ("neighbour_ratio/any patient", "neighbour_ratio/other patients", "neighbour_share", "own_pair_share")
# What real images have in a column: name of the row -> column -> metric of the cell.
REFERENCES = {
    "Real images of other patients": {
        "fid/other patients": "fid/real, other patients",
        "mmd/other patients": "mmd/real, other patients",
    },
    "Real images of the other sites": {"fid": "fid/real, other sites", "mmd": "mmd/real, other sites"},
    "Real training images": {
        "gan_test": "gan_test/training images",
        "false_foreground": "false_foreground/training images",
        "fixed_pattern": "fixed_pattern/training images",
        "fixed_pattern_rate": "fixed_pattern_rate/training images",
        "fixed_texture": "fixed_texture/training images",
    },
}
# What the images would score that are as far from each other as real patients are.
REAL_NEIGHBOURS = {"neighbour_ratio/other patients": 1.0, "neighbour_share": 0.05}


def image_quality(results: Mapping[str, Any]) -> dict[str, Any]:
    """
    What the page says of the block ``quality`` of results.json; empty without one.

    Args:
        results: contents of results.json. Metrics that this module does not know are columns of their own.

    Returns:
        Tables ``scores``, ``readings``, ``patterns`` and ``neighbours``, None without their metrics, and ``by_site``, a
        list of the same with the rows of every site; ``has_fid``; ``counts``, how many images, synthetic and real, FID
        rests on, None where it is not known; ``copies``, numbers on nearness for each setting that has them;
        ``made_with``.
    """
    quality = results.get("quality")
    if not isinstance(quality, Mapping) or not quality:
        return {}
    scores = {**results, "settings": quality}
    settings = order_settings(scores)
    named = dict.fromkeys(name for setting in settings for name in quality[setting])
    shown = {
        *COLUMNS,
        *READINGS,
        *PATTERNS,
        *NEIGHBOURS,
        "images",
        "images/real",
        *(m for r in REFERENCES.values() for m in r.values()),
    }
    others = [name for name in named if name not in shown]
    groups = {
        "scores": [name for name in (*COLUMNS, *others) if name in named],
        "readings": [name for name in READINGS if name in named],
        "patterns": [name for name in PATTERNS if name in named],
        "neighbours": [name for name in NEIGHBOURS if name in named],
    }
    references = {"scores": REFERENCES, "readings": REFERENCES, "patterns": REFERENCES, "neighbours": {}}
    found: dict[str, Any] = {
        group: _table(scores, settings, names, references[group]) if names else None for group, names in groups.items()
    }
    sites = _sites(quality, settings)
    found["by_site"] = [
        _table(scores, settings, names, REFERENCES, sites) for names in groups.values() if names and sites
    ]
    found["has_fid"] = "fid" in named
    found["counts"] = _counts(scores, settings)
    found["copies"] = [about for setting in reversed(settings) if (about := _about_copies(scores, setting))]
    found["made_with"] = made_with(results)
    return found


def _sites(quality: Mapping[str, Any], settings: Sequence[str]) -> list[str]:
    entries = [entry for setting in settings for entry in quality[setting].values() if isinstance(entry, Mapping)]
    return sorted({site for entry in entries for site in entry.get("per_case") or {}})


def _value(scores: Mapping[str, Any], setting: str, name: str, site: str | None) -> tuple[float, float]:
    """Mean and standard deviation over seeds, overall or of a site."""
    if site is None:
        return mean_and_std(scores, setting, name)
    entry = scores["settings"][setting].get(name) or {}
    values = [as_number(value) for value in (entry.get("per_case") or {}).get(site) or []]
    known = [value for value in values if math.isfinite(value)]
    return fmean(known) if known else math.nan, stdev(known) if len(known) > 1 else math.nan


def _cell(scores: Mapping[str, Any], setting: str, name: str, site: str | None, spread: bool = True) -> str:
    metric = get_metric(name, scores)
    mean, std = _value(scores, setting, name, site)
    std = std if spread else math.nan
    return metric.format(mean) + ("" if math.isnan(mean) or math.isnan(std) else f" ± {metric.format(std)}")


def _real_cell(scores: Mapping[str, Any], settings: Sequence[str], name: str | None, site: str | None) -> str:
    """Of real images alone, the same for every setting and seed; some settings have those of one site only."""
    cells = [_cell(scores, setting, name, site, spread=False) for setting in reversed(settings)] if name else []
    return next((cell for cell in cells if cell != DASH), DASH)


def _table(
    scores: Mapping[str, Any],
    settings: Sequence[str],
    names: Sequence[str],
    references: Mapping[str, Mapping[str, str]],
    sites: Sequence[str] | None = None,
) -> Table:
    """Rows: the settings, then what real images have; with sites, all of them for each site."""
    rows = []
    for site in sites or [None]:
        of_site = f"{site}: " if site is not None else ""
        for setting in settings:
            cells = [_cell(scores, setting, name, site) for name in names]
            if any(cell != DASH for cell in cells):
                rows.append(Row(of_site + display_name(setting), tuple(cells), setting.partition("/")[0]))
        for title, metrics in references.items():
            cells = [_real_cell(scores, settings, metrics.get(name), site) for name in names]
            if any(cell != DASH for cell in cells):
                rows.append(Row(of_site + title, tuple(cells), "reference"))
        if any(name in REAL_NEIGHBOURS for name in names) and site is None:
            cells = [
                get_metric(name).format(REAL_NEIGHBOURS[name]) if name in REAL_NEIGHBOURS else DASH for name in names
            ]
            rows.append(Row("Real images, by definition", tuple(cells), "reference"))
    headings = ("Site: setting" if sites else "Setting", *(get_metric(name, scores).heading for name in names))
    return Table("", headings, tuple(rows))


def _counts(scores: Mapping[str, Any], settings: Sequence[str]) -> tuple[float, float] | None:
    counts = [_value(scores, settings[-1], name, None)[0] for name in ("images", "images/real")]
    return None if any(map(math.isnan, counts)) else (counts[0], counts[1])


def _about_copies(scores: Mapping[str, Any], setting: str) -> dict[str, Any]:
    """How near a setting's images are to training images; empty where it is not known."""
    ratio, share, own, seen, unseen = (
        _value(scores, setting, name, None)[0] for name in (*NEIGHBOURS[1:], "ssim", "ssim/held-out conditions")
    )
    if math.isnan(ratio):
        return {}
    about = {"setting": display_name(setting), "ratio": ratio, "share": 100 * share, "own": 100 * own}
    return about | ({"seen": seen, "unseen": unseen} if math.isfinite(seen) and math.isfinite(unseen) else {})
