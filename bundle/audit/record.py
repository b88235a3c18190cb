"""What audits of a run found, kept in its folder for its report and for the data sheets of what was attacked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bundle.audit.audited_run import Audited
from bundle.files import digest, write_json
from bundle.report import make_report
from bundle.report.statistics import mean_interval
from bundle.sheet import write_data_set_sheet
from bundle.sheet.sources import AUDIT_FILE
from bundle.workflows.experiment import ATTACKS_FILE

__all__ = ["as_rows", "of_conditions", "of_membership", "of_readout", "record_attacks", "record_audit"]


def as_rows(found: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """
    What :func:`bundle.audit.membership_audit.summarize` found, a row for every attack that is no control.

    Returns:
        ``attack``, ``value`` (AUC), ``low`` and ``high`` (95 %, over patients; None for too few), ``chance`` and,
        where it has one, the AUC of its ``control``, with ``excess`` over it and ``excess_interval``.
    """
    controls = {about["control"] for about in found.values() if "control" in about}
    rows = []
    for name, about in found.items():
        if name in controls:
            continue
        low, high = about["overall"]["interval"] or (None, None)
        row = {"attack": name, "value": about["overall"]["auc"], "low": low, "high": high, "chance": 0.5}
        if "control" in about:
            row |= {"control": found[about["control"]]["overall"]["auc"]}
            row |= {"excess": about["excess"]["auc"], "excess_interval": about["excess"]["interval"]}
        rows.append(row)
    return rows


def record_attacks(run_dir: str | Path, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> Path:
    """
    Keep attacks in the folder of a run, in the place of the same attacks before, and in its results and report where
    those are written.

    Args:
        run_dir: folder of the run.
        rows: by setting, see :func:`as_rows`.

    Returns:
        The path of ``attacks.json``.
    """
    path, results = Path(run_dir) / ATTACKS_FILE, Path(run_dir) / "results.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for setting, new in rows.items():
        names = {row["attack"] for row in new}
        known[setting] = [row for row in known.get(setting, []) if row["attack"] not in names] + list(map(dict, new))
    write_json(path, known)
    if results.is_file():
        write_json(results, json.loads(results.read_text(encoding="utf-8")) | {"attacks": known})
        for shareable in (True, False):
            make_report(run_dir, shareable)
    return path


def record_audit(target: Audited, part: str, found: Any) -> str:
    """
    Keep what an attack on a generator has found beside it, for its data sheets, in the place of the same attack before.

    What was attacked under another release policy than the run's says nothing of the run: it is not kept.

    Args:
        target: the training that was attacked.
        part: ``membership``, ``readout`` or ``label_maps``.
        found: of :func:`of_membership`, :func:`of_readout` or :func:`of_conditions`. The sites of a readout come beside
            those that are there.

    Returns:
        What was done, in a sentence.
    """
    record = json.loads((target.run / "gan/record.json").read_text(encoding="utf-8"))
    for site, policy in target.policies.items():
        of_run = (record.get("sites", {}).get(site) or {}).get("policy") or policy
        if of_run != policy:
            return f"not kept for the data sheet: attacked was {site} under {policy!r}, and the run had {of_run!r}"
    path, weights = target.run / "gan" / AUDIT_FILE, digest(target.workflow.make("generator_path"))
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    before = known.get(part, {})
    if part == "readout" and before.get("weights_sha256") == weights:
        found = {**before["found"], **found}
    write_json(path, known | {part: {"weights_sha256": weights, "found": found}})
    return f"kept for the data sheets: {write_data_set_sheet(target.run) or path}"


def of_membership(found: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For a data sheet, what :func:`bundle.audit.membership_audit.summarize` found."""
    return [
        {
            "attack": row["attack"],
            "auc": row["value"],
            "interval": None if row["low"] is None else [row["low"], row["high"]],
            **{name: row.get(name) for name in ("control", "excess", "excess_interval")},
        }
        for row in as_rows(found)
    ]


def of_readout(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """For a data sheet, what ``readout.json`` holds: gains in dB, with intervals over cases, and no case's name."""
    losses: dict[str, Any] = {}
    for name, result in content["losses"].items():
        if "refused" in result:
            losses[name] = {"refused": result["refused"]}
            continue
        gains = {
            choice: {
                "gain": result["gain"][of],
                "interval": _over_cases(result[of], content["reference"], content["cases"]),
            }
            for choice, of in (("own", "own"), ("best", "oracle"))
        }
        losses[name] = {"refused": "", **gains}
    return {content["site"]: {"policy": content["release_policy"], "images": content["images"], "losses": losses}}


def of_conditions(content: Mapping[str, Any], kinds: Sequence[str]) -> dict[str, dict[str, Any]]:
    """
    For a data sheet, what ``conditions.json`` holds.

    Args:
        content: of the file.
        kinds: of conditions that the sites release: ``real``, ``deformed``, ``public``.
    """
    return {
        kind: {
            attack: {
                "membership": result["membership"]["auc"],
                "interval": result["membership"]["interval"],
                "re_identified": result["identification"]["patients"]["rate"],
                "re_identified_interval": result["identification"]["patients"]["interval"],
                "by_chance": result["identification"]["patients"]["chance"],
            }
            for attack, result in attacks.items()
        }
        for kind, attacks in content["releases"].items()
        if kind in kinds
    }


def _over_cases(
    score: Mapping[str, Any] | None, reference: Sequence[float], cases: Sequence[str]
) -> list[float] | None:
    """Interval of the mean over images of what they have over the reference; images of a case stay together."""
    if score is None:
        return None
    gains = [mine - theirs for mine, theirs in zip(score["psnr_each"], reference, strict=True)]
    names = list(dict.fromkeys(cases))
    sums = [sum(gain for gain, case in zip(gains, cases, strict=True) if case == name) for name in names]
    return mean_interval(np.array(sums), np.array([float(cases.count(name)) for name in names]))
