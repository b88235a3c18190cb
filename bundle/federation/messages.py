"""The only types that cross the wall between the server and a site.

Everything that leaves a site, a *release*, is a field of :class:`SiteInfo`, :class:`SiteReply` or
:class:`ConditionBatch`; everything that enters one is a field of :class:`ConditionRequest` or :class:`SyntheticBatch`.
A field is a tensor, a string, an integer or a dictionary of numbers by name: nothing that could carry more.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

__all__ = ["MESSAGES", "ConditionBatch", "ConditionRequest", "Message", "SiteInfo", "SiteReply", "SyntheticBatch"]


@dataclass(frozen=True)
class Message:
    """What every message says: the site it goes to or comes from."""

    site: str


@dataclass(frozen=True)
class SiteInfo(Message):
    """
    Site → server, when a training opens or resumes.

    Args:
        num_samples: n_j of the mixture weights π_j = n_j / Σ n_i.
        step: the step, from 1, that ``conditions`` are for.
        conditions: B×X×H×W uint8, the site's first batch of conditions x.
    """

    num_samples: int
    step: int
    conditions: torch.Tensor


@dataclass(frozen=True)
class SyntheticBatch(Message):
    """
    Server → one site: ŷ = G(x) for the conditions that this site issued for this step.

    Args:
        step: the step, from 1.
        images: B×C×H×W float32 in [-1, 1].
    """

    step: int
    images: torch.Tensor


@dataclass(frozen=True)
class SiteReply(Message):
    """
    Site → server.

    Args:
        step: the step that is answered.
        image_gradient: B×C×H×W float32, ∂L_j/∂ŷ.
        losses: scalar losses of this step by name.
        conditions: B×X×H×W uint8, the conditions of step + 1.
    """

    step: int
    image_gradient: torch.Tensor
    losses: dict[str, float]
    conditions: torch.Tensor


@dataclass(frozen=True)
class ConditionRequest(Message):
    """Server → site, for generation: conditions ``start`` to ``stop`` of the site's samples, in their order."""

    start: int
    stop: int


@dataclass(frozen=True)
class ConditionBatch(Message):
    """
    Site → server, for generation.

    Args:
        start: number of the first condition.
        conditions: B×X×H×W uint8; fewer than asked for where the next has another shape or the site's samples end,
            and none after the last.
    """

    start: int
    conditions: torch.Tensor


MESSAGES: dict[str, type[Message]] = {
    cls.__name__: cls for cls in (SiteInfo, SyntheticBatch, SiteReply, ConditionRequest, ConditionBatch)
}
