"""Table and figure: what release policies cost, against what attacks gain under them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from .display_names import get_metric
from .drawing import INK, MUTED, PALETTE, RULE, literal, save_figure
from .formats import as_number, human_bytes
from .scores import key_metric, mean_and_std, seed_count

__all__ = ["price_figure", "price_row", "price_table"]

CONTROL = "control"
CONDITIONS = "released conditions"  # the membership of whoever's very mask is known: said by the label maps themselves
SETTING = "asyndgan"


def price_row(
    results: Mapping[str, Any], readout: Mapping[str, Any] | None = None, membership: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """
    What one policy costs and lets through.

    Args:
        results: contents of the run's results.json; the setting AsynDGAN is read.
        readout: readout.json of ``asyndgan audit readout``, on this run or with the same losses; None where
            there is none. Of its losses those that were refused are left out, and the one with the largest gain counts.
        membership: membership.json; the attack with the largest AUC counts, without controls and without that on the
            released label maps, which is a column of its own.

    Returns:
        ``policy``, ``losses``, ``steps``, ``metric``, ``mean``, ``std`` (None for one seed), ``seeds``, ``bytes``;
        ``readout_loss``, ``readout_gain`` in dB (the attacker's ``own`` choice and the ``oracle``'s), ``readout_psnr``
        of the oracle's; ``auc``, ``auc_interval``, ``auc_attack``, ``conditions_auc``.

    Raises:
        ValueError: when the run has no scores of AsynDGAN.
    """
    key = key_metric(results)
    if key is None or SETTING not in results.get("settings", {}):
        raise ValueError("expected results of a run with scores of AsynDGAN")
    mean, std = mean_and_std(results, SETTING, key)
    wire = results.get("wire") or {}
    row = {
        "policy": results.get("policy", "not stated"),
        "losses": results.get("losses", "not stated"),
        "steps": as_number((results.get("train") or {}).get(SETTING, {}).get("steps")),
        "metric": key,
        "mean": mean,
        "std": std if math.isfinite(std) else None,
        "seeds": seed_count(results),
        "bytes": wire.get("bytes_to_sites", 0) + wire.get("bytes_from_sites", 0),
    }
    attacked = {n: a for n, a in (readout or {}).get("losses", {}).items() if "refused" not in a and a.get("oracle")}
    if attacked:
        name, worst = max(attacked.items(), key=lambda item: item[1]["gain"]["oracle"])
        row |= {"readout_loss": name, "readout_gain": worst["gain"], "readout_psnr": worst["oracle"]["psnr"]}
    attacks = {n: a["overall"] for n, a in (membership or {}).get("attacks", {}).items() if not n.startswith(CONTROL)}
    if CONDITIONS in attacks:
        row["conditions_auc"] = attacks.pop(CONDITIONS)["auc"]
    if attacks:
        name, worst = max(attacks.items(), key=lambda item: item[1]["auc"])
        row |= {"auc_attack": name, "auc": worst["auc"], "auc_interval": worst["interval"]}
    return row


def price_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """
    The rows as a table in Markdown; ratios are to the first row. Ends with a newline.

    Args:
        rows: of :func:`price_row`.
    """
    label = get_metric(rows[0]["metric"]).label
    headings = ["Release policy", "Loss", "Steps", label, f"{label} / first row", "Readout gain (dB)"]
    headings += ["Membership AUC", "AUC by mask", "Bytes"]
    lines = [headings, ["---", "---", *["---:"] * 7]]
    for row in rows:
        spread = "" if row["std"] is None else f" ± {row['std']:.3f}"
        gain = row.get("readout_gain")
        low, high = row.get("auc_interval") or (math.nan, math.nan)
        lines.append(
            [
                row["policy"],
                row["losses"],
                f"{row['steps']:.0f}",
                f"{row['mean']:.3f}{spread}",
                f"{row['mean'] / rows[0]['mean']:.3f}",
                "–" if gain is None else f"{gain['oracle']:+.1f}",
                "–" if "auc" not in row else f"{row['auc']:.2f} ({low:.2f} to {high:.2f}), {row['auc_attack']}",
                f"{row['conditions_auc']:.2f}" if "conditions_auc" in row else "–",
                human_bytes(row["bytes"]),
            ]
        )
    seeds = sorted({row["seeds"] for row in rows})
    note = (
        f"{' or '.join(map(str, seeds))} seed{'s' * (seeds != [1])}. Readout gain: of the strongest attack that the "
        "policy lets ask, with the truth to choose its best guess by, over the better of another patient's slice and "
        "G(x). Membership: the attack with the largest AUC, 95 % bootstrapped over patients; by mask: of somebody who "
        "knows the very label map and looks for it among those that were released."
    )
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"{table}\n\n{note}\n"


def price_figure(rows: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """
    Usefulness against leakage, a point for each row: readout on the left, membership on the right. What was not
    attacked is left out.

    Args:
        rows: of :func:`price_row`.
        path: PNG file to write.
    """
    label = get_metric(rows[0]["metric"]).label
    figure = Figure(figsize=(8.4, 3.9), layout="constrained")
    panels = (
        ("readout_gain", "what readout gains over what needs no attack (dB)", 1.0, "1 dB"),
        ("auc", "membership, AUC of the strongest attack", 0.5, "chance"),
    )
    for axes, (key, title, line, name) in zip(figure.subplots(1, 2, sharey=True), panels, strict=True):
        axes.axvline(line, color=RULE, linewidth=1.2, zorder=0)
        axes.annotate(name, (line, 1), xycoords=("data", "axes fraction"), color=MUTED, fontsize=8, va="bottom")
        for place, row in enumerate(rows):
            if key not in row:
                continue
            across = max(row[key]["oracle"], 0.0) if key == "readout_gain" else row[key]
            style = {"color": PALETTE[place % len(PALETTE)], "markeredgecolor": INK, "markersize": 7}
            if key == "auc" and row.get("auc_interval"):
                axes.plot(row["auc_interval"], [row["mean"]] * 2, color=style["color"], linewidth=1.2)
            axes.errorbar(across, row["mean"], yerr=row["std"] or 0, fmt="o", label=literal(row["policy"]), **style)
        axes.set_xlabel(title, color=INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.12, y=0.15)
    left, right = figure.axes
    left.set_ylabel(f"{label} of AsynDGAN", color=INK)
    handles = {
        name: handle for axes in (left, right) for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    save_figure(figure, path)
