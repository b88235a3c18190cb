"""A critic whose every update hides whether any one patient was there: DP-SGD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.func import functional_call

from bundle.losses import SiteLoss
from bundle.site.critic import Critic
from bundle.site.noised_updates import Loss, Nobodys, NoisedUpdates, Pairs
from bundle.site.patients import Patients
from bundle.site.release import ReleaseGate
from bundle.site.release.secret import commitment
from bundle.site.release.spending import Planned

__all__ = ["PrivateCritic"]


class PrivateCritic:
    """
    A :class:`bundle.site.Critic` that learns by DP-SGD (:class:`bundle.site.noised_updates.NoisedUpdates`) with
    patients as units, as Bie, Kamath and Zhang 2022 have it for GANs (https://arxiv.org/abs/2302.02936): D's weights
    are private, and so is all that follows from them, image gradients and the generator's loss among it.

    Real samples are clipped and get noise. Synthetic ones, which are nobody's, are clipped alike, so that neither half
    outweighs the other.

    Args:
        critic: what learns. Its network has to treat every sample of a batch by itself.
        patients: of the site.
        gate: of a policy whose mechanism is ``dp_sgd``.
        updates: of D, a step.

    Raises:
        ValueError: for a number of updates below 1.
        ReleaseRefused: for a network that mixes samples, too few patients for ``patients_per_update`` or for ε
            (``max_noise``), or a patient who has most of the samples.
    """

    def __init__(self, critic: Critic, patients: Patients, gate: ReleaseGate, updates: int | None = None) -> None:
        self.updates = 1 if updates is None else updates
        if self.updates < 1:
            raise ValueError(f"discriminator_updates: expected at least 1 or None, got {updates}")
        self.critic = critic
        self.patients = patients
        self.gate = gate
        self.noised = NoisedUpdates(
            critic.discriminator, critic.optimizer, patients, gate, critic.device, critic.augmentation
        )
        self._taught = 0
        self._largest = self.noised.size
        self._made = 0  # updates in the ledger when D was updated last
        self.noised.check(self.all_updates, "discriminator")
        self.plan(gate)

    @property
    def loss(self) -> SiteLoss:
        return self.critic.loss

    @loss.setter
    def loss(self, loss: SiteLoss) -> None:
        self.critic.loss = loss

    @property
    def device(self) -> torch.device:
        return self.critic.device

    @property
    def discriminator(self) -> torch.nn.Module:
        return self.critic.discriminator

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return self.critic.optimizer

    @property
    def all_updates(self) -> int:
        """Of a whole training, those of the site's teacher among them; 0 where nobody knows its number of steps."""
        return self._taught + self.gate.num_steps * self.updates if self.gate.num_steps else 0

    def plan(self, gate: ReleaseGate) -> None:
        """Learn by what another gate lets it."""
        self.gate = self.noised.gate = gate
        rate = gate.policy.patients_per_update / len(self.patients)
        gate.spending.planned = Planned(rate, self.updates, self._taught, self._largest)

    def beside(self, taught: int, weights: int) -> None:
        """
        Share the site's ε with a teacher.

        Args:
            taught: updates of the teacher, before the first step.
            weights: how many the teacher has.

        Raises:
            ReleaseRefused: when that leaves too much noise for D (``max_noise``).
        """
        self._taught, self._largest = taught, max(self._largest, weights)
        self.noised.check(self.all_updates, "discriminator")
        self.plan(self.gate)

    def blank(self, count: int) -> dict[str, torch.Tensor]:
        """Zeros in the place of so many samples, of their shapes and dtypes."""
        sample = self.patients.samples[0]
        return {
            key: torch.zeros(count, *sample[key].shape, dtype=torch.as_tensor(sample[key]).dtype)
            for key in ("condition", "image")
        }

    def update(self, real: Pairs, synthetic: Pairs, step: int) -> None:
        """As :meth:`Critic.update`, several times over; ``real`` says no more than dtype and device."""
        noised = self.gate.spending.update(step)
        self._made = noised.first + self.updates
        self.critic.set_rate(step)
        nobodys = Nobodys((synthetic[0], synthetic[1].detach()), self.loss_of(real=False))
        for number in range(self.updates):
            self.noised.update(noised.first + number, noised.noise, self.loss_of(real=True), nobodys)

    def gradient(
        self, condition: torch.Tensor, images: torch.Tensor, real: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """As :meth:`Critic.gradient`; ``real`` is not looked at."""
        return self.critic.gradient(condition, images, images)

    def state_dict(self) -> dict:
        made = {"secret": commitment(self.gate.secret), "updates": self._made}
        return self.critic.state_dict() | {"private": made}

    def load_state_dict(self, state: dict) -> None:
        """
        Raises:
            ValueError: when a finite ε would not cover it: it was made under another mechanism, or with another ledger.
        """
        made = state.get("private")
        if self.gate.spending.budget.bounded and not (made and self._covers(made)):
            raise ValueError(
                f"site {self.gate.site}: its checkpoint was made by updates that its ledger does not have, and epsilon "
                "would not cover it: bring back the ledger and the secret that it was made with, or remove the "
                "checkpoints"
            )
        self.critic.load_state_dict(state)
        self._made = made["updates"] if made else 0

    def loss_of(self, real: bool) -> Loss:
        """D's loss on one sample, real or synthetic."""

        def loss(weights: dict[str, torch.Tensor], condition: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
            layers = self.critic.inferer(
                torch.cat([condition, image])[None], lambda pair: functional_call(self.discriminator, weights, (pair,))
            )
            logits = layers[-1] if isinstance(layers, list | tuple) else layers
            return self.loss.judged(logits, real, condition[None])

        return loss

    def _covers(self, made: Mapping[str, Any]) -> bool:
        known = made["secret"] == commitment(self.gate.secret)
        return known and (not made["updates"] or made["updates"] <= self.gate.spending.updates)
