"""What the attacks of this room read out of one site, against what nobody needs an attack for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from bundle.audit.differentiable_step import Simulation
from bundle.audit.fresh_sites import renew_gate
from bundle.audit.gradient_ascent import lowest_loss
from bundle.audit.gradient_matching import recognise
from bundle.audit.readout import Guess
from bundle.audit.readout_attacks import GIVEN, MATCHING, Effort, attacks_on
from bundle.audit.scores import psnr, score
from bundle.audit.site_queries import Asker, Refused
from bundle.audit.targets import Starts, Targets
from bundle.losses import SiteLoss
from bundle.site import Site
from bundle.site.release import ReleaseRefused

__all__ = ["REACHED", "audit_loss"]

REACHED = 1.0
"""dB that an attack on a defended site may gain over the baselines."""


@dataclass
class _Method:
    """The guesses of an attack, the number of answers, and why there were no more, by batch."""

    guesses: list[list[Guess]] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    refused: list[str | None] = field(default_factory=list)

    def rounds(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Number of queries and the images of all batches; a site that refused leaves its attacker with the last."""
        for place in range(max(map(len, self.guesses))):
            found = [guesses[min(place, len(guesses) - 1)] for guesses in self.guesses]
            yield max(guess.queries for guess in found), torch.cat([guess.images for guess in found])


def audit_loss(
    site: Site,
    loss: SiteLoss,
    targets: Targets,
    begun: Starts,
    number: int,
    effort: Effort,
    num_steps: int | None = None,
) -> tuple[dict, dict[str, torch.Tensor]]:
    """
    Attack a site with one loss, by all of :func:`bundle.audit.readout_attacks.attacks_on`.

    Every attack on a batch finds the site as if it had let nothing out before. To a site that issues no conditions the
    true ones are sent: the worst case, a server that has its victims' masks from elsewhere.

    Args:
        site: the site; its loss is replaced by ``loss``.
        loss: what the site computes.
        targets, begun: see :mod:`bundle.audit.targets`.
        number: of targets to score.
        effort: what the attacker is granted.
        num_steps: of the training, see :func:`bundle.audit.fresh_sites.renew_gate`.

    Returns:
        The result as JSON, and pictures N×C×H×W: ``after K`` queries of the first bisection, ``oracle`` the best of all
        guesses. Per method there is a ``curve`` over the number of queries, for each batch how many were ``answered``
        and why no more were (``refused``), the attacker's ``own`` choice (the last guess of the first bisection, of
        matchings the one with the lowest mismatch, or else of climbs that of the lowest loss; nothing that had to be
        given the weights counts in the choice among methods) and the ``oracle``'s: for
        each image the guess after one query or more that is best by the truth, an upper bound that no attacker reaches.
        ``gain`` is the mean over the images of what an attack's PSNR has over the better baseline of the same image, in
        dB. Of the adversarial term alone, ``recognition`` by candidate and batch
        (:func:`bundle.audit.gradient_matching.recognise`). Of a loss that the site's policy forbids,
        ``{"loss", "refused": reason}`` and no pictures.
    """
    site.critic.loss = loss.to(site.critic.device)
    try:
        renew_gate(site, num_steps)
    except ReleaseRefused as error:
        return {"loss": loss.describe(), "refused": str(error)}, {}
    methods: dict[str, _Method] = {}
    for place, step in enumerate(targets.steps):
        rows = slice(place * site.batch_size, (place + 1) * site.batch_size)
        for name, attack in attacks_on(site, begun, rows, effort).items():
            renew_gate(site, num_steps, step)
            method = methods.setdefault(name, _Method())
            try:
                asker = Asker(site, step, targets.conditions[rows])
                found = attack(asker), asker.queries, asker.refusal
            except Refused as error:
                # what there is without an answer
                found = [Guess(0, begun.matched[rows])], 0, str(error)
            guesses, answered, refused = found
            method.guesses.append(guesses)
            method.answered.append(answered)
            method.refused.append(refused)
    real = targets.images[:number]
    report = {name: _method_report(method, real, begun.reference) for name, method in methods.items()}
    best = _oracle([images for method in methods.values() for asked, images in method.rounds() if asked], real)
    own = _own({name: method for name, method in methods.items() if GIVEN not in name})[:number]
    result: dict[str, Any] = {
        "loss": loss.describe(),
        "methods": report,
        "own": score(own, real),
        "oracle": None if best is None else score(best, real),
    }
    result["gain"] = {
        choice: _gain(result[choice]["psnr_each"], begun.reference) if result[choice] else 0.0
        for choice in ("own", "oracle")
    }
    result["reached"] = result["gain"]["oracle"] <= REACHED
    pictures = {"own": own} | ({} if best is None else {"oracle": best})
    if effort.matches and loss.terms == ("adversarial",):
        result["recognition"] = _recognition(site, targets, begun, num_steps)
    if loss.l1_weight > 0:
        first = next(iter(methods.values()))
        pictures |= {f"after {asked}": images[:number] for asked, images in first.rounds()}
    return result, pictures


