"""The page's section on the synthetic images themselves: tables overall and per site, and how to read them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from statistics import fmean, stdev
from typing import Any

from .formats import DASH, as_number
from .names import display_name, get_metric
from .scores import mean_and_std, order_settings
from .tables import made_with

COLUMNS = ("fid", "fid/other patients", "mmd", "mmd/other patients", "ssim", "ssim/held-out conditions")
READINGS = ("gan_test", "false_foreground")
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
    },
}
ABOUT_READINGS = (
    "GAN-test is the Dice of what a segmenter of real held-out images finds in the synthetic ones with the label maps "
    "that they were drawn on, false foreground the share of pixels that it marks where the label map is empty; the row "
    "of real training images says what it can. Images that are all alike are the easiest to read: a high figure alone "
    "says little."
)
# What the images would score that are as far from each other as real patients are.
REAL_NEIGHBOURS = {"neighbour_ratio/other patients": 1.0, "neighbour_share": 0.05}


def quality_section(results: Mapping[str, Any]) -> str:
    """
    The block ``quality`` of results.json as HTML; empty without one.

    Args:
        results: contents of results.json. Metrics that this module does not know are columns of their own.
    """
    quality = results.get("quality")
    if not isinstance(quality, Mapping) or not quality:
        return ""
    scores = {**results, "settings": quality}
    settings = order_settings(scores)
    named = dict.fromkeys(name for setting in settings for name in quality[setting])
    shown = {
        *COLUMNS,
        *READINGS,
        *NEIGHBOURS,
        "images",
        "images/real",
        *(m for r in REFERENCES.values() for m in r.values()),
    }
    others = [name for name in named if name not in shown]
    parts = ["<h2>Image quality</h2>"]
    columns = [name for name in (*COLUMNS, *others) if name in named]
    if columns:
        parts.append(_table(scores, settings, columns, REFERENCES))
    if "fid" in named:
        parts += [f"<p>{escape(_how_to_read(scores, settings))}</p>"]
    parts += [f'<p class="note">{escape(note)}</p>' for note in made_with(results)]
    readings = [name for name in READINGS if name in named]
    if readings:
        parts += [
            "<h3>Do the images show what they were drawn for?</h3>",
            _table(scores, settings, readings, REFERENCES),
            f"<p>{escape(ABOUT_READINGS)}</p>",
        ]
    neighbours = [name for name in NEIGHBOURS if name in named]
    if neighbours:
        parts += ["<h3>Does the generator copy?</h3>", _table(scores, settings, neighbours, {})]
        parts += [f"<p>{escape(text)}</p>" for text in _about_copies(scores, settings)]
    if sites := _sites(quality, settings):
        parts.append("<h3>By site</h3>")
        parts += [
            _table(scores, settings, names, REFERENCES, sites) for names in (columns, readings, neighbours) if names
        ]
    return "".join(parts)


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
) -> str:
    """Rows: the settings, then what real images have; with sites, all of them for each site."""
    rows = []
    for site in sites or [None]:
        of_site = f"{site}: " if site is not None else ""
        for setting in settings:
            kind = setting.partition("/")[0].replace("_", "-")
            cells = [_cell(scores, setting, name, site) for name in names]
            if any(cell != DASH for cell in cells):
                rows.append((f"setting-{kind}", of_site + display_name(setting), cells))
        for title, metrics in references.items():
            cells = [_real_cell(scores, settings, metrics.get(name), site) for name in names]
            if any(cell != DASH for cell in cells):
                rows.append(("reference", of_site + title, cells))
        if any(name in REAL_NEIGHBOURS for name in names) and site is None:
            cells = [
                get_metric(name).format(REAL_NEIGHBOURS[name]) if name in REAL_NEIGHBOURS else DASH for name in names
            ]
            rows.append(("reference", "Real images, by definition", cells))
    headings = ["Site: setting" if sites else "Setting", *(get_metric(name, scores).heading for name in names)]
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    body = "".join(
        f'<tr class="{escape(css)}"><th scope="row">{escape(title)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for css, title, cells in rows
    )
    table = f'<table class="results"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="scroll" tabindex="0">{table}</div>'


def _how_to_read(scores: Mapping[str, Any], settings: Sequence[str]) -> str:
    counts = [_value(scores, settings[-1], name, None)[0] for name in ("images", "images/real")]
    numbers = "" if any(map(math.isnan, counts)) else f" ({counts[0]:,.0f} synthetic, {counts[1]:,.0f} real)"
    return (
        f"FID and MMD compare the features of synthetic and real images{numbers}. Lower is nearer. FID is above 0 "
        "between two sets of real images, too, the more so the smaller they are: read a figure against the rows of "
        "real images in its column. The columns of other patients set images of one half of the patients against real "
        "ones of the other half; real images score there what a row says, and a setting that comes near it draws "
        "images as like to those of further patients as real ones are, as far as the feature network can tell. Figures "
        "of other feature networks, the customary ImageNet FID among them, do not compare. SSIM compares a synthetic "
        "image with the real one of its label map."
    )


def _about_copies(scores: Mapping[str, Any], settings: Sequence[str]) -> list[str]:
    texts = []
    for setting in reversed(settings):
        ratio, share, own, seen, unseen = (
            _value(scores, setting, name, None)[0] for name in (*NEIGHBOURS[1:], "ssim", "ssim/held-out conditions")
        )
        if math.isnan(ratio):
            continue
        text = (
            f"{display_name(setting)}: a synthetic image is {ratio:.2f} times as far from the nearest training image "
            f"of another patient as a real image is, and {100 * share:.1f} % of them are nearer to one than 95 % of "
            f"the real images are. For {100 * own:.1f} % of them the nearest training image is the one of their own "
            "label map."
        )
        if math.isfinite(seen) and math.isfinite(unseen):
            text += (
                f" Drawn from label maps of training cases, images have an SSIM of {seen:.3f} to the real ones; drawn "
                f"from those of held-out cases, which the generator never saw, {unseen:.3f}."
            )
        texts.append(text)
    return [
        *texts,
        "How to read this: a synthetic image is drawn on the label map of a real one, has its outline, and is pulled "
        "towards it where the loss has a paired term such as L1, so nearness to that one is by design and proves no "
        "copy. The first column has it in; the second leaves out all images of its "
        "patient. A copy of another patient would show as a ratio far below 1 and as equal pictures in the panel. A "
        "ratio somewhat below 1 is also what smooth images have: they lie in the middle, near to everything. Learning "
        "by heart would show as a much higher SSIM on training cases than on held-out ones. None of this is a "
        "guarantee of privacy.",
    ]
