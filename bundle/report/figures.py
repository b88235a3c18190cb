"""Figures of a report, as PNG files.

Drawn on ``Figure`` objects without pyplot, so that no global state is touched and no display is needed.
Every file appears whole or not at all.
"""

from __future__ import annotations

import io
import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import Normal, Stroke
from PIL import Image

from bundle.files import atomic_path

from .table import as_number, display_name, get_metric, order_settings

INK = "#1b1f24"
MUTED = "#5c6670"
RULE = "#d5dae0"
# Okabe and Ito's palette, which stays apart under the common colour-vision deficiencies; its yellow is
# left to the end because it is weak on white.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#F0E442")
# On top of an image: a light blue and a yellow differ in lightness as well as in hue, and a dark edge
# keeps both visible on bright tissue.
TRUTH_COLOUR = "#56B4E9"
PREDICTION_COLOUR = "#FFD23F"
REFERENCE_WIDTH = 2.2
PREDICTION_WIDTH = 1.1
# For labels on the grey outline of a condition.
LABEL_COLOURS = ("#E69F00", "#56B4E9", "#CC79A7", "#009E73", "#F0E442", "#D55E00", "#0072B2")
OUTLINE_GREY = 0.42
MAX_BYTES = 600_000
# Terms of a loss whose tag is not how one writes them.
TERMS = {"l1": "L1"}

Curve = tuple[np.ndarray, np.ndarray]


def _to_palette(image: Image.Image) -> Image.Image:
    """256 colours: those that carry a meaning as they are, the rest chosen from the image."""
    fixed = dict.fromkeys((*PALETTE, *LABEL_COLOURS, TRUTH_COLOUR, PREDICTION_COLOUR, INK, MUTED, "#FFFFFF"))
    fixed_values = [[round(255 * part) for part in to_rgb(colour)] for colour in fixed]
    free = 256 - len(fixed)
    chosen = (image.quantize(free, method=Image.Quantize.MEDIANCUT).getpalette() or [])[: 3 * free]
    palette = Image.new("P", (1, 1))
    chosen += [0] * (3 * free - len(chosen))
    palette.putpalette(chosen + [part for value in fixed_values for part in value])
    indices = np.array(image.quantize(palette=palette, dither=Image.Dither.NONE))
    # Pillow takes a near colour for the nearest: white would come out as a light grey.
    packed = np.asarray(image).astype(np.uint32) @ np.array([65536, 256, 1], dtype=np.uint32)
    for number, (red, green, blue) in enumerate(fixed_values):
        indices[packed == (red << 16) + (green << 8) + blue] = free + number
    result = Image.fromarray(indices)
    result.putpalette(palette.getpalette() or [])
    return result


def _save(figure: Figure, path: str | os.PathLike[str], dpi: int = 150, crop: bool = True) -> None:
    """Render to PNG and write; shrinks what would be larger than `MAX_BYTES`: first its palette, then its pixels."""
    FigureCanvasAgg(figure)
    frame = {"bbox_inches": "tight", "pad_inches": 0.08} if crop else {}
    for resolution in (dpi, round(dpi * 0.8), round(dpi * 0.65)):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=resolution, facecolor="white", **frame)
        buffer.seek(0)
        with Image.open(buffer) as opened:
            image = opened.convert("RGB")
        data = b""
        for convert in (Image.Image.copy, _to_palette):
            out = io.BytesIO()
            convert(image).save(out, format="PNG", optimize=True)
            data = out.getvalue()
            if len(data) <= MAX_BYTES:
                break
        if len(data) <= MAX_BYTES:
            break
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _image_rgb(image: np.ndarray) -> np.ndarray:
    """``HxW`` or ``CxHxW`` in [-1, 1] → ``HxWx3`` in [0, 1]: RGB of three channels, else the first in grey."""
    array = np.asarray(image, dtype=float)
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3:
        raise ValueError(f"an image has shape {np.shape(image)}, expected HxW or CxHxW")
    if array.shape[0] != 3:
        array = np.repeat(array[:1], 3, axis=0)
    array = np.nan_to_num(array, nan=-1.0, posinf=1.0, neginf=-1.0)
    return np.clip((np.moveaxis(array, 0, -1) + 1) / 2, 0, 1)


