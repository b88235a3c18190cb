"""What of a step a site has said, kept to say it again."""

from __future__ import annotations

from dataclasses import dataclass

import torch

__all__ = ["Answer"]


@dataclass(frozen=True)
class Answer:
    """
    What of a step is in its reply, as it left the gate: kept, to give the very same again.

    Args:
        gradient: B×C×H×W float32, ∂L_j/∂ŷ.
        losses: scalar losses by name; none where the policy withholds them.
        noise: multiplier of the noise in ``gradient``, 0 for none.
        issued: the step that its conditions were issued for.
    """

    gradient: torch.Tensor
    losses: dict[str, float]
    noise: float
    issued: int
