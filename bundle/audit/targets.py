"""What a readout is after, and what an attacker has without any query."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from bundle.audit.scores import Matched, Slice, other_patients, score
from bundle.seeding import drawn_indices
from bundle.site import Site

__all__ = ["AHEAD", "Starts", "Targets", "find_targets", "starts"]

AHEAD = 4
"""How many times as many steps are looked at as are chosen."""


@dataclass(frozen=True)
class Targets:
    """The real images that the attacks are after, of one step each ``batch_size``."""

    steps: list[int]
    slices: list[Slice]

    @property
    def images(self) -> torch.Tensor:
        return torch.stack([one.image for one in self.slices])

    @property
    def conditions(self) -> torch.Tensor:
        return torch.stack([one.condition for one in self.slices])


@dataclass
class Starts:
    """
    What an attacker has without any query, each N×C×H×W, and the scores of the baselines among it.

    Args:
        matched: of each target, the other patient's slice whose condition fits best.
        synthetic: G(x); None without a generator.
        report: the baselines as JSON.
        reference: of each target, the PSNR of the better one of the two, in dB.
    """

    matched: torch.Tensor
    synthetic: torch.Tensor | None
    report: dict
    reference: list[float]

    def named(self) -> dict[str, torch.Tensor]:
        found = {} if self.synthetic is None else {"the synthetic image": self.synthetic}
        return found | {"grey": torch.zeros_like(self.matched), "another patient": self.matched}


def find_targets(site: Site, number: int, first: int = 2) -> Targets:
    """
    The real images of some steps from ``first`` on (:class:`bundle.audit.site_queries.Asker`), ``number`` or, to
    fill a batch, more: of the :data:`AHEAD` times as many steps that come next, those with the most different cases.
    This looks at the site's data: it is the truth that guesses are compared with, deformed where the site's policy has
    its discriminator see deformed images.
    """
    batches = -(-number // site.batch_size)
    cases = {step: _cases(site, step) for step in range(first, first + AHEAD * batches)}
    steps: list[int] = []
    seen: set[str] = set()
    while len(steps) < batches:
        step = max((step for step in cases if step not in steps), key=lambda step: len(set(cases[step]) - seen))
        steps.append(step)
        seen |= set(cases[step])
    slices = []
    for step in sorted(steps):
        drawn = site.draw(step)
        slices += [Slice(*one) for one in zip(cases[step], drawn["condition"], drawn["image"], strict=True)]
    return Targets(sorted(steps), slices)


def _cases(site: Site, step: int) -> list[str]:
    places = (step - 1) * site.batch_size, site.batch_size, len(site.samples)
    drawn = drawn_indices(site.seed, site.name, *places).tolist()
    return [str(site.samples[index].get("case", index)) for index in drawn]


def starts(
    targets: Targets, slices: Iterable[Slice], generate: Callable[[torch.Tensor], torch.Tensor] | None, number: int
) -> Starts:
    """
    The baselines: real slices of other patients (:func:`bundle.audit.scores.other_patients`), and G(x).

    Args:
        targets: see :func:`find_targets`; the first ``number`` are scored.
        slices: real slices of the experiment.
        generate: G, conditions N×X×H×W uint8 to images N×C×H×W in [-1, 1]; None without.
    """
    matched: list[Matched] = other_patients(targets.slices, slices)
    chosen = torch.stack([one.slice.image for one in matched])
    synthetic = None if generate is None else generate(targets.conditions)
    real = targets.images[:number]
    report = {
        "other patients, mean over slices": {"psnr_each": [one.mean for one in matched[:number]]},
        "other patients, best slice (chosen with the truth)": {"psnr_each": [one.best for one in matched[:number]]},
        "other patient, condition fits best": score(chosen[:number], real)
        | {"case_each": [one.slice.case for one in matched[:number]], "dice_each": [m.dice for m in matched[:number]]},
    }
    for one in report.values():
        one.setdefault("psnr", sum(one["psnr_each"]) / number)
    references = [report["other patient, condition fits best"]["psnr_each"]]
    if synthetic is not None:
        report["synthetic image"] = score(synthetic[:number], real)
        references.append(report["synthetic image"]["psnr_each"])
    return Starts(chosen, synthetic, report, [max(values) for values in zip(*references, strict=True)])