def _condition_rgb(condition: np.ndarray, outline: bool) -> np.ndarray:
    """``CxHxW`` in {0, 1} → ``HxWx3`` in [0, 1]: channels in colours, an outline (the last) in grey below them."""
    array = np.asarray(condition, dtype=float)
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3:
        raise ValueError(f"a condition has shape {np.shape(condition)}, expected CxHxW")
    drawn = np.zeros((*array.shape[1:], 3))
    labels = array
    if outline:
        drawn[array[-1] > 0.5] = OUTLINE_GREY
        labels = array[:-1]
    for number, channel in enumerate(labels):
        drawn[channel > 0.5] = to_rgb(LABEL_COLOURS[number % len(LABEL_COLOURS)])
    return drawn


def _axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place in inches from the figure's left and top edge."""
    total_width, total_height = figure.get_size_inches()
    return figure.add_axes(
        (left / total_width, 1 - (top + height) / total_height, width / total_width, height / total_height)
    )


def _text(figure: Figure, left: float, top: float, text: str, **style: Any) -> None:
    """Text at a place in inches from the figure's left and top edge."""
    total_width, total_height = figure.get_size_inches()
    figure.text(left / total_width, 1 - top / total_height, text, **{"color": INK, **style, "parse_math": False})


def _draw(axes: Axes, picture: np.ndarray | None, missing: str = "no image") -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(RULE)
        spine.set_linewidth(0.6)
    if picture is None:
        axes.set_facecolor("#f3f5f7")
        axes.text(0.5, 0.5, missing, transform=axes.transAxes, ha="center", va="center", color=MUTED, fontsize=10)
    else:
        axes.imshow(picture)


def _placeholder(text: str, path: str | os.PathLike[str]) -> None:
    figure = Figure(figsize=(6, 1.2))
    figure.text(0.5, 0.5, text, ha="center", va="center", color=MUTED, fontsize=12)
    _save(figure, path, crop=False)


def _wrap(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(text, width, max_lines=2, placeholder="…") or [""])


