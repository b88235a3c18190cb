"""A step of the training, from the images that leave to the gradients of G's weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.func import functional_call

from bundle.wire.guards import TOLERANCE
from bundle.wire.messages import SiteReply, SyntheticBatch

__all__ = ["OlderGenerator", "Participant", "SiteGradients", "StepUnderWay", "check_images", "checked_staleness"]


@dataclass(frozen=True)
class Participant:
    """What the trainer knows of a site that takes part in the step to come."""

    num_samples: int
    batch_size: int
    nonce: str
    issuing: bool  # whether its conditions are its own, or the server's public ones
    step: int  # that the conditions were issued for; later ones may pass before the site is asked
    conditions: torch.Tensor

    def message(self, site: str, step: int, images: torch.Tensor) -> SyntheticBatch:
        """What this site is sent."""
        synthetic = SyntheticBatch(site, step, images.detach(), self.nonce)
        return synthetic if self.issuing else replace(synthetic, conditions=self.conditions)


class OlderGenerator:
    """
    G as it is now, whatever its weights become: called as G is, with copies of them.

    Args:
        generator: G. Its buffers are not copied.
        weights: other ones, by name, as :attr:`weights` has them; None for those that G has now.
    """

    def __init__(self, generator: torch.nn.Module, weights: Mapping[str, torch.Tensor] | None = None) -> None:
        self.generator = generator
        given = weights or {}
        self._parameters = {
            name: given.get(name, own).detach().to(own.device, copy=True).requires_grad_(own.requires_grad)
            for name, own in generator.named_parameters()
        }

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return functional_call(self.generator, self._parameters, args, kwargs)

    def parameters(self) -> Iterator[torch.Tensor]:
        """In the order of G's own."""
        yield from self._parameters.values()

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """For a checkpoint: by name."""
        return {name: weight.detach() for name, weight in self._parameters.items()}


class SiteGradients:
    """
    Σ_j of the gradients of G's weights. Sites are told of in any order; the sum has the bits of one order.

    That order is from the last name to the first: as one backward pass through all images, made in the order of names,
    sums them. What waits for its turn is kept, one gradient of all weights each.

    Args:
        parameters: the weights.
        sites: names of those that are summed, unless they are left out.
        start: a gradient of the weights that the sum begins with.
    """

    def __init__(
        self,
        parameters: Iterable[torch.Tensor],
        sites: Iterable[str],
        start: Sequence[torch.Tensor | None] | None = None,
    ) -> None:
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._due = sorted(sites)
        self._waiting: dict[str, Sequence[torch.Tensor | None]] = {}
        self._sum = [None] * len(self._parameters) if start is None else list(start)
        self._own: set[int] = set()  # places whose tensor nobody else has

    def add(self, site: str, outputs: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor | None]) -> None:
        """
        Args:
            site: whose turn it is when all after it are in.
            outputs: what depends on the weights.
            gradients: ∂L/∂output of each; None for a scalar that is part of L itself.
        """
        found = torch.autograd.grad(outputs, self._parameters, gradients, allow_unused=True)
        self._waiting[site] = found
        self._fold()

    def leave_out(self, site: str) -> None:
        """Nothing comes from this one."""
        self._waiting[site] = [None] * len(self._parameters)
        self._fold()

    def store(self, parameters: Iterable[torch.Tensor]) -> None:
        """Let the sum be the ``grad`` of G's own weights, which are in the order of those that it is of."""
        trained = (parameter for parameter in parameters if parameter.requires_grad)
        for parameter, total in zip(trained, self._sum, strict=True):
            parameter.grad = total

    def _fold(self) -> None:
        while self._due and self._due[-1] in self._waiting:
            for place, gradient in enumerate(self._waiting.pop(self._due.pop())):
                total = self._sum[place]
                if gradient is None or total is None:
                    self._sum[place] = gradient if total is None else total
                elif place in self._own:
                    total.add_(gradient)
                else:  # autograd may have given the same tensor twice
                    self._sum[place] = total + gradient
                    self._own.add(place)


