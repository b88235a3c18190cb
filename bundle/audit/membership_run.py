"""Can it be told which slices a generator was trained with?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bundle.audit.audited_run import Audited
from bundle.audit.membership_audit import Target, audit_membership, summarize
from bundle.audit.roc import roc_curve
from bundle.data import load_datalist
from bundle.files import write_json
from bundle.report.membership import membership_figure
from bundle.server import read_conditions

__all__ = ["run_membership"]


def run_membership(
    audited: Audited,
    output: Path,
    about: Mapping[str, Any],
    slices: int | None = None,
    wall_slices: int = 4,
    seed: int = 0,
) -> Path:
    """
    Attack what a finished training has left, and write what was found.

    Args:
        audited: the training.
        output: folder for ``membership.json`` and ``membership.png``.
        about: what else the results say of the training.
        slices: of every patient at most, evenly spaced; None for all.
        wall_slices: of every patient to send to a site at most.
        seed: of what the attacks draw.

    Returns:
        The path of ``membership.json``.
    """
    target = make_target(audited)
    candidates = audited.candidates(slices)
    attacks = audit_membership(candidates, target, wall_slices, seed)
    found = summarize(attacks, seed)
    content = {
        "attack": "membership",
        **about,
        "seed": seed,
        "steps": audited.trained,
        "release_policies": audited.policies,
        "slices_per_patient": slices,
        "wall_slices_per_patient": wall_slices,
        "synthetic_images": 0 if target.synthetic is None else len(target.synthetic),
        "released_conditions": 0 if target.released is None else len(target.released),
        "attacks": found,
    }
    curves = {
        attack.name: roc_curve(attack.scores[attack.candidates.member], attack.scores[~attack.candidates.member])
        for attack in attacks
    }
    membership_figure(curves, found, output / "membership.png")
    write_json(output / "membership.json", content)
    for name, result in found.items():
        overall = result["overall"]
        low, high = overall["interval"] or (float("nan"), float("nan"))
        line = f"{name}: AUC {overall['auc']:.3f} [{low:.3f}, {high:.3f}], {overall['tpr']:.3f} found at 1 %"
        if "excess" in result:
            low, high = result["excess"]["interval"] or (float("nan"), float("nan"))
            line += f"; over its control {result['excess']['auc']:+.3f} [{low:+.3f}, {high:+.3f}]"
        print(line)
    return output / "membership.json"


def make_target(found: Audited) -> Target:
    """What a finished training has left."""
    make = found.workflow.make
    synthetic, kept = found.run / "synthetic/datalist.json", found.run / "gan/conditions.npz"
    images = released = None
    if synthetic.is_file():
        made = make("samples_def")(data=load_datalist(synthetic, make("modalities")).training, name="synthetic images")
        images = torch.stack([made[index]["image"] for index in range(len(made))])
    if kept.is_file():
        released = torch.from_numpy(np.stack([one for of in read_conditions(kept).values() for one in of]))
    return Target(
        found.generate(),
        found.sites,
        images,
        released,
        found.generate(found.untrained_generator),
        found.untrained_discriminators,
        make("num_steps"),
    )
