"""What do released conditions reveal alone? Subcommand ``conditions`` of scripts/audit_privacy.py."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from scripts import audited_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    audited_run.add_arguments(parser)
    parser.add_argument("--masks", type=int, default=8, help="known of every patient at most (default 8)")


def run(options: argparse.Namespace) -> int:
    from bundle.audit.condition_audit import audit_conditions
    from bundle.files import write_json
    from bundle.report.reidentification import reidentification_figure

    target = audited_run.audited(options)
    workflow, candidates = target.workflow, target.candidates()
    classes = workflow.make("num_classes")
    deform = make_deform(workflow.make("condition_deformation"))
    found = audit_conditions(candidates, deform, classes, per_patient=options.masks, seed=options.seed)
    examples = make_examples(candidates, deform, classes, options.seed)
    has_outline = candidates.conditions.shape[1] > classes
    up = workflow.make("display_y_up")
    reidentification_figure(found, examples, options.output / "conditions.png", has_outline, up)
    write_json(
        options.output / "conditions.json",
        {
            "attack": "conditions",
            "task": options.task,
            "profile": options.profile,
            "set": options.set,
            "release_policies": target.policies,
            "masks_per_patient": options.masks,
        }
        | found,
    )
    for kind, attacks in found["releases"].items():
        for attack, result in attacks.items():
            rates = result["identification"]
            print(
                f"{kind}, {attack}: AUC of membership {result['membership']['auc']:.3f}; re-identified "
                f"{rates['masks']['rate']:.3f} of masks (chance {rates['masks']['chance']:.3f}), "
                f"{rates['patients']['rate']:.3f} of patients"
            )
    print(f"wrote {options.output / 'conditions.json'}")
    return 0


def make_deform(transform: Callable[[dict], dict] | None) -> Callable[[Any, int], Any]:
    """
    A condition X×H×W uint8 and a seed to a deformed one, as a site with deformed conditions releases it.

    Args:
        transform: random MONAI transforms of ``condition`` and ``image``: the task's ``condition_deformation``.

    Raises:
        ValueError: where the task has none.
    """
    import torch

    if transform is None:
        raise ValueError("condition_deformation: expected random transforms, and the task has none")

    def deform(condition: torch.Tensor, seed: int) -> torch.Tensor:
        pair = {"condition": condition, "image": condition[:1].float()}
        moved = transform.set_random_state(seed=seed)(pair)["condition"]
        return torch.as_tensor(moved).as_subclass(torch.Tensor).to(torch.uint8)

    return deform


def make_examples(candidates: Any, deform: Callable, num_classes: int, seed: int, number: int = 4) -> list[tuple]:
    """Of the labelled slice in the middle of some members: known, released real and deformed, X×H×W each."""
    import numpy as np

    from bundle.audit.reidentification import other_reading
    from bundle.seeding import derive_seed

    chosen: dict[str, list[int]] = {}
    for index in np.flatnonzero(candidates.member):
        if candidates.conditions[index][:num_classes].any():
            chosen.setdefault(candidates.patients[index], []).append(index)
    patients = sorted(chosen)
    shown = [patients[i] for i in np.linspace(0, len(patients) - 1, min(number, len(patients))).round().astype(int)]
    found = []
    for patient in shown:
        real = candidates.conditions[chosen[patient][len(chosen[patient]) // 2]]
        own = derive_seed(seed, "example", patient)
        found.append((other_reading(real, own), real, deform(real, own)))
    return found
