"""A critic whose every update hides whether any one patient was there: DP-SGD."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch.func import functional_call, grad, vmap

from bundle.losses import SiteLoss
from bundle.seeding import forked_rng
from bundle.site.critic import Critic
from bundle.site.patients import Patients
from bundle.site.release import ReleaseGate, tensor_digest
from bundle.site.release.needs import too_few_patients
from bundle.site.release.noise import add_noise, clip_per_example
from bundle.site.release.secret import SecretStream, commitment
from bundle.site.release.spending import Noised, Planned

__all__ = ["PrivateCritic"]

MAX_NUMBERS = 2**24
"""Of gradients of single samples that are in memory at once."""

Pairs = tuple[torch.Tensor, torch.Tensor]


class PrivateCritic:
    """
    A :class:`bundle.site.Critic` that learns by DP-SGD (Abadi et al. 2016, https://arxiv.org/abs/1607.00133) with
    patients as units, as Bie, Kamath and Zhang 2022 have it for GANs (https://arxiv.org/abs/2302.02936): D's weights
    are private, and so is all that follows from them, image gradients and the generator's loss among it.

    An update draws every patient with probability q, by the site's secret, and one sample of each who is drawn. The
    gradient of D's loss on each sample is clipped to C, they are added up, and noise N(0, (σC)²) comes to every number
    of the sum, which is divided by the number of patients that are drawn on average. Synthetic samples, which are
    nobody's, are clipped alike, and their mean is added, so that neither half outweighs the other; they get no noise.

    Noise and draws are of the site's secret, the number of the update in the ledger, D's weights and the synthetic
    batch, noise of the sum that it hides as well: whatever differs gets other noise, and what does not tells nothing
    new. So a training that goes on has the bits of one that was not interrupted.

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
        self._made = 0  # updates in the ledger when D was updated last
        self._weights = dict(critic.discriminator.named_parameters())
        if objection := self._objection():
            gate.refuse("a training that the policy forbids", objection, final=True)
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

    def plan(self, gate: ReleaseGate) -> None:
        """Learn by what another gate lets it."""
        self.gate = gate
        gate.spending.planned = Planned(gate.policy.patients_per_update / len(self.patients), self.updates)

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
        for number in range(self.updates):
            self._update(noised, noised.first + number, (synthetic[0], synthetic[1].detach()))

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

    def _covers(self, made: Mapping[str, Any]) -> bool:
        known = made["secret"] == commitment(self.gate.secret)
        return known and (not made["updates"] or made["updates"] <= self.gate.spending.updates)

    def _update(self, noised: Noised, number: int, synthetic: Pairs) -> None:
        secret, policy = self.gate.secret, self.gate.policy
        at = (number, tensor_digest(*self._weights.values(), *synthetic))
        drawn = self.patients.drawn(self.gate.spending.planned.rate, SecretStream(secret, "patients", *at))
        seed = int.from_bytes(SecretStream(secret, "augmentation", *at)(4), "big")
        # of its own: how many were drawn would tell by what the run's stream says next
        with forked_rng(seed, self.device):
            found = self._clipped_sum(self._batches(drawn), real=True)
            mean = self._clipped_sum([synthetic], real=False) / len(synthetic[0])
        if noised.noise:
            source = SecretStream(secret, "noise", *at, tensor_digest(found))
            found = add_noise(found, noised.noise * policy.clip_norm, source).double()
        self._descend(found / policy.patients_per_update + mean)

    def _batches(self, drawn: Sequence) -> Iterator[Pairs]:
        """Those drawn, as many at once as there is room for, of one shape each."""
        most = self._at_once()
        for _, alike in groupby(map(self.patients.samples.__getitem__, drawn), lambda sample: sample["image"].shape):
            waiting = [(torch.as_tensor(sample["condition"]), torch.as_tensor(sample["image"])) for sample in alike]
            for first in range(0, len(waiting), most):
                condition, image = (torch.stack(part) for part in zip(*waiting[first : first + most], strict=True))
                yield condition.to(self.device, image.dtype), image.to(self.device)

    def _clipped_sum(self, batches: Sequence[Pairs] | Iterator[Pairs], real: bool) -> torch.Tensor:
        """Of the gradients of D's loss on single samples, each clipped: P float64 on the CPU."""
        total = torch.zeros(sum(weight.numel() for weight in self._weights.values()), dtype=torch.float64)
        for condition, images in batches:
            if self.critic.augmentation is not None:
                condition, images = self.critic.augmentation(condition, images)
            for part in zip(condition.split(self._at_once()), images.split(self._at_once()), strict=True):
                gradients = vmap(grad(self._loss(real)), (None, 0, 0), randomness="different")(
                    {name: weight.detach() for name, weight in self._weights.items()}, *part
                )
                flat = torch.cat([gradients[name].flatten(1) for name in self._weights], dim=1)
                clipped = clip_per_example(flat.float()[:, :, None, None], self.gate.policy.clip_norm)
                total += clipped.double().sum(dim=0).flatten().cpu()
        return total

    def _loss(self, real: bool) -> Callable[..., torch.Tensor]:
        """
        D's loss on one sample, as a function of D's weights. Opacus' hooks compute the same gradients; torch.func does
        in two thirds of the time, and without a second network about.
        """

        def loss(weights: dict[str, torch.Tensor], condition: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
            layers = self.critic.inferer(
                torch.cat([condition, image])[None], lambda pair: functional_call(self.discriminator, weights, (pair,))
            )
            logits = layers[-1] if isinstance(layers, list | tuple) else layers
            return self.loss.judged(logits, real, condition[None])

        return loss

    def _descend(self, gradient: torch.Tensor) -> None:
        sizes = [weight.numel() for weight in self._weights.values()]
        for weight, part in zip(self._weights.values(), gradient.split(sizes), strict=True):
            weight.grad = part.view_as(weight).to(weight.device, weight.dtype)
        self.optimizer.step()

    def _at_once(self) -> int:
        return max(1, MAX_NUMBERS // sum(weight.numel() for weight in self._weights.values()))

    def _objection(self) -> str:
        policy, patients, samples = self.gate.policy, self.patients, len(self.patients.samples)
        if mixing := _mixing_layers(self.discriminator):
            return f"dp_sgd needs a discriminator that treats every sample by itself, and it has {mixing}"
        if policy.patients_per_update > len(patients):
            return (
                f"a sampling rate above 1: {policy.patients_per_update} patients_per_update, and the site has "
                f"{len(patients)}"
            )
        # of one or two it is nothing to wonder at
        if len(patients) > 2 and 2 * patients.largest > samples:
            return (
                f"one patient has {patients.largest} of its {samples} samples: as one of {len(patients)} patients he "
                "would stand for most of them. See that the data list says whose they are"
            )
        weights = sum(weight.numel() for weight in self._weights.values())
        updates = (self.gate.num_steps or 0) * self.updates
        return too_few_patients(policy, len(patients), updates, weights) if updates else ""


def _mixing_layers(network: torch.nn.Module) -> str:
    """What of a network keeps DP-SGD from it, by Opacus' validators; empty where nothing does."""
    from opacus.validators import ModuleValidator

    if any(torch.nn.utils.parametrize.is_parametrized(module) for module in network.modules()):
        return "parametrized weights, such as spectral normalization"
    wrong = ModuleValidator.validate(network.train(), strict=False)
    return str(wrong[0]).splitlines()[0] if wrong else ""
