"""Reading a site's real images out of the image gradients that it returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bundle.audit.simulated_site import Rehearsal
from bundle.audit.site_queries import Asker, Refused

__all__ = ["Guess", "bisect", "l1_pull"]


@dataclass
class Guess:
    """
    What an attacker takes the real images for.

    Args:
        queries: number of queries made for it.
        images: B×C×H×W float32 in [-1, 1].
        loss: what the site said of these very images, the mean over the batch; None where it was not asked, or keeps
            its losses.
    """

    queries: int
    images: torch.Tensor
    loss: float | None = None


def l1_pull(l1_weight: float, generator_scale: float, numel: int) -> float:
    """
    What the L1 term contributes to the gradient of a pixel, but for its sign: generator_scale · λ_L1 / n
    (:class:`bundle.losses.SiteLoss`, which takes the mean over the ``numel`` numbers of a batch). A server knows all
    three.
    """
    return generator_scale * l1_weight / numel


def bisect(
    asker: Asker,
    low: torch.Tensor,
    high: torch.Tensor,
    queries: int,
    pull: float | None = None,
    rehearsal: Rehearsal | None = None,
) -> list[Guess]:
    """
    Halve an interval around every pixel of the real images with every query.

    With an L1 term the gradient of a pixel is ± pull (:func:`l1_pull`) by the side on which the real pixel lies, and
    the adversarial part. The side is that of the nearest of + pull and - pull, which is the gradient's own sign: right
    wherever the adversarial part is smaller than ``pull``. Where it is not, there are two ways:

    * ``rehearsal``: the server computes the adversarial part itself, from the discriminator's initial weights, and
      takes it off. It errs by what the real image changes in the one update of the discriminator.
    * ``pull``: it asks in pairs, for the middle of the intervals and for their upper ends, where the side is known. The
      adversarial parts of two images differ less the nearer these are, so the difference of the two gradients tells the
      sides apart whatever their size: 0 for a real pixel below the middle, 2 · pull above it, and pull where it is the
      upper end itself.

    Args:
        asker: of a site with an L1 term.
        low, high: B×C×H×W float32: between what the real pixels lie. Around a good guess, such as another patient's
            slice, fewer queries do. Where they reach beyond [-1, 1], what is sent does not.
        queries: how many at most; in pairs, every second one brings a bit.
        pull: see :func:`l1_pull`: asks in pairs. None for single queries.
        rehearsal: the server's own copy of the site; of no use to pairs.

    Returns:
        The middles of the intervals, first those without any query. After k bits they are (high - low) / 2 · 2^-k or
        less from the real pixels, wherever no side was mistaken. Fewer where the site refuses.
    """
    each = 1 if pull is None else 2
    guesses = [Guess(0, _middle(low, high))]
    while guesses[-1].queries + each <= queries:
        middle = guesses[-1].images
        try:
            gradient = asker.ask(middle).image_gradient
            if pull is not None:
                above = asker.ask(high.clamp(-1, 1)).image_gradient - gradient > pull / 2
            else:
                above = gradient < (0 if rehearsal is None else rehearsal.gradient(middle))
        except Refused:
            break
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        guesses.append(Guess(guesses[-1].queries + each, _middle(low, high)))
    return guesses


def _middle(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    return ((low + high) / 2).clamp(-1, 1)
