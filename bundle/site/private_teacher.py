"""A regression network of a site that learns by DP-SGD: its weights leave, once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from monai.inferers import Inferer, SimpleInferer
from torch.func import functional_call
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from bundle.networks import for_image_channels
from bundle.seeding import seeded
from bundle.site.noised_updates import NoisedUpdates
from bundle.site.private_critic import PrivateCritic
from bundle.site.release.secret import SecretStream, commitment
from bundle.site.release.spending import Noised
from bundle.site.release.teacher_release import begin_teaching, release_teacher, weights_that_left
from bundle.site.store import SiteStore
from bundle.wire.messages import ConditionRequest, TaughtWeights
from bundle.wire.weights import pack_weights

__all__ = ["PrivateTeacher"]

logger = logging.getLogger(__name__)


class PrivateTeacher:
    """
    A small regression network R, trained by DP-SGD (:class:`bundle.site.noised_updates.NoisedUpdates`) before the first
    step, by L1 on one random slice of every patient who is drawn. Its weights are private, and so is whatever it
    predicts: they leave once, and the server asks R, instead of the site, what an image of a condition looks like.

    R shares the site's ε with the critic: all updates of a training are planned with one noise. Draws, noise and
    initial weights come from the site's secret and the ledger, so that training again gives the same bits. R learns
    from sums of clipped gradients; of how many pixels a loss is a mean does not matter where all are clipped, so it is
    their sum, and every patient counts alike.

    Args:
        critic: of the site, whose patients and way out it shares.
        name: of the site.
        network: makes R, from conditions B×X×H×W of 0 and 1 to images B×C×H×W in [-1, 1]; in a config a component with
            ``_mode_: callable``. Of few weights: the noise is on each of them.
        optimizer: makes an optimiser from its parameters.
        num_steps: of R: updates with noise.
        inferer: how it is called; :class:`bundle.engines.AutocastInferer` for mixed precision.
        schedule: factor on the learning rate as a function of the steps done; None for a constant rate.
        store: keeps R when it is trained; None for none.
        device: where all is computed.
        lacking: how many of the modalities the site does not have; R is made without their channels
            (:func:`bundle.networks.for_image_channels`).

    Raises:
        ValueError: for fewer than one step, or a network that cannot be made for fewer channels.
        ReleaseRefused: for a network that mixes samples, or one on which, or on the discriminator beside which, the
            noise would be above ``max_noise``.
    """

    def __init__(
        self,
        critic: PrivateCritic,
        name: str,
        network: Callable[[], torch.nn.Module],
        optimizer: Callable[..., torch.optim.Optimizer],
        num_steps: int,
        inferer: Inferer | None = None,
        schedule: Callable[[int], float] | None = None,
        store: SiteStore | None = None,
        device: torch.device | str = "cpu",
        lacking: int = 0,
    ) -> None:
        if num_steps < 1:
            raise ValueError(f"site {name}: expected private_teacher_steps of at least 1, got {num_steps}")
        self.critic = critic
        self.name = name
        self.num_steps = num_steps
        self.device = torch.device(device)
        self._network = for_image_channels(network, lacking, ("out_channels",))
        self._optimizer = optimizer
        self._inferer = SimpleInferer() if inferer is None else inferer
        self._schedule = schedule
        self._store = store
        self._packed: torch.Tensor | None = None
        begun = self._begun()
        self.size = begun.size
        critic.beside(num_steps, self.size)
        begun.check(critic.all_updates, "teacher")

    def prepare(self) -> None:
        """
        Train R where it is not trained yet. Its updates are in the ledger before the first of them is made. Weights
        that have left are not trained again.

        Raises:
            RuntimeError: when they are not finite.
            ReleaseRefused: when ε does not allow them, or those that have left are lost.
            LedgerError, OSError: when the ledger cannot be written.
        """
        if self._packed is None:
            noised = begin_teaching(self.critic.gate)
            self._packed = weights_that_left(self.critic.gate)
            if self._packed is None:
                self._packed = self._pack(self._kept(noised) or self._train(noised))

    def release(self, request: ConditionRequest) -> TaughtWeights:
        """
        R's weights as they leave, written down, in the place of the conditions that were asked for.

        Raises:
            RuntimeError, ReleaseRefused, LedgerError, OSError: as :meth:`prepare`; when others have left.
        """
        self.prepare()
        assert self._packed is not None
        release_teacher(self.critic.gate, self._packed)
        return TaughtWeights(self.name, request.start, torch.empty(0, dtype=torch.uint8), self._packed)

    def _pack(self, network: torch.nn.Module) -> torch.Tensor:
        weights = network.state_dict()
        if not all(torch.isfinite(weight).all() for weight in weights.values()):
            raise RuntimeError(f"site {self.name}: the teacher's weights are not finite: see private_teacher_lr")
        return pack_weights(weights)

    def _begun(self) -> NoisedUpdates:
        """R as it begins: after an interruption, too, or the same updates would be made on other weights."""
        gate = self.critic.gate
        # by SHAKE: the weights leave, and what they began with must tell nothing of the secret
        start = int.from_bytes(SecretStream(gate.secret, "teacher", "weights")(4), "big")
        network = seeded(self._network, start, "teacher", self.name).to(self.device).train()
        optimizer = self._optimizer(network.parameters())
        return NoisedUpdates(network, optimizer, self.critic.patients, gate, self.device, role="teacher")

    def _train(self, noised: Noised) -> torch.nn.Module:
        begun, told = self._begun(), f"site {self.name}: teacher"
        loss = partial(self._loss, begun.network)
        rates = LambdaLR(begun.optimizer, self._schedule or (lambda _: 1.0))
        for step in tqdm(range(self.num_steps), desc=told, unit="step", disable=None, leave=False):
            begun.update(noised.first + step, noised.noise, loss)
            rates.step()
        logger.info("%s of %d weights is trained by %d updates with noise", told, self.size, self.num_steps)
        if self._store is not None:
            state = {"network": begun.network.state_dict()}
            self._store.save_part(self._file(noised), state, self._identity(noised))
        return begun.network

    def _loss(
        self,
        network: torch.nn.Module,
        weights: dict[str, torch.Tensor],
        condition: torch.Tensor,
        image: torch.Tensor,
    ) -> torch.Tensor:
        predicted = self._inferer(condition[None], lambda x: functional_call(network, weights, (x,)))[0]
        if predicted.shape != image.shape:
            raise RuntimeError(
                f"site {self.name}: the teacher's image is {tuple(predicted.shape)} for one of {tuple(image.shape)}: "
                "see private_teacher_def"
            )
        return F.l1_loss(predicted.float(), image, reduction="sum")

    def _kept(self, noised: Noised) -> torch.nn.Module | None:
        state = None if self._store is None else self._store.load_part(self._file(noised), self._identity(noised))
        if state is None:
            return None
        network = self._begun().network
        network.load_state_dict(state["network"])
        return network

    @staticmethod
    def _file(noised: Noised) -> str:
        return f"teacher_{noised.first}"

    def _identity(self, noised: Noised) -> dict[str, Any]:
        made = {"first": noised.first, "noise": noised.noise, "updates": self.num_steps}
        return {"role": "teacher", "site": self.name, "secret": commitment(self.critic.gate.secret), **made}
