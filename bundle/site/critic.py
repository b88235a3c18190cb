"""What learns at a site: its discriminator, and what that says of synthetic images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.inferers import Inferer, SimpleInferer

from bundle.losses import DiscriminatorAugmentation, SiteLoss
from bundle.networks import for_image_channels

__all__ = ["Critic"]


class Critic:
    """
    The discriminator D_j of a site with its optimiser and its losses. It knows no other site, no server and no policy.

    Args:
        discriminator: makes D_j on the channels of (x, y), which returns logits, or a list of layers with the logits
            last; in a config a component with ``_mode_: callable``. Nothing else here draws random numbers when it is
            made: :func:`bundle.seeding.seeded` around the whole seeds the weights.
        optimizer: makes an optimiser from D_j's parameters.
        loss: what to compute on (x, y, ŷ).
        augmentation: of all that D_j sees; None for none. It draws from torch's random stream.
        inferer: how D_j is called; :class:`bundle.engines.AutocastInferer` for mixed precision.
        schedule: factor on the optimiser's learning rate as a function of the steps done; None for a constant rate.
        device: where all is computed.
        lacking: how many of the modalities the site does not have; D_j is made without their channels
            (:func:`bundle.networks.for_image_channels`).

    Conditions are B×X×H×W of 0 and 1, images B×C×H×W in [-1, 1], both of one floating dtype and on ``device``.

    Raises:
        ValueError: when ``discriminator`` is a network already, whose weights have been drawn, or one that cannot be
            made for fewer channels.
    """

    def __init__(
        self,
        discriminator: Callable[[], torch.nn.Module],
        optimizer: Callable[..., torch.optim.Optimizer],
        loss: SiteLoss,
        augmentation: DiscriminatorAugmentation | None = None,
        inferer: Inferer | None = None,
        schedule: Callable[[int], float] | None = None,
        device: torch.device | str = "cpu",
        lacking: int = 0,
    ) -> None:
        if isinstance(discriminator, torch.nn.Module):
            raise ValueError(
                "the definition of the discriminator needs `_mode_: callable`, so that its weights can be seeded"
            )
        self.device = torch.device(device)
        self.discriminator = for_image_channels(discriminator, lacking)().to(self.device)
        self.optimizer = optimizer(self.discriminator.parameters())
        self.loss = loss.to(self.device)  # a perceptual term has a network of its own
        self.augmentation = augmentation
        self.inferer = SimpleInferer() if inferer is None else inferer
        self.schedule = schedule
        self._base_rates = [group["lr"] for group in self.optimizer.param_groups]

    def update(
        self, real: tuple[torch.Tensor, torch.Tensor], synthetic: tuple[torch.Tensor, torch.Tensor], step: int
    ) -> float:
        """
        Update D_j once.

        Args:
            real, synthetic: a condition and an image each; no gradient flows into either.
            step: the step, from 1, for the schedule.

        Returns:
            The discriminator's loss, before the update.
        """
        self.set_rate(step)
        self.optimizer.zero_grad(set_to_none=True)
        (real_logits, real_seen), (synthetic_logits, synthetic_seen) = (
            self.judge(condition, images.detach()) for condition, images in (real, synthetic)
        )
        loss = self.loss.discriminator(real_logits, synthetic_logits, real_seen, synthetic_seen)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def set_rate(self, step: int) -> None:
        """Give the optimiser the learning rate of a step, from 1."""
        if self.schedule is not None:
            for group, rate in zip(self.optimizer.param_groups, self._base_rates, strict=True):
                group["lr"] = rate * self.schedule(step - 1)

    def gradient(
        self, condition: torch.Tensor, images: torch.Tensor, real: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """
        What D_j, as it is, says of synthetic images; it does not change.

        Args:
            condition: x, what the images were made of.
            images: ŷ, which the gradient ends at.
            real: y, which ŷ is compared with.

        Returns:
            ∂L_j/∂ŷ, of the shape and dtype of ``images``, and the terms of L_j by name, neither weighted nor scaled.

        Raises:
            ValueError: see :meth:`bundle.losses.SiteLoss.generator`.
        """
        images = images.detach().requires_grad_(True)
        self.discriminator.requires_grad_(False)
        try:
            logits, seen = self.judge(condition, images)
            total, terms = self.loss.generator(logits, images, real, seen)
            (gradient,) = torch.autograd.grad(total, images)
        finally:
            self.discriminator.requires_grad_(True)
        return gradient, {name: value.item() for name, value in terms.items()}

    def judge(self, condition: torch.Tensor, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The logits of D_j, and the condition as D_j saw it; neither D_j nor its optimiser changes."""
        if self.augmentation is not None:
            condition, images = self.augmentation(condition, images)
        layers = self.inferer(torch.cat([condition, images], dim=1), self.discriminator)
        return layers[-1] if isinstance(layers, list | tuple) else layers, condition

    def state_dict(self) -> dict:
        return {"discriminator": self.discriminator.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])
