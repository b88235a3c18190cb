"""What do released conditions reveal alone?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bundle.audit.audited_run import Audited
from bundle.audit.candidates import Candidates
from bundle.audit.condition_audit import audit_conditions
from bundle.audit.reidentification import other_reading
from bundle.files import write_json
from bundle.report.reidentification import reidentification_figure
from bundle.seeding import derive_seed
from bundle.transforms import varied

__all__ = ["make_deform", "make_examples", "run_conditions"]


def run_conditions(target: Audited, output: Path, about: Mapping[str, Any], masks: int = 8, seed: int = 0) -> Path:
    """
    Attack the conditions of a training, and write what was found.

    Args:
        target: the training; its networks are not looked at.
        output: folder for ``conditions.json`` and ``conditions.png``.
        about: what else the results say of the training.
        masks: known of every patient at most.
        seed: of what the attacks draw.

    Returns:
        The path of ``conditions.json``.

    Raises:
        ValueError: the task has no ``condition_deformation``.
    """
    workflow, candidates = target.workflow, target.candidates()
    classes = workflow.make("num_classes")
    deform = make_deform(workflow.make("condition_deformation"))
    shapes = workflow.make("shape_model")
    found = audit_conditions(candidates, deform, classes, per_patient=masks, seed=seed, shapes=shapes)
    examples = make_examples(candidates, deform, classes, seed)
    has_outline = candidates.conditions.shape[1] > classes
    up = workflow.make("display_y_up")
    reidentification_figure(found, examples, output / "conditions.png", has_outline, up)
    write_json(
        output / "conditions.json",
        {
            "attack": "conditions",
            **about,
            "release_policies": target.policies,
            "masks_per_patient": masks,
        }
        | found,
    )
    near = ", ".join(f"{kind} {value:.3f}" for kind, value in found["nearest"].items())
    print(f"Dice with the nearest label map of the site's patients: {near}")
    for kind, attacks in found["releases"].items():
        for attack, result in attacks.items():
            rates = result["identification"]
            print(
                f"{kind}, {attack}: AUC of membership {result['membership']['auc']:.3f}; re-identified "
                f"{rates['masks']['rate']:.3f} of masks (chance {rates['masks']['chance']:.3f}), "
                f"{rates['patients']['rate']:.3f} of patients"
            )
    return output / "conditions.json"


def make_deform(transform: Any) -> Callable[[Any, int], Any]:
    """
    A condition X×H×W uint8 and a seed to a deformed one, as a site with deformed conditions releases it.

    Args:
        transform: random MONAI transforms of ``condition`` and ``image``: the task's ``condition_deformation``.

    Raises:
        ValueError: where the task has none.
    """
    if transform is None:
        raise ValueError("condition_deformation: expected random transforms, and the task has none")

    def deform(condition: torch.Tensor, seed: int) -> torch.Tensor:
        pair = {"condition": condition, "image": condition[:1].float()}
        return varied(transform, pair, seed)["condition"].to(torch.uint8)

    return deform


def make_examples(
    candidates: Candidates, deform: Callable, num_classes: int, seed: int, number: int = 4
) -> list[tuple]:
    """Of the labelled slice in the middle of some members: known, released real and deformed, X×H×W each."""
    chosen: dict[str, list[int]] = {}
    for index in np.flatnonzero(candidates.member):
        if candidates.conditions[index][:num_classes].any():
            chosen.setdefault(candidates.patients[index], []).append(int(index))
    patients = sorted(chosen)
    shown = [patients[i] for i in np.linspace(0, len(patients) - 1, min(number, len(patients))).round().astype(int)]
    found = []
    for patient in shown:
        real = candidates.conditions[chosen[patient][len(chosen[patient]) // 2]]
        own = derive_seed(seed, "example", patient)
        found.append((other_reading(real, own), real, deform(real, own)))
    return found
