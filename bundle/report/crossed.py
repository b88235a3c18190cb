"""Table: what crossed between the hospitals and the server, and what attacks make of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .display_names import display_name
from .formats import DASH, as_number, format_count, human_bytes
from .scores import block, settings_of
from .table import Row, Table

__all__ = ["crossed_table", "kinds_from_sites"]

_OF_RUN = "--task TASK --dataset_dir DIR --run_dir RUN_DIR"
_SEGMENTERS = f"asyndgan audit segmenters {_OF_RUN}"
AUDITS = {"asyndgan": f"asyndgan audit membership {_OF_RUN} --output DIR", "fedavg": _SEGMENTERS}
"""The command that attacks what was trained in a setting."""
HEADINGS = ("Method", "To hospitals", "From hospitals", "Bytes to", "Bytes from", "Exchanges")
ATTACKED = ("Membership AUC", "Control / chance", "Strongest attack")
UNMEASURED = "not measured in this run"


def crossed_table(results: Mapping[str, Any]) -> Table:
    """
    A row for AsynDGAN and for every federated averaging.

    Args:
        results: contents of results.json: ``wire`` and ``policy`` of AsynDGAN's training; ``averaging``, by setting
            ``rounds``, ``local_steps``, ``bytes_to_sites``, ``bytes_from_sites`` and ``proximal_mu``; ``attacks``, by
            setting rows of ``attack``, ``value`` (AUC), ``low``, ``high``, ``chance``, ``control``. Any of them may be
            missing.
    """
    rows, missing = [], []
    averaging = block(results, "averaging")
    known = [s for s in ("asyndgan", "fedavg", "fedprox") if s in averaging or settings_of(results, (s,))]
    for setting in known:
        cells = _asyndgan(results) if setting == "asyndgan" else _averaging(block(averaging, setting))
        strongest = _strongest(block(results, "attacks").get(setting))
        if not strongest:
            missing.append(setting)
        rows.append(Row(_name(results, setting), (*cells, *(strongest or (UNMEASURED, DASH, DASH))), setting))
    notes = [f"Not measured in this run; {AUDITS[s]} does, for {display_name(s)}." for s in missing if s in AUDITS]
    if len(missing) < len(known):
        notes.insert(
            0,
            "Membership: can an attacker tell whose images were trained on? AUC with its 95 % interval; of several "
            "attacks the strongest. The control is the same attack on what the training has not touched.",
        )
    return Table("", (*HEADINGS, *ATTACKED), tuple(rows), tuple(notes))


def kinds_from_sites(policy: str | None) -> str:
    """
    What leaves the hospitals in AsynDGAN's training, under a policy as results.json tells it: ``"guarded"``,
    ``"private (epsilon 4)"``, or ``"A: guarded; B: private (epsilon 4)"``.
    """
    parts = [part.rpartition(": ")[2].strip() for part in (policy or "").split(";")]
    private = [part.startswith("private") for part in parts]
    without_maps = [
        "conditions public" in part or (of and "conditions " not in part)
        for part, of in zip(parts, private, strict=True)
    ]
    without_losses = [
        "scalar_losses False" in part or (of and "scalar_losses " not in part)
        for part, of in zip(parts, private, strict=True)
    ]
    alike = (kind for kind in ("deformed", "drawn") if all(f"conditions {kind}" in part for part in parts))
    maps = " ".join([*alike, "label maps"])
    taught = ["teacher True" in part or ("out_of_fold" in part and "teacher False" not in part) for part in parts]
    no_images = [of or not has for has, of in zip(taught, private, strict=True)]
    no_weights = [not (of and has) for has, of in zip(taught, private, strict=True)]
    kinds = [
        _unless(maps, without_maps),
        _unless("teachers' images", no_images),
        _unless("teachers' weights with noise", no_weights),
        "image gradients",
        _unless("losses", without_losses),
    ]
    return ", ".join(filter(None, kinds))


def _unless(kind: str, withheld: Sequence[bool]) -> str:
    return "" if all(withheld) else f"{kind} (of some)" if any(withheld) else kind


def _name(results: Mapping[str, Any], setting: str) -> str:
    if setting == "asyndgan" and results.get("policy"):
        return f"AsynDGAN, {results['policy']}"
    mu = as_number(block(block(results, "averaging"), setting).get("proximal_mu"))
    return f"{display_name(setting)}, μ {mu:g}" if mu > 0 else display_name(setting)


def _asyndgan(results: Mapping[str, Any]) -> tuple[str, ...]:
    wire, policy = block(results, "wire"), results.get("policy")
    steps = format_count(wire.get("steps"))
    exchanges = f"{steps} steps" if steps != DASH else DASH
    kinds = kinds_from_sites(None if policy is None else str(policy))
    return ("synthetic images", kinds, *_bytes(wire), exchanges)


def _averaging(of: Mapping[str, Any]) -> tuple[str, ...]:
    rounds, steps = format_count(of.get("rounds")), format_count(of.get("local_steps"))
    exchanges = DASH if rounds == DASH else f"{rounds} rounds" + (f" of {steps} steps" if steps != DASH else "")
    return ("weights", "weights", *_bytes(of), exchanges)


def _bytes(of: Mapping[str, Any]) -> tuple[str, str]:
    return human_bytes(of.get("bytes_to_sites")), human_bytes(of.get("bytes_from_sites"))


def _strongest(rows: Any) -> tuple[str, ...] | None:
    """Of a setting's attacks the one with the largest AUC, as cells; None without any."""
    found = [r for r in rows if isinstance(r, Mapping) and as_number(r.get("value")) >= 0] if rows else []
    if not found:
        return None
    row = max(found, key=lambda row: as_number(row["value"]))
    value, low, high = (as_number(row.get(key)) for key in ("value", "low", "high"))
    ends = f" ({low:.2f} to {high:.2f})" if low <= high else ""
    others = [format(n, ".2f") if (n := as_number(row.get(key))) == n else DASH for key in ("control", "chance")]
    return (f"{value:.2f}{ends}", " / ".join(others), str(row.get("attack") or DASH))
