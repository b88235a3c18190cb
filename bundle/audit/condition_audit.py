"""Whose the released conditions are: released as they are, deformed, drawn anew, or replaced by public masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from bundle.audit.candidates import Candidates
from bundle.audit.reidentification import Search, identification_rates, nearest_release, other_reading
from bundle.audit.roc import discrimination
from bundle.audit.scores import dice_matrix
from bundle.seeding import derive_seed
from bundle.shapes import ShapeModel, TooFewPatients, by_patient, draw_in_place

__all__ = ["ATTACKS", "KINDS", "NotDrawn", "Release", "audit_conditions", "make_release"]

KINDS = ("real", "deformed", "drawn", "public")
ATTACKS = ("as they are", "aligned")


class NotDrawn(ValueError):
    """Conditions that no site could draw: the task has no model of shapes, or a site too few patients for one."""


class Release(NamedTuple):
    """What one site releases: a condition in the place of each of its N samples."""

    conditions: torch.Tensor
    """N×X×H×W uint8 of 0 and 1."""
    patients: tuple[str, ...]
    """N: whose sample the condition stands for."""


def make_release(
    kind: str,
    members: Candidates,
    site: str,
    deform: Callable[[torch.Tensor, int], torch.Tensor],
    seed: int,
    shapes: ShapeModel | None = None,
) -> Release:
    """
    Args:
        kind: one of :data:`KINDS`. ``real``: the site's conditions; ``deformed``: each transformed, from a seed of its
            own; ``drawn``: drawn by statistics of shapes over the site's members; ``public``: masks of nobody at the
            site, drawn without replacement as long as they last: here those of the other sites' members stand for a
            public data set.
        members: those of all sites.
        site: which site.
        deform: a condition X×H×W uint8 and a seed to another one of that shape.
        seed: of the draws.
        shapes: what conditions are drawn by; for ``drawn``.

    Raises:
        ValueError: for an unknown kind, a site without members, ``public`` where there is no other site, or ``drawn``
            without a model or of too few patients (:class:`NotDrawn`).
    """
    if kind not in KINDS:
        raise ValueError(f"release {kind!r}: expected one of {', '.join(KINDS)}")
    own = members.take([i for i, name in enumerate(members.sites) if name == site])
    if not len(own):
        raise ValueError(f"site {site} has no members")
    conditions = own.conditions
    if kind == "deformed":
        conditions = torch.stack([deform(c, derive_seed(seed, "deform", site, i)) for i, c in enumerate(conditions)])
    elif kind == "drawn":
        conditions = _drawn(own, shapes, derive_seed(seed, "drawn", site))
    elif kind == "public":
        others = members.conditions[[i for i, name in enumerate(members.sites) if name != site]]
        if not len(others):
            raise ValueError("public: expected members of a second site, whose masks stand for public ones")
        rng = np.random.default_rng(derive_seed(seed, "public", site))
        laps = [rng.permutation(len(others)) for _ in range(-(-len(own) // len(others)))]
        conditions = others[np.concatenate(laps)[: len(own)]]
    return Release(conditions, own.patients)


def _drawn(own: Candidates, shapes: ShapeModel | None, seed: int) -> torch.Tensor:
    if shapes is None:
        raise NotDrawn("drawn: expected a shape_model, and the task has none")
    try:
        statistics = shapes.fit(by_patient(own.conditions, own.patients))
    except TooFewPatients as error:
        raise NotDrawn(f"drawn: {error}") from error
    drawn = [draw_in_place(shapes, statistics, derive_seed(seed, i), one) for i, one in enumerate(own.conditions)]
    return torch.stack(drawn)


def audit_conditions(
    candidates: Candidates,
    deform: Callable[[torch.Tensor, int], torch.Tensor],
    num_classes: int,
    search: Search | None = None,
    side: int | None = 64,
    per_patient: int | None = 8,
    seed: int = 0,
    shapes: ShapeModel | None = None,
) -> dict[str, Any]:
    """
    Somebody has masks of a patient from elsewhere (:func:`bundle.audit.other_reading`) and everything that
    the patient's hospital released, and asks whether the patient is in it, and which conditions are his.

    Args:
        candidates: members, whose conditions the sites release, and non-members.
        deform: see :func:`make_release`.
        num_classes: channels of a condition that are the label map. Masks are known of slices that have a label.
        search: of the aligned attack; None for the default one.
        side: masks are compared at side×side pixels, averaged and thresholded at 1/2; None for their own size.
        per_patient: masks that are known of a patient, at most, evenly spaced over his slices; None: all.
        seed: of all draws.
        shapes: what conditions are drawn by; None: those that are drawn are not looked at.

    Returns:
        For JSON: ``dice`` of known masks and deformed conditions with the real ones, means over masks; ``nearest``: by
        kind, mean Dice of a released condition with the nearest of its site's patients, and of a patient's own with the
        nearest of another one; ``releases``: by
        kind and attack, ``membership`` (:func:`discrimination` of a patient's mean best Dice; one score a patient) and
        ``identification`` (:func:`identification_rates` of members); ``not_drawn``: why none are drawn; numbers and
        settings.

    Raises:
        ValueError: where members or non-members have no slice with a label.
    """
    search = Search() if search is None else search
    labelled = [i for i, x in enumerate(candidates.conditions) if x[:num_classes].any()]
    true = candidates.take(labelled).spread(per_patient)
    if not len(labelled) or true.member.all() or not true.member.any():
        raise ValueError("expected members and non-members with labelled slices, got none of one of them")
    members = candidates.take(np.flatnonzero(candidates.member).tolist())
    read = [other_reading(x, derive_seed(seed, "reading", p, i)) for i, (x, p) in _numbered(true)]
    known = torch.stack(read)
    sites = sorted(set(members.sites))
    found: dict[str, Any] = {
        "seed": seed,
        "side": side,
        "search": {"angles": search.angles, "scales": search.scales, "mirrored": search.mirrored},
        "known_masks": {"member": int(true.member.sum()), "nonmember": int((~true.member).sum())},
        "released_conditions": {site: members.sites.count(site) for site in sites},
        "dice": {"known masks": _mean_dice(known, true.conditions)},
        "nearest": {"another patient's": _nearest_of_another(members, num_classes, side)},
        "releases": {},
    }
    known = _small(known, side)
    for kind in KINDS:
        try:
            releases = {site: make_release(kind, members, site, deform, seed, shapes) for site in sites}
        except NotDrawn as error:
            found["not_drawn"] = str(error)
            continue
        if kind == "deformed":
            changed = torch.cat([releases[site].conditions for site in sites])
            own = torch.cat([make_release("real", members, site, deform, seed).conditions for site in sites])
            found["dice"]["deformed conditions"] = _mean_dice(changed, own)
        found["nearest"][kind] = _nearest(releases, members, num_classes, side)
        found["releases"][kind] = {
            attack: _attack(true, known, releases, search if attack == "aligned" else None, side, seed)
            for attack in ATTACKS
        }
    return found


def _nearest(releases: dict[str, Release], members: Candidates, num_classes: int, side: int | None) -> float:
    """Mean over released conditions with a label: Dice with the nearest that any patient of their site has."""
    values: list[np.ndarray] = []
    for site, release in releases.items():
        own = members.conditions[[i for i, name in enumerate(members.sites) if name == site]]
        labelled = release.conditions[release.conditions[:, :num_classes].flatten(1).bool().any(dim=1)]
        if len(labelled):
            values.append(nearest_release(_small(labelled, side), _small(own, side))[0])
    return float(np.concatenate(values).mean()) if values else float("nan")


def _nearest_of_another(members: Candidates, num_classes: int, side: int | None) -> float:
    """The same for the patients' own conditions, among those of the other patients of their site."""
    values = []
    for site in set(members.sites):
        own = members.take([i for i, name in enumerate(members.sites) if name == site])
        masks = _small(own.conditions, side)
        same = torch.tensor([[one == other for other in own.patients] for one in own.patients])
        labelled = own.conditions[:, :num_classes].flatten(1).bool().any(dim=1)
        best = torch.where(same, -1.0, dice_matrix(masks, masks)).max(dim=1).values
        values += best[labelled & (best >= 0)].tolist()
    return float(np.mean(values)) if values else float("nan")


def _attack(
    true: Candidates,
    known: torch.Tensor,
    releases: dict[str, Release],
    search: Search | None,
    side: int | None,
    seed: int,
) -> dict[str, Any]:
    scores, named, chance = np.full(len(true), np.nan), [""] * len(true), np.zeros(len(true))
    for site, release in releases.items():
        of = [i for i, name in enumerate(true.sites) if name == site]
        values, nearest = nearest_release(known[of], _small(release.conditions, side), search)
        for i, value, index in zip(of, values, nearest, strict=True):
            scores[i], named[i] = value, release.patients[index]
            chance[i] = release.patients.count(true.patients[i]) / len(release.patients)
    asked = [i for i in range(len(true)) if named[i]]  # held-out patients of other hospitals are asked of no site
    people = {true.patients[i]: bool(true.member[i]) for i in asked}
    means = [np.mean([scores[i] for i in asked if true.patients[i] == patient]) for patient in people]
    inside = [i for i in asked if true.member[i]]
    return {
        "membership": discrimination(np.array(means), np.array(list(people.values())), list(people), seed=seed),
        "identification": identification_rates(
            [named[i] for i in inside], [true.patients[i] for i in inside], chance[inside], seed
        ),
    }


def _numbered(true: Candidates) -> Sequence[tuple[int, tuple[torch.Tensor, str]]]:
    return list(enumerate(zip(true.conditions, true.patients, strict=True)))


def _small(masks: torch.Tensor, side: int | None) -> torch.Tensor:
    return masks.float() if side is None else (F.adaptive_avg_pool2d(masks.float(), side) >= 0.5).float()


def _mean_dice(one: torch.Tensor, other: torch.Tensor) -> float:
    """Of pairs, at their own size."""
    pairs = zip(one, other, strict=True)
    return float(np.mean([dice_matrix(a[None], b[None]).item() for a, b in pairs]))
