"""One HTML page about a run: it opens without a network and can be passed on as a single file."""

from __future__ import annotations

import base64
import math
import os
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from bundle.files import atomic_path

from .quality import quality_section
from .table import (
    DASH,
    SETTINGS,
    as_number,
    best_subset,
    display_name,
    get_metric,
    html_table,
    key_metric,
    mean_and_std,
    order_settings,
    ratio_to_real_all,
)

_STYLE = """
:root { color-scheme: light; --ink: #1b1f24; --muted: #55606b; --rule: #d9dee4; --soft: #f5f7f9; --accent: #00517f; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); -webkit-text-size-adjust: 100%;
  font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 64rem; margin: 0 auto; padding: 2.5rem 1.5rem 3rem; }
h1 { font-size: 1.8rem; line-height: 1.25; margin: 0 0 .25rem; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 2.75rem 0 .75rem; padding-top: 1.1rem;
  border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p { margin: 0 0 .9rem; max-width: 46rem; }
.subtitle { color: var(--muted); margin-bottom: 1.5rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: 1px; margin: 0 0 1.75rem;
  background: var(--soft); border: 1px solid var(--rule); border-radius: 6px; overflow: hidden; }
.facts div { outline: 1px solid var(--rule); padding: .65rem .9rem; }
.facts dt { font-size: .8rem; color: var(--muted); }
.facts dd { margin: 0; font-weight: 600; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; max-width: 100%; margin: 0 0 .6rem; }
table { border-collapse: collapse; font-size: .94rem; font-variant-numeric: tabular-nums; }
table.results { min-width: 100%; }
th, td { padding: .45rem .65rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--rule); }
th:first-child { text-align: left; padding-left: .4rem; position: sticky; left: 0; background: #fff; }
thead th { font-size: .82rem; line-height: 1.35; white-space: normal; color: var(--muted); font-weight: 600;
  vertical-align: bottom; border-bottom: 1.5px solid var(--ink); }
tbody th { font-weight: 500; }
tr.setting-asyndgan th, tr.setting-asyndgan td { background: #eaf3f8; font-weight: 600; }
tr.best th, tr.total th, tr.total td { font-weight: 600; }
.mark { color: var(--accent); font-weight: 700; }
.note { font-size: .88rem; color: var(--muted); }
.legend { margin: .5rem 0 1rem; max-width: 52rem; }
.legend div { display: grid; grid-template-columns: 10.5rem 1fr; gap: .1rem 1rem; padding: .3rem 0; }
.legend dt { font-weight: 600; }
.legend dd { margin: 0; }
figure { margin: 0 0 2.25rem; }
figure h3 { margin-top: 0; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption { font-size: .92rem; color: var(--muted); margin-top: .6rem; max-width: 46rem; }
.missing { border: 1px dashed var(--rule); color: var(--muted); padding: 1.25rem; border-radius: 6px; }
pre { background: var(--soft); border: 1px solid var(--rule); border-radius: 6px; padding: .7rem .9rem;
  margin: 0 0 1.25rem; white-space: pre-wrap;
  font: .86rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre span { display: inline-block; max-width: 100%; overflow-wrap: anywhere; }
code { font: .9em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  main { padding: 1.5rem 1rem 2rem; }
  h1 { font-size: 1.45rem; }
  .facts { grid-template-columns: 1fr 1fr; }
  .legend div { grid-template-columns: 1fr; padding: .45rem 0; }
  table { font-size: .88rem; }
  th, td { padding: .45rem .5rem; }
}
@media print { main { max-width: none; padding: 0; } figure, tr { break-inside: avoid; } }
"""


def human_bytes(count: Any) -> str:
    """A number of bytes in decimal units, three digits: ``"1.57 MB"``; a dash for what is not a number."""
    value = as_number(count)
    if not math.isfinite(value):
        return DASH
    if abs(value) < 1000:
        return f"{value:.0f} B"
    # The limit is where three digits would round up to 1000 of the smaller unit.
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if abs(value) < 999.5 or unit == "TB":
            break
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f} {unit}"