def synthesis_grid(
    rows: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
    *,
    labels: Sequence[str] | None = None,
    outline: bool = False,
    triplets_per_line: int | None = None,
) -> None:
    """For every site, triplets *condition · synthetic · real*.

    Args:
        rows: one mapping per site: ``{"site": str, "samples": [{"condition": CxHxW in {0, 1},
            "synthetic": CxHxW in [-1, 1], "real": CxHxW in [-1, 1]}, ...]}``. Images of three channels are
            RGB, of any other number the first channel is shown in grey. An image that is missing or None leaves an
            empty place.
        path: PNG file to write.
        labels: what the channels of the condition mean, for a legend; None: no legend.
        outline: whether the last channel of a condition is an outline that contains the others, drawn in grey.
        triplets_per_line: triplets beside each other; None: 3 where the samples divide by 3, else at most 2.

    Raises:
        ValueError: an array has the wrong number of dimensions.
    """
    rows = [row for row in rows if row.get("samples")]
    if not rows:
        _placeholder("no samples", path)
        return
    most = max(len(row["samples"]) for row in rows)
    across = triplets_per_line or (3 if most % 3 == 0 else min(most, 2))
    across = max(1, min(across, most))
    lines = [math.ceil(len(row["samples"]) / across) for row in rows]
    parts = ("condition", "synthetic", "real")
    first = next((s[p] for row in rows for s in row["samples"] for p in parts if s.get(p) is not None), None)
    height, width = np.shape(first)[-2:] if first is not None else (1, 1)

    panel, gap, triplet_gap, block_gap = 1.3, 0.05, 0.2, 0.16
    tall = panel * height / width
    margin, head = 0.36, 0.34
    foot = 0.1 + 0.24 * math.ceil(len(labels) / 4) if labels else 0.0
    triplet = 3 * panel + 2 * gap
    figure = Figure(
        figsize=(
            margin + across * triplet + (across - 1) * triplet_gap,
            head + sum(lines) * (tall + gap) + (len(rows) - 1) * block_gap + foot,
        )
    )
    for column in range(across):
        for part, heading in enumerate(parts):
            centre = margin + column * (triplet + triplet_gap) + part * (panel + gap) + panel / 2
            bold = "bold" if heading == "synthetic" else "normal"
            _text(figure, centre, head - 0.1, heading, ha="center", va="bottom", fontsize=11, weight=bold)
    top = head
    for row, count in zip(rows, lines, strict=True):
        block = count * (tall + gap)
        name = _wrap(str(row["site"]), max(8, int(block * 9)))
        style = {"ha": "center", "va": "center", "fontsize": 11, "weight": "bold", "rotation": 90}
        _text(figure, margin / 2 - 0.02, top + (block - gap) / 2, name, **style)
        for number in range(count * across):
            sample = row["samples"][number] if number < len(row["samples"]) else None
            if sample is None:
                continue
            line, column = divmod(number, across)
            for part, key in enumerate(parts):
                left = margin + column * (triplet + triplet_gap) + part * (panel + gap)
                array = sample.get(key)
                axes = _axes(figure, left, top + line * (tall + gap), panel, tall)
                if array is None:
                    _draw(axes, None)
                else:
                    _draw(axes, _condition_rgb(array, outline) if key == "condition" else _image_rgb(array))
        top += block + block_gap
    if labels:
        colours = [LABEL_COLOURS[number % len(LABEL_COLOURS)] for number in range(len(labels))]
        if outline:
            colours[-1] = str(OUTLINE_GREY)
        patches = [Patch(facecolor=c, label=_literal(str(t))) for c, t in zip(colours, labels, strict=True)]
        figure.legend(handles=patches, loc="lower center", ncols=min(len(labels), 4), frameon=False, fontsize=10)
    _save(figure, path)


def _split_tag(tag: str) -> tuple[str, str]:
    """``"loss/CS/l1"`` → ``("l1", "CS")``; a tag without a site gets an empty one."""
    parts = tag.split("/")
    if len(parts) >= 3:
        return parts[-1], "/".join(parts[1:-1])
    return parts[-1], ""


def _smooth(values: np.ndarray) -> np.ndarray:
    """Centred running mean over about 1/25 of the points; at the ends over the points there are."""
    half = len(values) // 50
    if half < 1:
        return values
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


def _limits(curves: Sequence[Curve]) -> tuple[float, float]:
    """Range that shows every smoothed line and all but the rarest raw values."""
    low = min(min(np.percentile(values, 1), _smooth(values).min()) for _, values in curves)
    high = max(max(np.percentile(values, 99), _smooth(values).max()) for _, values in curves)
    pad = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - pad, high + pad


