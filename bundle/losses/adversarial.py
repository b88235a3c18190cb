"""The adversarial terms, on raw logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.losses import PatchAdversarialLoss
from torch import nn

__all__ = ["AdversarialLoss"]

CRITERIA = ("vanilla", "least_squares", "hinge")


class AdversarialLoss(nn.Module):
    """The two sides of a GAN's objective, on the raw logits of a discriminator (any shape, any floating dtype).

    * ``vanilla``: -log σ(D(y)) and -log(1 − σ(D(ŷ))); the generator's is the non-saturating -log σ(D(ŷ)) (Goodfellow
      et al. 2014, https://arxiv.org/abs/1406.2661), the published choice. Computed from logits: MONAI's "bce" is a
      sigmoid and then BCELoss, which CUDA autocast refuses and which has no gradient where the sigmoid has
      rounded to 0 or 1, that is, exactly where a discriminator is most wrong.
    * ``least_squares``: Mao et al. 2017, https://arxiv.org/abs/1611.04076, by MONAI's PatchAdversarialLoss without
      the LeakyReLU that it puts before the loss by default.
    * ``hinge``: max(0, 1 − D(y)) and max(0, 1 + D(ŷ)), for the generator −D(ŷ) (Lim & Ye 2017,
      https://arxiv.org/abs/1705.02894, section 2). MONAI's applies tanh first, so its margin is never reached.

    Both methods compute in float32 and return a scalar, the mean over all logits.

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
        self._least_squares = PatchAdversarialLoss(criterion="least_squares", no_activation_leastsq=True)

    def discriminator(self, real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
        """0.5 · (loss on real + loss on synthetic), for logits of D(x, y) and D(x, ŷ)."""
        real, fake = _logits(real_logits), _logits(fake_logits)
        if self.criterion == "vanilla":
            loss_real = F.binary_cross_entropy_with_logits(real, torch.ones_like(real))
            loss_fake = F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
        elif self.criterion == "least_squares":
            loss_real = self._least_squares(real, target_is_real=True, for_discriminator=True)
            loss_fake = self._least_squares(fake, target_is_real=False, for_discriminator=True)
        else:
            loss_real, loss_fake = F.relu(1 - real).mean(), F.relu(1 + fake).mean()
        return 0.5 * (loss_real + loss_fake)

    def generator(self, fake_logits: torch.Tensor) -> torch.Tensor:
        """What the generator wants small, for logits of D(x, ŷ)."""
        fake = _logits(fake_logits)
        if self.criterion == "vanilla":
            return F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake))
        if self.criterion == "least_squares":
            return self._least_squares(fake, target_is_real=True, for_discriminator=False)
        return -fake.mean()


def _logits(logits: torch.Tensor) -> torch.Tensor:
    if not isinstance(logits, torch.Tensor):
        raise TypeError(f"expected a tensor of logits, got a {type(logits).__name__}: pass the discriminator's last")
    return logits.float()