def human_seconds(seconds: Any) -> str:
    """A duration in the two units that matter: ``"1 h 05 min"``, ``"14 min 02 s"``, ``"0.62 s"``; or a dash."""
    value = as_number(seconds)
    if not math.isfinite(value):
        return DASH
    if value < 10:
        return f"{value:.2g} s" if value < 0.1 else f"{value:.2f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(value / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _count(number: int, singular: str, plural: str | None = None) -> str:
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _block(results: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    block = results.get(name)
    return block if isinstance(block, Mapping) else {}


def _sites(results: Mapping[str, Any]) -> list[str]:
    named = [s.partition("/")[2] for s in order_settings(results) if s.startswith("real_subset/")]
    return named or sorted(_block(_block(results, "wire"), "per_site"))


def _seed_count(results: Mapping[str, Any]) -> int:
    """How many seeds the compared numbers rest on: the fewest of any setting; 0 where nobody says."""
    key = key_metric(results)
    counts = []
    for block in _block(results, "settings").values():
        entry = (block or {}).get(key)
        if isinstance(entry, Mapping) and entry.get("per_seed"):
            counts.append(len(entry["per_seed"]))
    return min(counts) if counts else len(results.get("seeds") or [])


def _case_count(results: Mapping[str, Any]) -> int:
    key = key_metric(results)
    entries = [(block or {}).get(key) for block in _block(results, "settings").values()]
    return max((len(e.get("per_case") or {}) for e in entries if isinstance(e, Mapping)), default=0)


def _what_was_done(results: Mapping[str, Any]) -> str:
    sites = _sites(results)
    where = f"{_count(len(sites), 'site')} (a site is one hospital: {_listed(sites)})" if sites else "several hospitals"
    tested = _case_count(results)
    cases = f"the same {_count(tested, 'held-out real case')}" if tested else "the same held-out real cases"
    # In the present tense: this describes the method, also on the page of a run that is half way.
    return (
        f"Can hospitals train a model together without handing over their images? In AsynDGAN one central generator "
        f"learns to draw images for {where}. Each site keeps its real images and a discriminator of its own, which "
        f"tells the generator what to improve; the generator itself sees label maps and the sites' feedback, no real "
        f"image. What it draws then trains a segmentation model, and that model is compared, on {cases}, with models "
        f"trained on real images and with one trained on the drawings of a generator that had all images in one place."
    )


def _against_subset(results: Mapping[str, Any], key: str) -> str:
    """AsynDGAN against the best single site, with what the spread over seeds allows to say."""
    subset = best_subset(results, key)
    mean, std = mean_and_std(results, "asyndgan", key)
    if subset is None:
        return ""
    metric = get_metric(key, results)
    other, other_std = mean_and_std(results, subset, key)
    if not (math.isfinite(mean) and math.isfinite(other)):
        return ""
    # The difference as the table's readers see it: of the rounded numbers.
    shown = round(float(metric.format(mean)) - float(metric.format(other)), 9)
    unit = f" {metric.unit}" if metric.unit else ""
    several = sum(s.startswith("real_subset/") for s in order_settings(results)) > 1
    who = "the best single site" if several else "the single site"
    reached = f"{who}, {subset.partition('/')[2]}, reached {metric.format(other)}{unit} with its own real images alone"
    if shown == 0:
        text = f"{reached}: the same as AsynDGAN"
    else:
        ahead = (shown > 0) == (metric.better == "higher")
        amount = f"{metric.format(abs(shown))}{unit}"
        text = f"{reached}: AsynDGAN is {amount} {'better' if ahead else 'worse'}"
    text = text[0].upper() + text[1:]
    if _seed_count(results) > 1 and shown != 0 and math.isfinite(std) and math.isfinite(other_std):
        within = abs(mean - other) <= math.hypot(std, other_std)
        text += (
            ", which is within the spread over seeds, so the two cannot be told apart here"
            if within
            else ", which is more than the spread over seeds"
        )
    return text + ". "


def _what_it_says(results: Mapping[str, Any]) -> str:
    """The results in words, as HTML: the headline in bold, then what it compares with and how sure it is."""
    key = key_metric(results)
    if key is None:
        return "No setting has been scored yet; what there is so far is shown below."
    metric = get_metric(key, results)
    unit = f" {metric.unit}" if metric.unit else ""
    mean, _ = mean_and_std(results, "asyndgan", key)
    reference, _ = mean_and_std(results, "real_all", key)
    if math.isnan(mean):
        return "AsynDGAN has not been scored yet, so the comparison is still open; the table shows what is there."
    ratio = ratio_to_real_all(results, "asyndgan", key)
    text = f"Trained on AsynDGAN's synthetic images only, the segmentation model reached a {metric.label} of "
    text += f"{metric.format(mean)}{unit}"
    if math.isfinite(ratio):
        pooled = f"the {metric.format(reference)}{unit} of Real-All, which pools all real images"
        if metric.better == "lower":
            text += f", {ratio:.2f} times {pooled} (lower is better)"
        else:
            text += f", {100 * ratio:.1f} % of {pooled}"
    headline = text + "."
    text = _against_subset(results, key)
    synthetic, _ = mean_and_std(results, "syn_all", key)
    if not math.isnan(synthetic):
        text += (
            f"Syn-All, whose generator saw all images in one place, reached {metric.format(synthetic)}{unit}: the gap "
            "from Real-All to Syn-All shows what synthesis costs, the gap from Syn-All to AsynDGAN what keeping the "
            "images apart costs. "
        )
    seeds = _seed_count(results)
    if seeds == 1:
        text += (
            "All of this is from one seed: a repeated run would give other numbers, by how much is not known, so "
            "small differences between settings may be chance. "
        )
    elif seeds > 1:
        text += f"Numbers are means over {seeds} repeated runs with different seeds. "
    return f"<strong>{escape(headline)}</strong> {escape(text.strip())}"


def _facts(results: Mapping[str, Any]) -> str:
    seeds = results.get("seeds") or []
    facts = [
        ("Task", results.get("task")),
        ("Profile", results.get("profile")),
        ("Sites", len(_sites(results)) or None),
        ("Test cases", _case_count(results) or None),
        ("Seed" if len(seeds) == 1 else "Seeds", ", ".join(str(seed) for seed in seeds) or None),
        ("Training time", human_seconds(results["seconds"]) if results.get("seconds") is not None else None),
    ]
    cells = [f"<div><dt>{n}</dt><dd>{escape(str(v))}</dd></div>" for n, v in facts if v not in (None, "")]
    return f'<dl class="facts">{"".join(cells)}</dl>' if cells else ""


def _plain_table(headings: Sequence[str], rows: Sequence[Sequence[str]], total: bool = False) -> str:
    """Rows of text as a table, the first column as row headings; ``total``: the last row is a sum."""
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    body = []
    for number, row in enumerate(rows, start=1):
        opening = '<tr class="total">' if total and number == len(rows) else "<tr>"
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        body.append(f'{opening}<th scope="row">{escape(row[0])}</th>{cells}</tr>')
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f'<div class="scroll" tabindex="0">{table}</div>'


def _legend(results: Mapping[str, Any]) -> str:
    kinds = list(dict.fromkeys(setting.partition("/")[0] for setting in order_settings(results)))
    entries = []
    for kind in kinds:
        if kind in SETTINGS:
            name, meaning = SETTINGS[kind]
            name = name.replace("{site}", "SITE")
            entries.append(f"<div><dt>{escape(name)}</dt><dd>{escape(meaning)}</dd></div>")
    if not entries:
        return ""
    return (
        "<h3>What each segmentation model was trained on</h3>"
        f'<dl class="legend">{"".join(entries)}</dl>'
        '<p class="note">The page measures what synthetic images are good for. '
        "It does not measure how much they reveal about the real ones.</p>"
    )


def _wire(results: Mapping[str, Any]) -> str:
    wire = _block(results, "wire")
    if not wire:
        return ""
    steps = as_number(wire.get("steps"))
    per_site = _block(wire, "per_site")
    traffic = [(site, (block or {}).get("to"), (block or {}).get("from")) for site, block in sorted(per_site.items())]
    total = "bytes_to_sites" in wire or "bytes_from_sites" in wire
    if total:
        traffic.append(("All sites", wire.get("bytes_to_sites"), wire.get("bytes_from_sites")))
    rows = []
    for name, to, back in traffic:
        sent, received = as_number(to), as_number(back)
        step = (human_bytes(sent / steps), human_bytes(received / steps)) if steps > 0 else (DASH, DASH)
        rows.append((name, *step, human_bytes(sent), human_bytes(received), human_bytes(sent + received)))
    codec = f" ({escape(str(wire['codec']))})" if wire.get("codec") else ""
    over = f" over {_count(int(steps), 'step')}" if steps > 0 else ""
    return (
        "<h2>What crosses between server and sites</h2>"
        f"<p>In a step the server sends each site synthetic images; the site returns the gradient of its loss for "
        f"them, the losses and the next label maps. These are the bytes of all messages in AsynDGAN's "
        f"training{over}, as encoded for a network{codec}. Where all sites ran in one process, they are what would "
        "have crossed.</p>"
        + _plain_table(("Site", "To site / step", "From site / step", "To site", "From site", "Both ways"), rows, total)
    )


def _training(results: Mapping[str, Any]) -> str:
    rows = []
    for setting in order_settings({"settings": _block(results, "train")}):
        run = _block(_block(results, "train"), setting)
        steps = as_number(run.get("steps"))
        cells = (f"{int(steps):,}" if math.isfinite(steps) else DASH, human_seconds(run.get("seconds_per_step")))
        rows.append((display_name(setting), *cells, human_seconds(run.get("seconds"))))
    losses = f"<p>Losses of the generator: {escape(str(results['losses']))}.</p>" if results.get("losses") else ""
    if not rows and not losses:
        return ""
    table = _plain_table(("Generator", "Steps", "Time / step", "Time"), rows) if rows else ""
    return "<h2>Training</h2>" + losses + table


_HARDWARE = (("cpu", "CPU"), ("cores", "Cores"), ("memory_gib", "Memory"), ("device", "Device"))


def _reproduce(results: Mapping[str, Any], results_path: str) -> str:
    parts = ["<h2>Where this comes from</h2>"]
    if results.get("command"):
        # A line breaks between words, never inside an option.
        words = re.split(r"(\s+)", str(results["command"]))
        spans = "".join(w if not w or w.isspace() else f"<span>{escape(w)}</span>" for w in words)
        parts.append(f"<p>Command:</p><pre>{spans}</pre>")
    hardware = dict(_block(results, "hardware"))
    rows = []
    for name, label in _HARDWARE:
        value = hardware.pop(name, None)
        if value is not None:
            memory = as_number(value)
            rows.append((label, f"{memory:.4g} GiB" if name == "memory_gib" and memory == memory else str(value)))
    rows += [(str(name), str(value)) for name, value in hardware.items() if value is not None]
    if rows:
        cells = "".join(f"<div><dt>{escape(n)}</dt><dd>{escape(v)}</dd></div>" for n, v in rows)
        parts.append(f'<dl class="facts">{cells}</dl>')
    parts.append(f"<p>All numbers, with every case and seed: <code>{escape(results_path)}</code></p>")
    return "".join(parts)


def _figure(title: str, caption: str, path: str | os.PathLike[str]) -> str:
    try:
        data = base64.b64encode(Path(path).read_bytes()).decode("ascii")
        picture = f'<img alt="{escape(title)}" src="data:image/png;base64,{data}">'
    except OSError:
        # A report on a long run is worth having without one of its pictures.
        picture = f'<p class="missing">This figure is missing: {escape(Path(path).name)}</p>'
    note = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure><h3>{escape(title)}</h3>{picture}{note}</figure>"


def write_report(
    path: str | os.PathLike[str],
    results: Mapping[str, Any],
    figures: Sequence[tuple[str, str, str | os.PathLike[str]]],
    notes: str | Sequence[str] | None = None,
    *,
    results_path: str = "results.json",
) -> Path:
    """Write the page: summary, table, figures, bytes on the wire, training, hardware and command.

    The file needs no network and no other file: images are embedded, styles inline, scripts absent. It is
    written whole or not at all.

    Args:
        path: HTML file to write; its folder is made.
        results: contents of results.json; any block may be missing, its section is then left out.
        figures: (title, caption, PNG file) in order; a file that cannot be read is named in its place.
        notes: a paragraph or several, as plain text, shown after the summary.
        results_path: where the reader finds results.json, as it should be printed.

    Returns:
        The path written.

    Raises:
        OSError: the page cannot be written.
    """
    name = str(results.get("name") or results.get("task") or "run")
    paragraphs = [notes] if isinstance(notes, str) else list(notes or [])
    body = [
        f"<h1>{escape(name)}</h1>",
        '<p class="subtitle">Distributed synthetic learning (AsynDGAN): results of one run</p>',
        _facts(results),
        f"<p>{escape(_what_was_done(results))}</p>",
        f"<p>{_what_it_says(results)}</p>",
        *(f"<p>{escape(str(paragraph))}</p>" for paragraph in paragraphs),
        "<h2>Segmentation on held-out real cases</h2>",
        html_table(results),
        _legend(results),
        quality_section(results),
    ]
    if figures:
        body += ["<h2>Figures</h2>", *(_figure(*figure) for figure in figures)]
    body += [_wire(results), _training(results), _reproduce(results, results_path)]
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Belt and braces: even a string that escaped wrongly could load nothing and run nothing.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>{escape(name)} · AsynDGAN report</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main>\n</body>\n</html>\n"
    )
    with atomic_path(path) as temporary:
        temporary.write_bytes(page.encode("utf-8", errors="replace"))
    return Path(path)
