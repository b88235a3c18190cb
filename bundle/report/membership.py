"""Figure: how well attacks tell what a generator was trained with from what it was not."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .drawing import INK, MUTED, PALETTE, RULE, literal, save_figure

_DASHES = ("-", "--", ":", "-.", (0, (7, 2, 1, 2, 1, 2)))


def membership_figure(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]], results: Mapping[str, Any], path: str | os.PathLike[str]
) -> None:
    """ROC curves on linear axes and, for low rates, on logarithmic ones, with the diagonal of chance and the rate of
    false positives at which attacks are compared. Attacks of a family, the words before a comma, share a colour;
    ``control`` is grey.

    Args:
        curves: false- and true-positive rates, from 0 to 1, by name of the attack.
        results: by the same names ``overall`` of :func:`bundle.audit.membership_audit.summarize`.
        path: PNG file to write.
    """
    figure = Figure(figsize=(11.5, 6.6), layout="constrained")
    linear, logarithmic = figure.subplots(1, 2)
    overall = {name: results[name]["overall"] for name in curves}
    fewest = min(entry["nonmember_slices"] for entry in overall.values())
    least = 0.5 / max(entry["nonmember_slices"] for entry in overall.values())
    styles = _styles(list(curves))
    for axes in (linear, logarithmic):
        diagonal = np.geomspace(least, 1, 200)
        axes.plot(diagonal, diagonal, color=RULE, linewidth=1.5, zorder=0, label="_chance")
        axes.axvline(next(iter(overall.values()))["fpr"], color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)))
        for name, (fpr, tpr) in curves.items():
            axes.plot(fpr, tpr, linewidth=1.6, label=_entry(name, overall[name]), **styles[name])
        _furnish(axes)
    linear.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    logarithmic.set(xscale="log", yscale="log", xlim=(least, 1.05), ylim=(least, 1.05))
    rate = next(iter(overall.values()))["fpr"]
    if rate >= least:  # with few held-out slices it lies off the axes
        style = {"fontsize": 9, "color": MUTED, "ha": "left", "va": "bottom", "parse_math": False}
        logarithmic.text(rate * 1.06, least * 1.3, f"{rate:.0%}", **style)
    linear.set_title(f"members against {fewest} to {round(0.5 / least)} slices of held-out patients", fontsize=10.5)
    logarithmic.set_title("the same at low rates", fontsize=10.5)
    handles, labels = linear.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    save_figure(figure, path)


def _styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    families = list(dict.fromkeys(name.partition(",")[0].partition(" at ")[0] for name in names))
    coloured = [family for family in families if family != "control"]
    seen = dict.fromkeys(families, 0)
    styles = {}
    for name in names:
        family = name.partition(",")[0].partition(" at ")[0]
        colour = MUTED if family == "control" else PALETTE[coloured.index(family) % len(PALETTE)]
        styles[name] = {"color": colour, "linestyle": _DASHES[seen[family] % len(_DASHES)]}
        seen[family] += 1
    return styles


def _entry(name: str, overall: Mapping[str, Any]) -> str:
    ends = "no interval" if overall["interval"] is None else "{:.2f} to {:.2f}".format(*overall["interval"])
    return literal(f"{name}: AUC {overall['auc']:.2f} ({ends})")


def _furnish(axes: Axes) -> None:
    axes.set_xlabel("false positives, share of held-out slices", fontsize=10, color=INK)
    axes.set_ylabel("true positives, share of members", fontsize=10, color=INK)
    axes.grid(color=RULE, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9, colors=MUTED)
