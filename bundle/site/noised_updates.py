"""DP-SGD of one network of a site: who is drawn, what is clipped, and the noise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch.func import grad, vmap

from bundle.seeding import forked_rng
from bundle.site.patients import Patients
from bundle.site.release import ReleaseGate, tensor_digest
from bundle.site.release.needs import too_few_patients
from bundle.site.release.noise import add_noise, clip_per_example
from bundle.site.release.secret import SecretStream

__all__ = ["NOT_ALLOWED", "Loss", "Nobodys", "NoisedUpdates", "Pairs"]

NOT_ALLOWED = "its release policy does not allow this training; its log says why"
MAX_NUMBERS = 2**24
"""Of gradients of single samples that are in memory at once."""

Pairs = tuple[torch.Tensor, torch.Tensor]
"""Conditions B×X×H×W and images B×C×H×W."""

Loss = Callable[[dict[str, torch.Tensor], torch.Tensor, torch.Tensor], torch.Tensor]
"""Of the network's weights by name, a condition X×H×W and an image C×H×W: a scalar."""


class Nobodys(NamedTuple):
    """
    Samples that are of no patient, and what they are learned by.

    Attributes:
        pairs: the samples.
        loss: of one of them.
    """

    pairs: Pairs
    loss: Loss


class NoisedUpdates:
    """
    Updates of a network after which it hides whether any one patient was there (Abadi et al. 2016,
    https://arxiv.org/abs/1607.00133).

    An update draws every patient with probability q, by the site's secret, and one sample of each who is drawn. The
    gradient of the loss on each sample is clipped to C, they are added up, and noise N(0, (σC)²) comes to every number
    of the sum, which is divided by the number of patients that are drawn on average. Samples of nobody are clipped
    alike, and their mean is added; they get no noise.

    Noise and draws are of the site's secret, the role, the number of the update in the ledger, the weights and the
    samples of nobody, noise of its strength and the sum that it hides as well: whatever differs gets other noise, and
    what does not tells nothing new. So updates that are made again have the bits that they had.

    Args:
        network: what learns. It has to treat every sample of a batch by itself.
        optimizer: of its weights.
        patients: of the site.
        gate: of a policy whose mechanism is ``dp_sgd``.
        device: where all is computed.
        augmentation: of all samples, random; None for none.
        role: what the network is to the site, where it has another that learns so: their draws and noise are apart.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        patients: Patients,
        gate: ReleaseGate,
        device: torch.device,
        augmentation: Callable[..., Pairs] | None = None,
        role: str = "",
    ) -> None:
        self.network = network
        self.optimizer = optimizer
        self.patients = patients
        self.gate = gate
        self.device = device
        self.augmentation = augmentation
        self._role = (role,) if role else ()
        self._weights = dict(network.named_parameters())

    @property
    def size(self) -> int:
        """Number of weights."""
        return sum(weight.numel() for weight in self._weights.values())

    def update(self, number: int, noise: float, loss: Loss, nobodys: Nobodys | None = None) -> None:
        """
        Args:
            number: of the update in the ledger, which no other has.
            noise: multiplier σ; 0 for none.
            loss: of one sample of a patient.
            nobodys: samples of nobody; None for none.
        """
        policy = self.gate.policy
        at = (number, tensor_digest(*self._weights.values(), *(nobodys.pairs if nobodys else ())))
        drawn = self.patients.drawn(self.gate.spending.planned.rate, self._stream("patients", *at))
        seed = int.from_bytes(self._stream("augmentation", *at)(4), "big")
        # of its own: how many were drawn would tell by what the run's stream says next
        with forked_rng(seed, self.device):
            found = self.clipped_sum(self.batches(drawn), loss)
            mean = self.clipped_sum([nobodys.pairs], nobodys.loss) / len(nobodys.pairs[0]) if nobodys else 0.0
        if noise:
            # how much there is of it, too: a ledger that was lost would have the same numbers noised by less
            strength = repr((noise, policy.clip_norm, self.gate.spending.planned.rate))
            source = self._stream("noise", *at, strength, tensor_digest(found))
            found = add_noise(found, noise * policy.clip_norm, source).double()
        self._descend(found / policy.patients_per_update + mean)

    def batches(self, drawn: Sequence) -> Iterator[Pairs]:
        """Those drawn, as many at once as there is room for, of one shape each."""
        most = self._at_once()
        for _, alike in groupby(map(self.patients.samples.__getitem__, drawn), lambda sample: sample["image"].shape):
            waiting = [(torch.as_tensor(sample["condition"]), torch.as_tensor(sample["image"])) for sample in alike]
            for first in range(0, len(waiting), most):
                condition, image = (torch.stack(part) for part in zip(*waiting[first : first + most], strict=True))
                yield condition.to(self.device, image.dtype), image.to(self.device)

    def clipped_sum(self, batches: Iterable[Pairs], loss: Loss) -> torch.Tensor:
        """
        Of the gradients of the loss on single samples, each clipped: P float64 on the CPU. Opacus' hooks compute the
        same gradients; torch.func does in two thirds of the time, and without a second network about.
        """
        total = torch.zeros(self.size, dtype=torch.float64)
        for condition, images in batches:
            if self.augmentation is not None:
                condition, images = self.augmentation(condition, images)
            for part in zip(condition.split(self._at_once()), images.split(self._at_once()), strict=True):
                gradients = vmap(grad(loss), (None, 0, 0), randomness="different")(
                    {name: weight.detach() for name, weight in self._weights.items()}, *part
                )
                flat = torch.cat([gradients[name].flatten(1) for name in self._weights], dim=1)
                clipped = clip_per_example(flat.float()[:, :, None, None], self.gate.policy.clip_norm)
                total += clipped.double().sum(dim=0).flatten().cpu()
        return total

    def check(self, updates: int, called: str) -> None:
        """
        Args:
            updates: of a whole training, with those of other networks; 0 where that is not known.
            called: what the network is called.

        Raises:
            ReleaseRefused: when the network cannot learn so: it mixes samples, patients are too few, or one has most of
                the samples. How many there are is the owner's to know, and not said to the server.
        """
        if objection := self._objection(updates, called):
            self.gate.refuse("a training that the policy forbids", objection, final=True, sent=NOT_ALLOWED)

    def _objection(self, updates: int, called: str) -> str:
        policy, patients, samples = self.gate.policy, self.patients, len(self.patients.samples)
        if mixing := _mixing_layers(self.network):
            return f"dp_sgd needs a {called} that treats every sample by itself, and it has {mixing}"
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
        return too_few_patients(policy, len(patients), updates, self.size, called) if updates else ""

    def _stream(self, *purpose: str | int) -> SecretStream:
        return SecretStream(self.gate.secret, *self._role, *purpose)

    def _descend(self, gradient: torch.Tensor) -> None:
        sizes = [weight.numel() for weight in self._weights.values()]
        for weight, part in zip(self._weights.values(), gradient.split(sizes), strict=True):
            weight.grad = part.view_as(weight).to(weight.device, weight.dtype)
        self.optimizer.step()

    def _at_once(self) -> int:
        return max(1, MAX_NUMBERS // self.size)


def _mixing_layers(network: torch.nn.Module) -> str:
    """What of a network keeps DP-SGD from it, by Opacus' validators; empty where nothing does."""
    from opacus.validators import ModuleValidator

    if any(torch.nn.utils.parametrize.is_parametrized(module) for module in network.modules()):
        return "parametrized weights, such as spectral normalization"
    wrong = ModuleValidator.validate(network.train(), strict=False)
    return str(wrong[0]).splitlines()[0] if wrong else ""
