"""What audits of a run found, kept in its folder for its report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.files import write_json
from bundle.report import make_report
from bundle.workflows.experiment import ATTACKS_FILE

__all__ = ["as_rows", "record_attacks"]


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