def loss_curves(curves: Mapping[str, Mapping[str, Curve]], path: str | os.PathLike[str]) -> None:
    """Losses over steps: one line of panels per title, one panel per term, one line per site.

    Args:
        curves: ``{title: {tag: (steps, values)}}``, tags such as ``"loss/CS/l1"`` (``loss/SITE/TERM``). Of
            a title that has such tags, tags of another beginning (a learning rate) are left out. Values
            that are not finite are skipped. The raw values are drawn faintly behind their running mean.
        path: PNG file to write.
    """
    panels: dict[str, dict[str, dict[str, Curve]]] = {}
    for title, tags in curves.items():
        wanted = [tag for tag in tags if tag.startswith("loss/")] or list(tags)
        for tag in wanted:
            steps, values = np.asarray(tags[tag][0]), np.asarray(tags[tag][1], dtype=float)
            finite = np.isfinite(values)
            if finite.any():
                term, site = _split_tag(tag)
                panels.setdefault(title, {}).setdefault(term, {})[site] = (steps[finite], values[finite])
    if not panels:
        _placeholder("no losses recorded", path)
        return
    terms = list(dict.fromkeys(term for title in panels.values() for term in title))
    sites = sorted({site for title in panels.values() for term in title.values() for site in term})
    named = [site for site in sites if site]
    styles = {site: (PALETTE[number % 7], ("-", "--", ":", "-.")[number // 7 % 4]) for number, site in enumerate(named)}
    styles[""] = (MUTED, "-")

    limits = {term: _limits([c for t in panels.values() for c in t.get(term, {}).values()]) for term in terms}
    wide, tall = 3.3, 2.45
    legend_lines = math.ceil(len(named) / 6)
    figure = Figure(figsize=(wide * max(len(terms), 2), tall * len(panels) + 0.3 * legend_lines), layout="constrained")
    grid = figure.subplots(len(panels), len(terms), squeeze=False)
    for row, (title, by_term) in enumerate(panels.items()):
        for column, term in enumerate(terms):
            axes = grid[row][column]
            for site, (steps, values) in sorted(by_term.get(term, {}).items()):
                colour, line = styles[site]
                smooth = _smooth(values)
                if smooth is not values:
                    axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.22, zorder=1)
                marker = "o" if len(values) == 1 else None
                axes.plot(steps, smooth, color=colour, linestyle=line, marker=marker, linewidth=1.6, zorder=2)
            # Same scale for a term in every line of panels: they are there to be compared.
            axes.set_ylim(*limits[term])
            axes.set_title(f"{title} · {TERMS.get(term, term)}", fontsize=11, color=INK, loc="left", parse_math=False)
            axes.grid(color=RULE, linewidth=0.6)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=9.5, colors=MUTED)
            axes.xaxis.get_major_locator().set_params(nbins=5, integer=True)
            if not by_term.get(term):
                axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", color=MUTED, fontsize=10)
            if row == len(panels) - 1:
                axes.set_xlabel("step", fontsize=10, color=MUTED)
    if named:
        handles = [
            Line2D([], [], color=styles[s][0], linestyle=styles[s][1], linewidth=2, label=_literal(s)) for s in named
        ]
        columns = min(len(named), 6)
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=10.5)
    _save(figure, path)


def _literal(text: str) -> str:
    """``text`` with dollar signs escaped, which matplotlib would read as mathematics; labels cannot opt out."""
    return text.replace("$", r"\$")


def _separated(instances: np.ndarray) -> np.ndarray:
    """The objects of an instance map as a mask, with a line of background between those that touch."""
    mask = instances > 0
    for axis in (0, 1):
        here, there = (np.delete(instances, place, axis) for place in (-1, 0))
        touching = (here != there) & (here > 0) & (there > 0)
        mask[tuple(slice(0, n) for n in touching.shape)][touching] = False
    return mask


def _outline(axes: Axes, mask: np.ndarray, colour: str, width: float) -> None:
    """Contour of a mask, or of every object of an instance map, with a thin dark edge; around small objects, which that
    would fill, thin and plain."""
    mask = _separated(np.asarray(mask))
    if not mask.any():
        return
    # A frame of background closes the contours of what touches the edge of the image.
    padded = np.pad(mask, 1).astype(float)
    height, breadth = padded.shape
    # Mean breadth of what is outlined, in points of the printed panel.
    runs = np.abs(np.diff(padded, axis=1)).sum() / 2
    points = mask.sum() / runs * axes.get_position().width * axes.figure.get_figwidth() * 72 / mask.shape[1]
    scale = float(np.clip(points / 14, 0.55, 1.0))
    width *= scale
    x, y = np.arange(breadth) - 1, np.arange(height) - 1
    lines = axes.contour(x, y, padded, [0.5], colors=[colour], linewidths=width)
    if scale > 0.75:
        lines.set_path_effects([Stroke(linewidth=width + 0.7, foreground="black", alpha=0.55), Normal()])
    axes.set_xlim(-0.5, breadth - 2.5)
    axes.set_ylim(height - 2.5, -0.5)


