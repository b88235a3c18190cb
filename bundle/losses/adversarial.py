"""The adversarial terms, on raw logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["AdversarialLoss"]

CRITERIA = ("vanilla", "least_squares", "hinge")


class AdversarialLoss(nn.Module):
    """The two sides of a GAN's objective, on the raw logits of a discriminator (any shape, any floating dtype).

    * ``vanilla``: -log σ(D(y)) and -log(1 − σ(D(ŷ))); the generator's is the non-saturating -log σ(D(ŷ)) (Goodfellow
      et al. 2014, https://arxiv.org/abs/1406.2661), the published choice. Computed from logits: MONAI's "bce" is a
      sigmoid and then BCELoss, which CUDA autocast refuses and which has no gradient where the sigmoid has
      rounded to 0 or 1, that is, exactly where a discriminator is most wrong.
    * ``least_squares``: (D(y) − 1)² and D(ŷ)², for the generator (D(ŷ) − 1)² (Mao et al. 2017,
      https://arxiv.org/abs/1611.04076). MONAI's PatchAdversarialLoss has no weights by pixel.
    * ``hinge``: max(0, 1 − D(y)) and max(0, 1 + D(ŷ)), for the generator −D(ŷ) (Lim & Ye 2017,
      https://arxiv.org/abs/1705.02894, section 2). MONAI's applies tanh first, so its margin is never reached.

    Both methods compute in float32 and return a scalar, the mean over all logits, weighted where weights of their shape
    are given.

    Args:
        criterion: one of the three.

    Raises:
        ValueError: another criterion.
        TypeError: a list of logits: MONAI's PatchDiscriminator returns all of its layers, pass the last one.
    """

    def __init__(self, criterion: str = "vanilla") -> None:
        super().__init__()
        if criterion not in CRITERIA:
            raise ValueError(f"criterion: expected one of {', '.join(CRITERIA)}, got {criterion!r}")
        self.criterion = criterion

    def discriminator(
        self,
        real_logits: torch.Tensor,
        synthetic_logits: torch.Tensor,
        real_weights: torch.Tensor | None = None,
        synthetic_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """0.5 · (loss on real + loss on synthetic), for logits of D(x, y) and D(x, ŷ)."""
        real = self.judged(real_logits, True, real_weights)
        return 0.5 * (real + self.judged(synthetic_logits, False, synthetic_weights))

    def judged(self, logits: torch.Tensor, real: bool, weights: torch.Tensor | None = None) -> torch.Tensor:
        """Loss on images that are real, or on synthetic ones: one of the two that :meth:`discriminator` is made of."""
        logits = _logits(logits)
        if self.criterion == "hinge":
            return _mean(F.relu(1 - logits if real else 1 + logits), weights)
        return _mean(self._distance(logits, int(real)), weights)

    def generator(self, logits: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
        """What the generator wants small, for logits of D(x, ŷ)."""
        logits = _logits(logits)
        return _mean(-logits if self.criterion == "hinge" else self._distance(logits, 1), weights)

    def _distance(self, logits: torch.Tensor, target: int) -> torch.Tensor:
        """Of every logit from 1 (real) or 0."""
        loss = F.binary_cross_entropy_with_logits if self.criterion == "vanilla" else F.mse_loss
        return loss(logits, torch.full_like(logits, target), reduction="none")


def _mean(values: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    return values.mean() if weights is None else (values * weights).sum() / weights.sum()


def _logits(logits: torch.Tensor) -> torch.Tensor:
    if not isinstance(logits, torch.Tensor):
        raise TypeError(f"expected a tensor of logits, got a {type(logits).__name__}: pass the discriminator's last")
    return logits.float()
