"""Following the image gradients of a site: what there is to try where no L1 term gives the real image away."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from bundle.audit.readout import Guess
from bundle.audit.simulated_site import Rehearsal
from bundle.audit.site_queries import Asker, Refused

__all__ = ["climb", "lowest_loss"]


def climb(
    asker: Asker,
    start: torch.Tensor,
    queries: int,
    weights: Mapping[str, float],
    rate: float = 0.05,
    rehearsal: Rehearsal | None = None,
) -> list[Guess]:
    """
    Improve a guess of the real images along the image gradients that the site returns, by Adam (Kingma & Ba 2015,
    https://arxiv.org/abs/1412.6980), whose rate falls linearly to a tenth.

    The site updates its discriminator on the real images against the guess just before it returns a gradient, the same
    discriminator each time. With ``rehearsal`` only what this update contributes is followed: the gradient is compared
    with the one that the site would return if the guess were the real image.

    Args:
        asker: of the site.
        start: B×C×H×W float32 in [-1, 1]: the first guess.
        queries: how many at most.
        weights: of the site's losses by name, such as ``{"adversarial": 1, "l1": 10}``, for :func:`lowest_loss`.
        rate: of Adam, in units of [-1, 1].
        rehearsal: the server's own copy of the site; None to follow the whole gradient.

    Returns:
        ``start`` and the guess after every query. Fewer where the site refuses.
    """
    images = start.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([images], lr=rate)
    guesses = [Guess(0, start.clone())]
    for number in range(queries):
        sent = guesses[-1].images
        try:
            reply = asker.ask(sent)
        except Refused:
            break
        if weights.keys() <= reply.losses.keys():
            guesses[-1].loss = sum(weight * reply.losses[name] for name, weight in weights.items())
        gradient = reply.image_gradient
        images.grad = gradient if rehearsal is None else gradient - rehearsal.gradient(sent)
        optimizer.param_groups[0]["lr"] = rate * (1 - 0.9 * number / queries)
        optimizer.step()
        with torch.no_grad():
            images.clamp_(-1, 1)
        guesses.append(Guess(number + 1, images.detach().clone()))
    return guesses


def lowest_loss(guesses: list[Guess]) -> Guess:
    """The guess with the lowest loss, of those whose loss is known; the last one where none is."""
    known = [guess for guess in guesses if guess.loss is not None]
    return min(known, key=lambda guess: guess.loss) if known else guesses[-1]
