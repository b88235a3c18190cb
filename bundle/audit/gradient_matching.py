"""Gradient matching: the real images with which a simulated site would answer as the site did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from bundle.audit.differentiable_step import Simulation
from bundle.audit.readout import Guess
from bundle.audit.site_queries import Asker, Refused
from bundle.seeding import derive_seed

__all__ = ["match", "recognise"]


def match(
    asker: Asker,
    simulation: Simulation,
    starts: Sequence[torch.Tensor],
    queries: int = 1,
    iterations: int = 100,
    rate: float = 0.02,
    seed: int = 0,
) -> list[Guess]:
    """
    Deep leakage from gradients (Zhu et al. 2019, https://arxiv.org/abs/1906.08935; Geiping et al. 2020,
    https://arxiv.org/abs/2003.14053), of image gradients in the place of weight gradients: ask the site for a few ŷ,
    then change a guess of its real images by Adam, whose rate falls linearly to a tenth, until the simulated answers
    are those received.

    The first ŷ is the first of ``starts``, the others are uniform noise. With several queries an iteration follows one
    of them, in turn.

    Args:
        asker: of the site.
        simulation: of the site before the step.
        starts: B×C×H×W float32 in [-1, 1] each: the one whose simulated answers are nearest is changed.
        queries: how many at most.
        iterations: of Adam; they cost no query.
        rate: of Adam, in units of [-1, 1].
        seed: of the noise.

    Returns:
        The start, and what became of it, with the mismatch as ``loss``: the root of the mean over the queries of
        |simulated - received|² / |received|². Where the site refuses, what the answers until then bring; without any,
        the first start alone.
    """
    asked: list[tuple[torch.Tensor, torch.Tensor]] = []
    for number in range(queries):
        images = starts[0].clone()
        if number:
            images.uniform_(-1, 1, generator=torch.Generator().manual_seed(derive_seed(seed, "probe", number)))
        try:
            asked.append((images, asker.ask(images).image_gradient))
        except Refused:
            break
    if not asked:
        return [Guess(0, starts[0].clone())]

    def mismatch(guess: torch.Tensor) -> float:
        return (sum(_error(simulation, guess, one).item() for one in asked) / len(asked)) ** 0.5

    begun = min((Guess(0, start.clone(), mismatch(start)) for start in starts), key=lambda guess: guess.loss)
    guess = begun.images.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([guess], lr=rate)
    for number in range(iterations):
        optimizer.param_groups[0]["lr"] = rate * (1 - 0.9 * number / iterations)
        error = _error(simulation, guess, asked[number % len(asked)])
        # of the size of 1, far above what Adam adds to its denominator
        (guess.grad,) = torch.autograd.grad(error / max(begun.loss**2, 1e-30), guess)
        optimizer.step()
        with torch.no_grad():
            guess.clamp_(-1, 1)
    found = guess.detach().clone()
    return [begun, Guess(len(asked), found, mismatch(found))]


def recognise(
    asker: Asker, simulation: Simulation, images: torch.Tensor, candidates: Mapping[str, torch.Tensor]
) -> dict[str, float]:
    """
    Ask once, and say how well each of some candidates for the real images explains the answer. No image is found this
    way, but whoever holds one is told whether the site has it: the real images themselves explain all but the noise.

    Args:
        asker, simulation: see :func:`match`.
        images: ŷ, B×C×H×W float32 in [-1, 1].
        candidates: B×C×H×W float32 each, by name.

    Returns:
        |simulated - received| / |received| by the same names.

    Raises:
        Refused: when the site does.
    """
    asked = images, asker.ask(images).image_gradient
    return {name: _error(simulation, guess, asked).item() ** 0.5 for name, guess in candidates.items()}


def _error(simulation: Simulation, guess: torch.Tensor, asked: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    images, received = asked
    return (simulation.gradient(guess, images) - received).square().sum() / received.square().sum().clamp(min=1e-30)
