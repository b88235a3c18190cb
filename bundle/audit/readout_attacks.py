"""Which attacks a site is read out by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from bundle.audit.differentiable_step import Simulation
from bundle.audit.gradient_ascent import climb
from bundle.audit.gradient_matching import match
from bundle.audit.readout import Guess, bisect, l1_pull
from bundle.audit.simulated_site import Rehearsal
from bundle.audit.site_queries import Asker
from bundle.audit.targets import Starts
from bundle.site import Site

__all__ = ["GIVEN", "MATCHING", "Effort", "attacks_on"]

MATCHING = "gradient matching"
GIVEN = "weights given"

REACH = 0.5
"""Of an interval around another patient's slice, to either side, in units of [-1, 1]."""
SPECKLE = 0.5
"""How far the middles of the intervals of a bisection from noise differ. The adversarial gradient of an image of one
grey can be many times what an L1 term contributes, for instance norm magnifies what little there is: no first bit."""


@dataclass(frozen=True)
class Effort:
    """
    What an attacker is granted.

    Args:
        queries: of each bisection and batch; in pairs there are twice as many.
        climbs: queries of each climb and batch.
        matches: queries of gradient matching, of each batch; none for 0.
        iterations: of gradient matching.
        rehearse: whether the server can play the site itself (:class:`bundle.audit.simulated_site.Rehearsal`):
            of a site whose initial weights follow from the seed. Gradient matching needs the weights in any case: of
            another site it is given them, and the state of the optimiser.
    """

    queries: int = 8
    climbs: int = 64
    matches: int = 4
    iterations: int = 100
    rehearse: bool = True


def attacks_on(site: Site, begun: Starts, rows: slice, effort: Effort) -> dict[str, Callable[[Asker], list[Guess]]]:
    """
    With an L1 term :func:`bundle.audit.readout.bisect` in all its ways; without one
    :func:`bundle.audit.gradient_ascent.climb` from each of the starts and, where the adversarial term is alone,
    :func:`bundle.audit.gradient_matching.match`, with one query and with several.

    Args:
        site: the site.
        begun: what the attacker has.
        rows: which of it belong to the batch.
        effort: what the attacker is granted.

    Returns:
        By name, in the order in which an attacker trusts them.
    """
    loss, near = site.critic.loss, begun.matched[rows]
    found: dict[str, Callable[[Asker], list[Guess]]] = {}
    if loss.l1_weight > 0:
        low, queries = -torch.ones_like(near), effort.queries
        speckle = SPECKLE * torch.rand(low.shape, generator=torch.Generator().manual_seed(site.seed)).to(low)
        around = low + speckle - SPECKLE, speckle - low
        pull = l1_pull(loss.l1_weight, loss.generator_scale, low.numel())
        if effort.rehearse:
            found |= {
                "bisection, rehearsed": lambda asker: bisect(
                    asker, low, -low, queries, rehearsal=Rehearsal(site, asker)
                ),
                "bisection around another patient, rehearsed": lambda asker: bisect(
                    asker, near - REACH, near + REACH, queries, rehearsal=Rehearsal(site, asker)
                ),
                "bisection from noise, rehearsed": lambda asker: bisect(
                    asker, *around, queries, rehearsal=Rehearsal(site, asker)
                ),
            }
        return found | {
            "bisection": lambda asker: bisect(asker, low, -low, queries),
            "bisection around another patient": lambda asker: bisect(asker, near - REACH, near + REACH, queries),
            "bisection from noise": lambda asker: bisect(asker, *around, queries),
            "bisection in pairs": lambda asker: bisect(asker, low, -low, 2 * queries, pull),
        }
    if effort.matches and loss.terms == ("adversarial",):
        begins = [images[rows] for images in reversed(begun.named().values())]
        given = "" if effort.rehearse else f", {GIVEN}"
        for queries in sorted({1, effort.matches}):
            name = f"{MATCHING}{given}, {queries} {'query' if queries == 1 else 'queries'}"
            found[name] = _matching(site, begins, queries, effort)
    weights = {"adversarial": 1.0} | ({"perceptual": loss.perceptual_weight} if loss.perceptual else {})
    for name, images in begun.named().items():
        found[f"climb from {name}"] = partial(climb, start=images[rows], queries=effort.climbs, weights=weights)
    if effort.rehearse:
        name, images = next(iter(begun.named().items()))
        found[f"climb from {name}, the update alone"] = lambda asker: climb(
            asker, images[rows], effort.climbs, weights, rehearsal=Rehearsal(site, asker)
        )
    return found


def _matching(site: Site, begins: list[torch.Tensor], queries: int, effort: Effort) -> Callable[[Asker], list[Guess]]:
    def attack(asker: Asker) -> list[Guess]:
        return match(asker, Simulation(site, asker), begins, queries, effort.iterations, seed=site.seed)

    return attack
