"""A site's step as a differentiable function of the real images."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch.func import functional_call

from bundle.audit.site_queries import Asker
from bundle.seeding import derive_seed, forked_rng
from bundle.site import Site

__all__ = ["Simulation"]


class Simulation:
    """
    What a site would return for ŷ if its real images were a guess: one update of its discriminator on (x, guess)
    against (x, ŷ), and then ∂L_j/∂ŷ. In the precision that the site computes in.

    Of a site whose initial weights follow from the run's seed, a server knows all that it takes. Of another, it has to
    be given the discriminator and the state of its optimiser: a stronger assumption.

    Args:
        site: the site, which is copied as it is before the step; its samples are not.
        asker: how the site is asked.

    Raises:
        ValueError: for another optimiser than Adam, or SGD without momentum.
        Refused: when the site does not take part.
    """

    def __init__(self, site: Site, asker: Asker) -> None:
        kind = type(site.critic.optimizer)
        if kind not in _UPDATES or site.critic.optimizer.defaults.get("momentum"):
            raise ValueError(f"optimizer: expected Adam, or SGD without momentum, got {kind.__name__}")
        self._update = _UPDATES[kind]
        asker.open()
        critic = site.critic
        self.conditions = asker.conditions.to(critic.device, torch.float32)
        self._network = deepcopy(critic.discriminator)
        self._loss, self._augmentation, self._inferer = critic.loss, critic.augmentation, critic.inferer
        self._clip_norm = site.policy.clip_norm
        self._draws = derive_seed(site.seed, "site", site.name, asker.step)
        self._group = {key: value for key, value in critic.optimizer.param_groups[0].items() if key != "params"}
        if critic.schedule is not None:
            self._group["lr"] = critic.optimizer.defaults["lr"] * critic.schedule(asker.step - 1)
        weights = critic.discriminator.parameters()
        self._state = [deepcopy(critic.optimizer.state.get(weight, {})) for weight in weights]

    def gradient(self, guess: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """
        Args:
            guess: B×C×H×W float32, of the real images.
            images: ŷ, B×C×H×W float32 in [-1, 1].

        Returns:
            B×C×H×W float32, the image gradient that the site would return, but for noise. It can be differentiated by
            ``guess``; where an optimiser's update is all but flat, as Adam's first is, the derivative is that of a
            smoother one (straight through: Bengio et al. 2013, https://arxiv.org/abs/1308.3432).
        """
        images = images.detach().clone().requires_grad_(True)
        before = dict(self._network.named_parameters())
        # the very draws of the site, in its order: for the real images, the synthetic ones, and these again
        with forked_rng(self._draws, images.device):
            (real_logits, real_seen), (synthetic_logits, synthetic_seen) = (
                self._judge(before, one) for one in (guess, images.detach())
            )
            loss = self._loss.discriminator(real_logits, synthetic_logits, real_seen, synthetic_seen)
            slopes = torch.autograd.grad(loss, list(before.values()), create_graph=True)
            after = {
                name: weight.detach() - self._group["lr"] * self._update(self._group, state, slope)
                for (name, weight), state, slope in zip(before.items(), self._state, slopes, strict=True)
            }
            logits, seen = self._judge(after, images)
            total, _ = self._loss.generator(logits, images, guess, seen)
        (gradient,) = torch.autograd.grad(total, images, create_graph=True)
        if self._clip_norm is not None:
            norms = torch.linalg.vector_norm(gradient.flatten(1), dim=1).clamp(min=1e-30)
            gradient = gradient * (self._clip_norm / norms).clamp(max=1).view(-1, 1, 1, 1)
        return gradient

    def _judge(self, weights: dict[str, torch.Tensor], images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        condition = self.conditions
        if self._augmentation is not None:
            condition, images = self._augmentation(condition, images)
        layers = self._inferer(
            torch.cat([condition, images], dim=1), lambda inputs: functional_call(self._network, weights, (inputs,))
        )
        return layers[-1] if isinstance(layers, list | tuple) else layers, condition


def _sgd(group: dict, state: dict, slope: torch.Tensor) -> torch.Tensor:
    return slope


def _adam(group: dict, state: dict, slope: torch.Tensor) -> torch.Tensor:
    """Adam's step by the learning rate (Kingma & Ba 2015, algorithm 1), whose first is little else than a sign."""
    first, second = group["betas"]
    done = int(state.get("step", 0)) + 1
    mean = first * state.get("exp_avg", 0) + (1 - first) * slope
    square = second * state.get("exp_avg_sq", 0) + (1 - second) * slope.detach().square()
    mean, size = mean / (1 - first**done), (square / (1 - second**done)).sqrt()
    exact = mean.detach() / (size + group["eps"])
    smooth = mean / (size + size.square().mean().sqrt() + group["eps"])
    return exact + smooth - smooth.detach()


_UPDATES = {torch.optim.SGD: _sgd, torch.optim.Adam: _adam}
