"""The one place where an attack talks to a site: a server that asks again and again for the same step."""

from __future__ import annotations

import torch

from bundle.server import LocalFederation
from bundle.site import Site
from bundle.wire import Codec
from bundle.wire.messages import SiteInfo, SiteReply, SyntheticBatch

__all__ = ["Asker", "Refused"]


class Refused(RuntimeError):
    """The site does not answer, or gives other images the very answer that it gave before."""


class Asker:
    """
    A server that has a site do one step many times over, with other images for the same conditions each time.

    A site that has done a step returns the same reply to it again. It goes back to an earlier state, however, when it
    is opened for a step before the last one done, and goes on from there at any later step: a server that lost some.
    So every query opens ``step`` - 1 and then ``step``, which brings the nonce of the batch as well. The site's
    discriminator is that of its newest own checkpoint of at most ``step`` - 2, or has its initial weights, each time;
    the real images are those of ``step``.

    All goes through a :class:`bundle.server.LocalFederation`: as messages, encoded and decoded.

    Args:
        site: the site.
        step: the step, from 2.
        known: B×X×H×W uint8, the true conditions of ``step``, for a site that issues none: the worst case, a server
            that has the masks of its victims from elsewhere. It sends them as its own.
        codec: messages ↔ bytes; None for the default, float32 both ways.

    ``conditions`` are B×X×H×W uint8, issued or known; ``queries`` is the number of answers received; ``refusal`` is why
    the last query brought none, None while all did.

    Raises:
        ValueError: for a step below 2, or without conditions.
        Refused: when the site does not take part.
    """

    def __init__(
        self, site: Site, step: int = 2, known: torch.Tensor | None = None, codec: Codec | None = None
    ) -> None:
        if step < 2:
            raise ValueError(f"step: expected at least 2, for the site is opened for the one before, got {step}")
        self.name = site.name
        self.step = step
        self.queries = 0
        self.refusal: str | None = None
        self._federation = LocalFederation([site], codec)
        self._last: tuple[torch.Tensor, SiteReply] | None = None
        issued = self.open().conditions
        if not issued.numel() and known is None:
            raise ValueError(f"site {site.name} issues no conditions: expected known ones")
        self.conditions = issued if issued.numel() else known
        self._sent = {} if issued.numel() else {"conditions": known}

    def ask(self, images: torch.Tensor) -> SiteReply:
        """
        One query.

        Args:
            images: B×C×H×W float32 in [-1, 1].

        Raises:
            Refused: when the site raises an error or its release policy forbids an answer, or it answers other images
                than before with the gradient and the losses that it gave before.
        """
        images = images.detach().clone()
        synthetic = SyntheticBatch(self.name, self.step, images, self.open().nonce, **self._sent)
        try:
            outcome = self._federation.exchange({self.name: synthetic})
        except ValueError as error:
            raise self._refused(str(error)) from error
        if self.name not in outcome.messages:
            raise self._refused(outcome.failures[self.name])
        reply = outcome.messages[self.name]
        before, self._last = self._last, (images, reply)
        if before is not None and not torch.equal(before[0], images) and _same(before[1], reply):
            raise self._refused(f"site {self.name} answers other images as it answered those before")
        self.queries += 1
        return reply

    def open(self) -> SiteInfo:
        """
        Have the site go back, so that it stands before ``step``; every query does.

        Raises:
            Refused: when it does not take part.
        """
        try:
            for step in (self.step - 1, self.step):
                outcome = self._federation.open(step)
        except ValueError as error:
            raise self._refused(str(error)) from error
        if self.name not in outcome.messages:
            raise self._refused(outcome.failures[self.name])
        return outcome.messages[self.name]

    def _refused(self, reason: str) -> Refused:
        self.refusal = reason
        return Refused(reason)


def _same(one: SiteReply, other: SiteReply) -> bool:
    gradients = one.image_gradient, other.image_gradient
    # zeros are what some discriminators truly answer to all images
    return bool(gradients[0].any()) and one.losses == other.losses and torch.equal(*gradients)