def segmentation_panel(
    cases: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
    *,
    score_name: str = "Dice",
    panels_per_line: int = 6,
) -> None:
    """Segmentations of some cases: image, reference, then one panel per setting, a row for each case.

    Args:
        cases: mappings ``{"case": str, "image": HxW or 3xHxW in [-1, 1], "truth": HxW,
            "predictions": {setting: HxW}, "scores": {setting: float}}``. Masks are bool, or instance maps whose
            objects are outlined each. Settings are in the order of
            the table; one that a case lacks leaves an empty place, a missing score a dash.
        path: PNG file to write.
        score_name: what the scores are.
        panels_per_line: cases with more panels go over several lines, to stay legible.

    Raises:
        ValueError: an image or mask has the wrong shape.
    """
    if not cases:
        _placeholder("no cases", path)
        return
    settings = order_settings({"settings": {s: {} for case in cases for s in case.get("predictions") or {}}})
    count = 2 + len(settings)
    lines = math.ceil(count / max(panels_per_line, 2))
    across = math.ceil(count / lines)
    sizes = []
    for case in cases:
        sizes.append(np.shape(case["image"])[-2:])
        for name, mask in {"reference": case["truth"], **(case.get("predictions") or {})}.items():
            if mask is not None and np.shape(mask) != sizes[-1]:
                raise ValueError(f"case '{case['case']}': {name} has shape {np.shape(mask)}, the image {sizes[-1]}")

    panel, gap, caption, title, block_gap, foot = 1.62, 0.07, 0.42, 0.27, 0.1, 0.32
    talls = [panel * height / width for height, width in sizes]
    figure = Figure(
        figsize=(
            across * panel + (across - 1) * gap,
            sum(lines * (tall + caption) + title for tall in talls) + (len(cases) - 1) * block_gap + foot,
        )
    )
    top = 0.0
    for case, tall in zip(cases, talls, strict=True):
        _text(figure, 0.0, top + title - 0.08, f"Case {case['case']}", va="bottom", fontsize=11, weight="bold")
        top += title
        picture = _image_rgb(case["image"])
        for number, name in enumerate(["image", "reference", *settings]):
            line, column = divmod(number, across)
            left, above = column * (panel + gap), top + line * (tall + caption)
            axes = _axes(figure, left, above, panel, tall)
            first, second = name, ""
            if name in settings:
                mask = (case.get("predictions") or {}).get(name)
                score = as_number((case.get("scores") or {}).get(name))
                first = display_name(name)
                second = f"{score_name} " + ("–" if math.isnan(score) else f"{score:.2f}")
                _draw(axes, None if mask is None else picture, "no result")
                if mask is not None:
                    # The reference is the wider line: where both agree it still shows on either side.
                    _outline(axes, case["truth"], TRUTH_COLOUR, REFERENCE_WIDTH)
                    _outline(axes, mask, PREDICTION_COLOUR, PREDICTION_WIDTH)
            else:
                _draw(axes, picture)
                if name == "reference":
                    _outline(axes, case["truth"], TRUTH_COLOUR, REFERENCE_WIDTH)
            style = {"ha": "center", "va": "top", "fontsize": 9.5}
            _text(figure, left + panel / 2, above + tall + 0.045, textwrap.shorten(first, 24, placeholder="…"), **style)
            _text(figure, left + panel / 2, above + tall + 0.2, second, **{**style, "color": MUTED})
        top += lines * (tall + caption) + block_gap
    handles = [
        Patch(facecolor=TRUTH_COLOUR, edgecolor=INK, linewidth=0.6, label="reference"),
        Patch(facecolor=PREDICTION_COLOUR, edgecolor=INK, linewidth=0.6, label="segmented"),
    ]
    figure.legend(handles=handles, loc="lower center", ncols=2, frameon=False, fontsize=10.5)
    _save(figure, path)