def _method_report(method: _Method, real: torch.Tensor, reference: list[float]) -> dict:
    number = len(real)
    curve = [{"queries": asked} | score(images[:number], real) for asked, images in method.rounds()]
    best = _oracle([images for asked, images in method.rounds() if asked], real)
    own = score(_own({"": method})[:number], real)
    return {
        "curve": curve,
        "answered": method.answered,
        "refused": method.refused,
        "own": own,
        "oracle": None if best is None else score(best, real),
        "gain": {
            "own": _gain(own["psnr_each"], reference),
            "oracle": 0.0 if best is None else _gain(psnr(best, real), reference),
        },
    }


def _recognition(site: Site, targets: Targets, begun: Starts, num_steps: int | None) -> dict[str, list[float | None]]:
    """The real images against others, for each batch; None where the site refuses."""
    found: dict[str, list[float | None]] = {}
    for place, step in enumerate(targets.steps):
        rows = slice(place * site.batch_size, (place + 1) * site.batch_size)
        near, real = begun.matched[rows], targets.images[rows]
        one = torch.cat([real[:1], near[1:]])
        candidates = {"the real images": real, "the first of them": one} if len(real) > 1 else {"the real images": real}
        candidates |= {"another patient": near, "grey": torch.zeros_like(near)}
        renew_gate(site, num_steps, step)
        try:
            asker = Asker(site, step, targets.conditions[rows])
            values: dict[str, float | None] = dict(recognise(asker, Simulation(site, asker), near, candidates))
        except Refused:
            values = dict.fromkeys(candidates)
        for name, value in values.items():
            found.setdefault(name, []).append(value)
    return found


def _oracle(guesses: list[torch.Tensor], real: torch.Tensor) -> torch.Tensor | None:
    """For each image the guess that is nearest to the truth; None without guesses."""
    if not guesses:
        return None
    ratios = torch.tensor([psnr(images[: len(real)], real) for images in guesses])
    return torch.stack([guesses[best][place] for place, best in enumerate(ratios.argmax(0).tolist())])


def _own(methods: dict[str, _Method]) -> torch.Tensor:
    """What an attacker chooses without the truth, for each batch."""
    # a mismatch is compared with mismatches alone: it is no loss of the site's
    trusted = [method for name, method in methods.items() if name.startswith(MATCHING)] or list(methods.values())
    chosen = []
    for batch in zip(*(method.guesses for method in trusted), strict=True):
        # losses are known of climbs and matchings alone; of bisections the first counts
        known = [guess for guesses in batch for guess in guesses if guess.loss is not None]
        chosen.append((lowest_loss(known) if known else batch[0][-1]).images)
    return torch.cat(chosen)


def _gain(ratios: list[float], reference: list[float]) -> float:
    return sum(mine - theirs for mine, theirs in zip(ratios, reference, strict=True)) / len(ratios)
