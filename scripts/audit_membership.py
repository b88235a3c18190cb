"""Can it be told which slices a generator was trained with? Subcommand ``membership`` of scripts/audit_privacy.py."""

from __future__ import annotations

import argparse
from typing import Any

from scripts import audited_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    audited_run.add_arguments(parser)
    audited_run.add_run_arguments(parser, required=True)
    parser.add_argument("--slices", type=int, help="of every patient at most, evenly spaced (default: all)")
    parser.add_argument(
        "--wall_slices", type=int, default=4, help="of every patient to send to a site at most (default 4)"
    )


def run(options: argparse.Namespace) -> int:
    from bundle.audit.membership_audit import audit_membership, summarize
    from bundle.audit.roc import roc_curve
    from bundle.files import write_json
    from bundle.report.membership import membership_figure

    audited = audited_run.audited(options)
    target = make_target(audited)
    candidates = audited.candidates(options.slices)
    attacks = audit_membership(candidates, target, options.wall_slices, options.seed)
    found = summarize(attacks, options.seed)
    content = {
        "attack": "membership",
        "task": options.task,
        "profile": options.profile,
        "setting": options.setting,
        "seed": options.seed,
        "steps": audited.trained,
        "set": options.set,
        "release_policies": audited.policies,
        "slices_per_patient": options.slices,
        "wall_slices_per_patient": options.wall_slices,
        "synthetic_images": 0 if target.synthetic is None else len(target.synthetic),
        "released_conditions": 0 if target.released is None else len(target.released),
        "attacks": found,
    }
    curves = {
        attack.name: roc_curve(attack.scores[attack.candidates.member], attack.scores[~attack.candidates.member])
        for attack in attacks
    }
    membership_figure(curves, found, options.output / "membership.png")
    write_json(options.output / "membership.json", content)
    for name, result in found.items():
        overall = result["overall"]
        low, high = overall["interval"] or (float("nan"), float("nan"))
        line = f"{name}: AUC {overall['auc']:.3f} [{low:.3f}, {high:.3f}], {overall['tpr']:.3f} found at 1 %"
        if "excess" in result:
            low, high = result["excess"]["interval"] or (float("nan"), float("nan"))
            line += f"; over its control {result['excess']['auc']:+.3f} [{low:+.3f}, {high:+.3f}]"
        print(line)
    print(f"wrote {options.output / 'membership.json'}")
    return 0


def make_target(found: audited_run.Audited) -> Any:
    """What a finished training has left, as :class:`bundle.audit.membership_audit.Target`."""
    import numpy as np
    import torch

    from bundle.audit.membership_audit import Target
    from bundle.data import load_datalist
    from bundle.server import read_conditions

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