def _case_means(entry: Any) -> list[float]:
    """One value per case: the mean over its seeds (NaN where a seed has none)."""
    per_case = (entry.get("per_case") if isinstance(entry, Mapping) else None) or {}
    means = []
    for values in per_case.values():
        values = values if isinstance(values, Sequence) else [values]
        numbers = [as_number(value) for value in values]
        means.append(sum(numbers) / len(numbers) if numbers else math.nan)
    return means


def metric_boxplot(results: Mapping[str, Any], metric: str, path: str | os.PathLike[str]) -> None:
    """Distribution of one metric over the test cases, a box per setting with its cases as points.

    Args:
        results: contents of results.json; of every setting ``[metric]["per_case"]`` is read,
            ``{case: [value per seed]}``, and averaged over seeds. Settings without it are left out; so are
            values that are not finite, and the figure says how many.
        metric: name of the metric, such as ``"dice"``.
        path: PNG file to write.
    """
    blocks = results.get("settings") or {}
    found = {setting: _case_means((blocks[setting] or {}).get(metric)) for setting in order_settings(results)}
    values = {s: [v for v in means if math.isfinite(v)] for s, means in found.items()}
    values = {setting: numbers for setting, numbers in values.items() if numbers}
    left_out = {setting: sum(not math.isfinite(v) for v in found[setting]) for setting in found}
    if not values:
        _placeholder(f"no {get_metric(metric).label} per case", path)
        return
    colours = {"real_all": PALETTE[0], "real_subset": PALETTE[5], "syn_all": PALETTE[1], "asyndgan": PALETTE[2]}
    figure = Figure(figsize=(8.2, 0.95 + 0.46 * len(values)), layout="constrained")
    axes = figure.subplots()
    jitter = np.random.default_rng(0)
    names = []
    for place, (setting, numbers) in enumerate(values.items()):
        kind = setting.partition("/")[0]
        colour = colours.get(kind, MUTED)
        style = {"color": INK, "linewidth": 1.0}
        axes.boxplot(
            [numbers],
            positions=[place],
            orientation="horizontal",
            widths=0.56,
            showfliers=False,
            patch_artist=True,
            boxprops={"facecolor": (*to_rgb(colour), 0.28), "edgecolor": INK, "linewidth": 1.0},
            medianprops={"color": INK, "linewidth": 2.0},
            whiskerprops=style,
            capprops=style,
        )
        offsets = jitter.uniform(-0.17, 0.17, len(numbers))
        axes.plot(numbers, place + offsets, "o", markersize=4, color=colour, markeredgecolor=INK, markeredgewidth=0.4)
        left = left_out[setting]
        names.append(_literal(display_name(setting)) + (f" ({left} left out)" if left else ""))
    axes.set_yticks(range(len(values)), names)
    axes.set_ylim(len(values) - 0.45, -0.55)
    if metric in ("dice", "aji", "sensitivity"):
        # Small differences should not look large: such a score is shown from 0 to 1.
        axes.set_xlim(-0.02, 1.02)
    label = get_metric(metric, results)
    hint = f", {label.better} is better" if label.better else ""
    cases = max(len(means) for means in found.values())
    axes.set_xlabel(
        _literal(
            f"{label.label}{f' ({label.unit})' if label.unit else ''} of {cases} test case{'s' * (cases != 1)}{hint}"
        ),
        fontsize=10.5,
        color=INK,
    )
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=10.5, colors=INK)
    axes.tick_params(axis="x", labelsize=9.5, colors=MUTED)
    _save(figure, path)
