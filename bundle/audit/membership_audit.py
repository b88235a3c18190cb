"""All attacks of membership inference on one finished training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bundle.audit.candidates import Candidates
from bundle.audit.membership import (
    box_average,
    discriminator_scores,
    left_out_patients,
    nearest_distances,
    reconstruction_errors,
    shifted_errors,
)
from bundle.audit.membership_queries import wall_scores
from bundle.audit.reidentification import nearest_release
from bundle.audit.roc import discrimination, excess
from bundle.site.site import Site

__all__ = ["CONTROL", "CONTROLS", "SEGMENTER", "Attack", "Target", "audit_membership", "summarize"]

CONTROL = "control"
"""First word of attacks that cannot know of membership: what they find is the difference between the patients."""

SEGMENTER = "loss of the segmenter"
"""The attack on a segmenter (:mod:`bundle.audit.segmenter_audit`)."""

CONTROLS = {
    SEGMENTER: f"{CONTROL}, untrained segmenter",
    "reconstruction": f"{CONTROL}, untrained generator",
    "reconstruction, calibrated": f"{CONTROL}, untrained generator, calibrated",
    "discriminator": f"{CONTROL}, untrained discriminator",
    "nearest": f"{CONTROL}, nearest real image of others",
    "nearest at 32×32": f"{CONTROL}, nearest real image of others at 32×32",
}
"""Of an attack, the control that is the same attack without what the training has made."""


@dataclass(frozen=True, eq=False)
class Target:
    """
    What is attacked.

    Attributes:
        generate: G, conditions B×X×H×W to images B×C×H×W in [-1, 1].
        sites: trained sites by name, on the CPU.
        synthetic: the released synthetic images M×C×H×W; None where there are none.
        released: the conditions N×X×H×W that the server has kept; None where there are none.
        untrained_generate, untrained_discriminators: the same with the weights that the training began with.
        num_steps: of the training; None where that is not known.
    """

    generate: Callable[[torch.Tensor], torch.Tensor]
    sites: Mapping[str, Site]
    synthetic: torch.Tensor | None
    released: torch.Tensor | None
    untrained_generate: Callable[[torch.Tensor], torch.Tensor]
    untrained_discriminators: Mapping[str, torch.nn.Module]
    num_steps: int | None = None


@dataclass(frozen=True, eq=False)
class Attack:
    """The N scores of an attack, and of which candidates they are."""

    name: str
    scores: np.ndarray
    candidates: Candidates


def audit_membership(
    candidates: Candidates, target: Target, wall_slices: int | None = 4, seed: int = 0, shift: int = 4
) -> list[Attack]:
    """
    Args:
        candidates: members and non-members, whose patients are references for each other's calibration.
        target: what is attacked.
        wall_slices: slices of every patient that are sent to a site, at most; each costs a step of the site. None: all.
        seed: of which patients are left out of the references.
        shift: pixels of the calibration of reconstruction.

    Returns:
        The attacks, controls last. Through what is not there nothing is attacked.

    Raises:
        ValueError: for candidates of one kind only, or of other shapes than what is released.
    """
    if candidates.member.all() or not candidates.member.any():
        raise ValueError("expected members and non-members among the candidates, got one kind only")
    images, conditions = candidates.images, candidates.conditions
    error = reconstruction_errors(images, conditions, target.generate)
    moved = shifted_errors(images, conditions, target.generate, shift)
    untrained = reconstruction_errors(images, conditions, target.untrained_generate)
    untrained_moved = shifted_errors(images, conditions, target.untrained_generate, shift)
    networks = {name: site.critic.discriminator for name, site in target.sites.items()}
    found = {} if target.released is None else {"released conditions": _nearest_condition(candidates, target.released)}
    distances = _distances(candidates, target.synthetic, seed)
    found |= {name: score for name, score in distances.items() if not name.startswith(CONTROL)}
    found |= {"reconstruction": -error, "reconstruction, calibrated": moved - error}
    found["discriminator"] = discriminator_scores(candidates, networks)
    attacks = [Attack(name, scores, candidates) for name, scores in found.items()]
    asked = candidates.spread(wall_slices)
    walls = wall_scores(asked, dict(target.sites), target.num_steps)
    attacks += [Attack(f"wall, {name}", scores, asked) for name, scores in walls.items()]
    controls = {name: score for name, score in distances.items() if name.startswith(CONTROL)}
    controls[f"{CONTROL}, untrained generator"] = -untrained
    controls[f"{CONTROL}, untrained generator, calibrated"] = untrained_moved - untrained
    controls[f"{CONTROL}, untrained discriminator"] = discriminator_scores(candidates, target.untrained_discriminators)
    return attacks + [Attack(name, scores, candidates) for name, scores in controls.items()]


def summarize(attacks: list[Attack], seed: int = 0) -> dict[str, Any]:
    """
    By name of the attack: :func:`discrimination` ``overall`` and by site, under ``sites``; for JSON. Where an attack
    has a control (:data:`CONTROLS`) its name as ``control``, and under ``excess`` :func:`excess` over it.

    ``overall`` and ``excess`` compare members with non-members of the same site, at the sites that have both: at
    another site there is another scanner, which a generator learns and which is no patient's secret. Only where no site
    has both are all compared; ``within_sites`` says which it was.
    """
    found: dict[str, dict[str, Any]] = {}
    by_name = {attack.name: attack for attack in attacks}
    for attack in attacks:
        member, sites = attack.candidates.member, np.asarray(attack.candidates.sites)
        patients = np.asarray(attack.candidates.patients)
        both = np.isin(sites, np.intersect1d(sites[member], sites[~member]))
        within = bool(both.any())
        compared = both if within else np.ones_like(member)
        of = member[compared], patients[compared]
        strata = sites[compared] if within else None
        found[attack.name] = {
            "overall": discrimination(attack.scores[compared], *of, seed=seed, strata=strata),
            "within_sites": within,
            "sites": {
                str(site): discrimination(attack.scores[own], member[own], patients[own], seed=seed)
                for site in np.unique(sites)
                for own in [sites == site]
            },
        }
        if control := by_name.get(CONTROLS.get(attack.name, "")):
            over = excess(attack.scores[compared], control.scores[compared], *of, seed=seed, strata=strata)
            found[attack.name] |= {"control": control.name, "excess": over}
    return found


def _distances(candidates: Candidates, synthetic: torch.Tensor | None, seed: int) -> dict[str, np.ndarray]:
    """Nearest neighbours at full size and averaged over boxes: plain, calibrated, and the calibration alone."""
    outsiders = np.flatnonzero(~candidates.member)
    of = [candidates.patients[i] for i in outsiders]
    left_out = left_out_patients(candidates, seed)
    found = {}
    for suffix, smaller in (("", lambda images: images), (" at 32×32", box_average)):
        ours = smaller(candidates.images)
        reference = nearest_distances(ours, ours[outsiders], left_out, of)
        found[f"{CONTROL}, nearest real image of others{suffix}"] = -reference
        if synthetic is not None:
            distance = nearest_distances(ours, smaller(synthetic))
            found |= {f"nearest{suffix}": -distance, f"nearest{suffix}, calibrated": reference - distance}
    return found


def _nearest_condition(candidates: Candidates, released: torch.Tensor) -> np.ndarray:
    """Somebody who knows the very mask of a slice looks for it: the highest Dice of any released condition."""
    return nearest_release(candidates.conditions, released)[0]
