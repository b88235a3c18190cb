"""What a site computes on logits and images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from bundle.losses.adversarial import AdversarialLoss
from bundle.losses.perceptual import PerceptualLoss
from bundle.transforms.condition import candidates, pixel_classes

__all__ = ["SiteLoss"]


class SiteLoss(nn.Module):
    """The losses of one site j: of its discriminator D_j, and L_j(ŷ), whose gradient ∂L_j/∂ŷ it returns.

    Called by :class:`bundle.site.Critic`: first :meth:`discriminator` with logits of D_j(x, y) and D_j(x, ŷ)
    where ŷ is detached; then, with D_j frozen after its update, :meth:`generator` with fresh logits of D_j(x, ŷ).
    Logits are the last output of the discriminator, any shape. Images are B×C×H×W in [-1, 1], y and ŷ of one shape.

        L_j(ŷ) = generator_scale · (adversarial(D_j(x, ŷ)) + l1_weight · |ŷ − y| + perceptual_weight · perceptual(ŷ, y))

    Published settings, from the AsynDGAN authors' code: vanilla GAN, λ_L1 = 100, λ_perc = 1 (brains) or 10 (nuclei;
    one of its scripts has λ_L1 = 0). The 2020 code multiplies the generator's loss by 0.1 and the discriminator's
    by 0.05; the follow-up does not, and so do the defaults here.

    Args:
        adversarial: the GAN's criterion.
        l1_weight: λ_L1, not negative; 0 switches the term off.
        perceptual: the perceptual term; None, or one without weights, is off.
        perceptual_weight: λ_perc, not negative; 0 switches the term off.
        generator_scale, discriminator_scale: factors of the whole losses, above 0.
        class_weights: by how much a pixel counts in the adversarial terms, by its class: one number above 0 for each
            channel of the condition and one for the background (:func:`bundle.transforms.pixel_classes`). A logit that
            stands for several pixels has their mean. None, or all alike: every logit counts the same.
        num_classes: channels of the condition that are classes, the first ones: a pixel that may be of several has the
            mean of their weights. None where no pixel is of several.

    Raises:
        ValueError: weights or scales out of range; from :meth:`generator`, images of different shape; from both,
            class weights without a condition, or with one that they do not fit.
    """

    def __init__(
        self,
        adversarial: AdversarialLoss,
        l1_weight: float = 100.0,
        perceptual: PerceptualLoss | None = None,
        perceptual_weight: float = 0.0,
        generator_scale: float = 1.0,
        discriminator_scale: float = 1.0,
        class_weights: Sequence[float] | None = None,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        if l1_weight < 0 or perceptual_weight < 0:
            raise ValueError(f"expected weights >= 0, got l1 {l1_weight}, perceptual {perceptual_weight}")
        if generator_scale <= 0 or discriminator_scale <= 0:
            raise ValueError(
                f"expected scales > 0, got generator {generator_scale}, discriminator {discriminator_scale}"
            )
        if class_weights is not None and not all(weight > 0 for weight in class_weights):
            raise ValueError(f"class_weights: expected numbers above 0, got {list(class_weights)}")
        self.adversarial = adversarial
        weights = tuple(float(weight) for weight in class_weights or ())
        self.class_weights = weights if len(set(weights)) > 1 else None
        self.num_classes = num_classes
        self.l1_weight = float(l1_weight)
        on = perceptual is not None and perceptual.active and perceptual_weight > 0
        self.perceptual = perceptual if on else None
        self.perceptual_weight = float(perceptual_weight)
        self.generator_scale = float(generator_scale)
        self.discriminator_scale = float(discriminator_scale)

    def discriminator(
        self,
        real_logits: torch.Tensor,
        synthetic_logits: torch.Tensor,
        real_condition: torch.Tensor | None = None,
        synthetic_condition: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """discriminator_scale · 0.5 · (loss on real + loss on synthetic): a float32 scalar to back-propagate.

        The conditions, B×X×H×W of 0 and 1 as D saw them, are for class weights.
        """
        weights = self._weights(real_logits, real_condition) + self._weights(synthetic_logits, synthetic_condition)
        return self.discriminator_scale * self.adversarial.discriminator(real_logits, synthetic_logits, *weights)

    def judged(self, logits: torch.Tensor, real: bool, condition: torch.Tensor | None = None) -> torch.Tensor:
        """discriminator_scale · 0.5 · the loss on real or on synthetic images: the halves of :meth:`discriminator`.

        The condition is as there.
        """
        return self.discriminator_scale * 0.5 * self.adversarial.judged(logits, real, *self._weights(logits, condition))

    def generator(
        self,
        logits: torch.Tensor,
        images: torch.Tensor,
        real: torch.Tensor,
        condition: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """L_j(ŷ) as a float32 scalar to back-propagate, and its active terms: detached, neither weighted nor scaled.

        The terms are named "adversarial", "l1" and "perceptual". The condition is as for :meth:`discriminator`.
        """
        if images.shape != real.shape:
            # l1_loss would broadcast, with a warning that nobody sees in a long run.
            raise ValueError(
                f"synthetic and real images: expected one shape, got {tuple(images.shape)} and {tuple(real.shape)}"
            )
        terms = {"adversarial": self.adversarial.generator(logits, *self._weights(logits, condition))}
        total = terms["adversarial"]
        if self.l1_weight > 0:
            terms["l1"] = F.l1_loss(images.float(), real.float())
            total = total + self.l1_weight * terms["l1"]
        if self.perceptual is not None:
            terms["perceptual"] = self.perceptual(images, real)
            total = total + self.perceptual_weight * terms["perceptual"]
        return self.generator_scale * total, {name: term.detach() for name, term in terms.items()}

    def _weights(self, logits: torch.Tensor, condition: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        """A further argument for the criterion, none without class weights: criteria of others need not take it."""
        if self.class_weights is None:
            return ()
        if condition is None or condition.shape[1] + 1 != len(self.class_weights):
            found = "no condition" if condition is None else f"a condition of {condition.shape[1]}"
            raise ValueError(
                f"class_weights: {len(self.class_weights)} are for a condition of {len(self.class_weights) - 1} "
                f"channels and the background, got {found}"
            )
        weights = torch.tensor(self.class_weights, device=condition.device)
        several = candidates(condition, self.num_classes)
        if several is None:
            weights = weights[pixel_classes(condition)]
        else:
            share = several.float() / several.sum(dim=1, keepdim=True)
            weights = (share * weights.view(1, -1, 1, 1)).sum(dim=1, keepdim=True)
        return (F.adaptive_avg_pool2d(weights, logits.shape[-2:]).expand_as(logits),)

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the active terms of L_j."""
        paired = {"l1": self.l1_weight > 0, "perceptual": self.perceptual is not None}
        return ("adversarial", *(name for name, on in paired.items() if on))

    def describe(self) -> str:
        """The loss in a line, of active terms only.

        >>> SiteLoss(AdversarialLoss("vanilla")).describe()
        'vanilla adversarial + 100·L1'
        """
        text = f"{self.adversarial.criterion.replace('_', ' ')} adversarial"
        if self.class_weights is not None:
            text += f" (classes {':'.join(f'{weight:g}' for weight in self.class_weights)})"
        if self.l1_weight > 0:
            text += f" + {self.l1_weight:g}·L1"
        if self.perceptual is not None:
            text += f" + {self.perceptual_weight:g}·perceptual"
        if self.generator_scale != 1 or self.discriminator_scale != 1:
            text += f"; scaled by {self.generator_scale:g} (G) and {self.discriminator_scale:g} (D)"
        return text