class StepUnderWay:
    """
    What a step sends and what becomes of it, by site: ``asked`` as they take part, ``images`` with their graphs, what
    was ``sent``; of those that answered, ``replies``, ``losses``, and how they take part ``after`` it.

    Args:
        step: from 1.
        network: G, or an older one, that makes the images.
        generate: images B×C×H×W for a participant, its site, a step and ``network``.
        channels_of: of a site and images, the channels that travel to it.
    """

    def __init__(
        self,
        step: int,
        network: torch.nn.Module | OlderGenerator,
        generate: Callable[..., torch.Tensor],
        channels_of: Callable[[str, torch.Tensor], torch.Tensor],
    ) -> None:
        self.step = step
        self.network = network
        self._generate = generate
        self._channels_of = channels_of
        self.asked: dict[str, Participant] = {}
        self.images: dict[str, torch.Tensor] = {}
        self.sent: dict[str, SyntheticBatch] = {}
        self._start: Sequence[torch.Tensor | None] | None = None
        # of the sites that answered
        self.replies: dict[str, SiteReply] = {}
        self.losses: dict[str, dict[str, float]] = {}
        self.after: dict[str, Participant] = {}

    def batches(self, participants: Mapping[str, Participant]) -> Iterator[SyntheticBatch]:
        """For these, each made when it is pulled; in the order in which gradients are summed."""
        self.asked |= participants
        return self._made(sorted(participants, reverse=True))

    def gradients(self, sites: Iterable[str] | None = None) -> SiteGradients:
        """For the replies of these sites; None for all that are asked, when nobody is asked any more."""
        return SiteGradients(self.network.parameters(), self.asked if sites is None else sites, self._start)

    def begin_with(self, term: torch.Tensor, parameters: Iterable[torch.Tensor]) -> None:
        """A term of the loss that is no site's, a scalar of G's own weights: the sum begins with its gradient."""
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        self._start = torch.autograd.grad(term, trained, allow_unused=True)

    def _made(self, sites: Iterable[str]) -> Iterator[SyntheticBatch]:
        for site in sites:
            about = self.asked[site]
            images = self._generate(about, site, self.step, self.network)
            self.images[site] = images
            self.sent[site] = about.message(site, self.step, self._channels_of(site, images))
            yield self.sent[site]


def check_images(images: torch.Tensor, step: int) -> None:
    """
    Sites would refuse what is none, each by itself, and that would look as if all of them had failed.

    Raises:
        FloatingPointError: when the images are not finite.
        ValueError: when they are several tensors, or leave [-1, 1].
    """
    if not isinstance(images, torch.Tensor):
        raise ValueError(f"step {step}: generator_def: expected one tensor, got a {type(images).__name__}")
    largest = images.detach().abs().max().item()
    if not math.isfinite(largest):
        raise FloatingPointError(f"step {step}: the generator's images are not finite")
    if largest > 1 + TOLERANCE:
        raise ValueError(
            f"step {step}: generator_def: expected images in [-1, 1], got values as large as {largest:.4g}: "
            "let it end in tanh"
        )


def checked_staleness(staleness: int, generator: torch.nn.Module, sites_per_step: int | None) -> int:
    """
    Raises:
        ValueError: when it is neither 0 nor 1, or 1 for a generator with buffers or steps that ask some of the sites.
    """
    if staleness not in (0, 1) or isinstance(staleness, bool):
        raise ValueError(f"staleness: expected 0 or 1, got {staleness!r}")
    if staleness and sites_per_step is not None:
        raise ValueError("staleness: 1 is for steps that ask all sites: sites_per_step: null, or staleness: 0")
    if staleness and next(generator.buffers(), None) is not None:
        raise ValueError(
            "staleness: 1 is for a generator whose only state is its weights, and this one has buffers: statistics of "
            "batches (generator_norm: BATCH) would be of images before and after an interruption"
        )
    return staleness
