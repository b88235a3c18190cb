"""Regression networks of a site's folds: what they predict leaves in the place of a paired loss."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from monai.inferers import Inferer, SimpleInferer
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from bundle.networks import for_image_channels
from bundle.seeding import derive_seed, forked_rng, seeded
from bundle.site.folds import Folds
from bundle.site.store import SiteStore

__all__ = ["Teacher"]

logger = logging.getLogger(__name__)


class Teacher:
    """
    A small regression network R^(−k) for every fold k, trained by L1 on the real pairs of the other folds alone. What
    R^(−k) predicts for a condition of fold k is what patients like this one look like, and nothing of this patient: a
    server may compare its images with that, point by point.

    Weights and draws come from the site's secret: whoever trains again with the same ledger, data and sizes, predicts
    the same bits. Training has a fixed number of steps; nothing stops it early.

    Args:
        folds: the site's.
        name: of the site.
        network: makes R, from conditions B×X×H×W of 0 and 1 to images B×C×H×W in [-1, 1]; in a config a component with
            ``_mode_: callable``.
        optimizer: makes an optimiser from its parameters.
        num_steps: of every R.
        batch_size: of every R.
        inferer: how it is called in training; :class:`bundle.engines.AutocastInferer` for mixed precision.
        prediction_inferer: how it is called on a condition as it is, which may be larger than one of a step.
        schedule: factor on the learning rate as a function of the steps done; None for a constant rate.
        store: keeps every R when it is trained; None for none.
        device: where all is computed.
        lacking: how many of the modalities the site does not have; R is made without their channels
            (:func:`bundle.networks.for_image_channels`).

    Raises:
        ValueError: for fewer than one step or sample, or a network that cannot be made for fewer channels.
    """

    def __init__(
        self,
        folds: Folds,
        name: str,
        network: Callable[[], torch.nn.Module],
        optimizer: Callable[..., torch.optim.Optimizer],
        num_steps: int,
        batch_size: int = 4,
        inferer: Inferer | None = None,
        prediction_inferer: Inferer | None = None,
        schedule: Callable[[int], float] | None = None,
        store: SiteStore | None = None,
        device: torch.device | str = "cpu",
        lacking: int = 0,
    ) -> None:
        if num_steps < 1 or batch_size < 1:
            raise ValueError(
                f"site {name}: expected teacher_steps and a batch of at least 1, got {num_steps}, {batch_size}"
            )
        self.folds = folds
        self.name = name
        self.num_steps = num_steps
        self.batch_size = batch_size
        self.device = torch.device(device)
        self._network = for_image_channels(network, lacking, ("out_channels",))
        self._optimizer = optimizer
        self._inferer = SimpleInferer() if inferer is None else inferer
        self._prediction_inferer = SimpleInferer() if prediction_inferer is None else prediction_inferer
        self._schedule = schedule
        self._store = store
        self._trained: dict[int, torch.nn.Module] = {}

    def prepare(self) -> None:
        """Train what is not trained yet: R of every fold."""
        for fold in range(self.folds.count):
            if fold not in self._trained:
                self._trained[fold] = self._kept(fold) or self._train(fold)

    def predict(self, index: int, condition: torch.Tensor) -> torch.Tensor:
        """
        What the network that has not seen a sample's fold makes of its condition.

        Args:
            index: of the sample.
            condition: X×H×W of 0 and 1, as it leaves.

        Returns:
            C×H×W float32 in [-1, 1], of the site's modalities, each number one of float16: so it crosses as it is.

        Raises:
            RuntimeError: when it is not finite, or of another height and width.
        """
        self.prepare()
        network = self._trained[self.folds.of_samples[index]].eval()
        with torch.no_grad():
            image = self._prediction_inferer(condition[None].to(self.device, torch.float32), network)[0].float().cpu()
        if image.shape[1:] != condition.shape[1:] or not torch.isfinite(image).all():
            raise RuntimeError(
                f"site {self.name}: the teacher's image is {tuple(image.shape)} for a condition of "
                f"{tuple(condition.shape)}, or not finite: see teacher_def, teacher_lr"
            )
        return image.clamp(-1, 1).half().float()

    def _train(self, fold: int) -> torch.nn.Module:
        secret = self.folds.secret
        network = seeded(self._network, secret, "teacher", str(fold)).to(self.device).train()
        optimizer = self._optimizer(network.parameters())
        rates = LambdaLR(optimizer, self._schedule or (lambda _: 1.0))
        told = f"site {self.name}: teacher {fold + 1} of {self.folds.count}"
        loss = torch.tensor(torch.nan)
        with forked_rng(derive_seed(secret, "teacher", fold), self.device):
            for step in tqdm(range(self.num_steps), desc=told, unit="step", disable=None, leave=False):
                drawn = self.folds.draw_without(fold, "teacher", step * self.batch_size, self.batch_size)
                condition, real = (drawn[key].to(self.device, torch.float32) for key in ("condition", "image"))
                loss = F.l1_loss(self._inferer(condition, network).float(), real)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                rates.step()
        logger.info("%s is trained, L1 %.3f on the other folds", told, loss.item())
        if self._store is not None:
            self._store.save_part(self._name(fold), {"network": network.state_dict()}, self._identity(fold))
        return network

    def _kept(self, fold: int) -> torch.nn.Module | None:
        state = None if self._store is None else self._store.load_part(self._name(fold), self._identity(fold))
        if state is None:
            return None
        network = seeded(self._network, self.folds.secret, "teacher", str(fold))
        network.load_state_dict(state["network"])
        return network.to(self.device)

    @staticmethod
    def _name(fold: int) -> str:
        return f"teacher_{fold}"

    def _identity(self, fold: int) -> dict[str, Any]:
        return {"role": "teacher", "site": self.name, "fold": fold, "folds": self.folds.digest}
