"""A site: its images, its discriminator, its optimiser, and the one thing it does for the server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from monai.inferers import Inferer, SimpleInferer

from bundle.federation.messages import ConditionBatch, ConditionRequest, SiteInfo, SiteReply, SyntheticBatch
from bundle.losses import SiteLoss
from bundle.seeding import Draw, derive_seed, draw, forked_rng, seeded

__all__ = ["Samples", "Site", "make_sites"]


class Samples(Protocol):
    """What a site needs of its data: samples with ``condition`` X×H×W and ``image`` C×H×W, by index or by draw."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: int | Draw) -> dict: ...


class Site:
    """
    One hospital of AsynDGAN (Chang et al., CVPR 2020, algorithm 1).

    The samples of step ``s`` are a function of (seed, name, s): the conditions that the site issues with the reply to
    step ``s - 1`` and the real images that it sets against the answer are drawn from the same place, without a memory
    of what was issued.

    Args:
        name: name of the site.
        samples: the site's data; see :class:`Samples`.
        discriminator: D_j on the channels of (x, y); returns logits, or a list of layers with the logits last.
        optimizer: optimiser of ``discriminator``.
        loss: what to compute on (x, y, ŷ).
        batch_size: B of this site.
        seed: seed of the run.
        device: where the site computes.
        inferer: how the discriminator is called; :class:`bundle.engines.AutocastInferer` for mixed precision.
        lr_schedule: factor on the optimiser's learning rate as a function of the steps done; None for a constant rate.

    Raises:
        ValueError: when the batch size is below 1, or the site has fewer samples.
    """

    def __init__(
        self,
        name: str,
        samples: Samples,
        discriminator: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: SiteLoss,
        batch_size: int = 1,
        seed: int = 0,
        device: torch.device | str = "cpu",
        inferer: Inferer | None = None,
        lr_schedule: Callable[[int], float] | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"site {name}: expected a batch_size of at least 1, got {batch_size}")
        if len(samples) < batch_size:
            raise ValueError(
                f"site {name} has {len(samples)} samples, fewer than its batch size {batch_size}: "
                "give it a smaller batch (batch_size: {" + f"{name}: {len(samples)}, ..." + "}) or more cases"
            )
        self.name = name
        self.samples = samples
        self.discriminator = discriminator.to(device)
        self.optimizer = optimizer
        self.loss = loss.to(device)  # a perceptual term has a network of its own
        self.batch_size = batch_size
        self.seed = seed
        self.device = torch.device(device)
        self.inferer = SimpleInferer() if inferer is None else inferer
        self.lr_schedule = lr_schedule
        self._base_rates = [group["lr"] for group in optimizer.param_groups]
        self._batch: tuple[int, dict[str, torch.Tensor]] | None = None

    def open(self, step: int) -> SiteInfo:
        """Take part from ``step`` (from 1) on."""
        return SiteInfo(self.name, len(self.samples), step, self._draw(step)["condition"])

    def step(self, synthetic: SyntheticBatch) -> SiteReply:
        """
        Update D_j on (x, y) against (x, ŷ), then return ∂L_j/∂ŷ from the updated D_j.

        Raises:
            ValueError: when the batch is for another site, or of another shape than the site's images.
        """
        batch = self._draw(synthetic.step)
        image = batch["image"].to(self.device)
        if synthetic.site != self.name or synthetic.images.shape != image.shape:
            raise ValueError(
                f"site {self.name} expected its own synthetic images of shape {tuple(image.shape)} for step "
                f"{synthetic.step}, got those of {synthetic.site} with shape {tuple(synthetic.images.shape)}"
            )
        condition = batch["condition"].to(self.device, image.dtype)
        # a leaf of its own: the gradient ends at the synthetic image, where the wall stands
        fake = synthetic.images.to(self.device).requires_grad_(True)

        with forked_rng(derive_seed(self.seed, "site", self.name, synthetic.step), self.device):
            losses = {"discriminator": self._update_discriminator(condition, image, fake.detach(), synthetic.step)}
            self.discriminator.requires_grad_(False)
            total, terms = self.loss.generator(self._logits(condition, fake), fake, image)
            (gradient,) = torch.autograd.grad(total, fake)
            self.discriminator.requires_grad_(True)
        losses |= {name: value.item() for name, value in terms.items()}
        return SiteReply(self.name, synthetic.step, gradient, losses, self._draw(synthetic.step + 1)["condition"])

    def conditions(self, request: ConditionRequest) -> ConditionBatch:
        """
        Conditions of the site's samples in their order, for generation.

        A message holds conditions of one shape: where the samples' differ, fewer than asked for are returned, up to the
        first of another shape.
        """
        indices = range(request.start, min(request.stop, len(self.samples)))
        found = (self.samples[i]["condition"] for i in indices)
        chosen: list[torch.Tensor] = []
        for condition in found:
            if chosen and condition.shape != chosen[0].shape:
                break
            chosen.append(condition)
        conditions = torch.stack(chosen) if chosen else torch.empty(0, dtype=torch.uint8)
        return ConditionBatch(self.name, request.start, conditions)

    def state_dict(self) -> dict:
        return {"discriminator": self.discriminator.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _update_discriminator(
        self, condition: torch.Tensor, image: torch.Tensor, fake: torch.Tensor, step: int
    ) -> float:
        if self.lr_schedule is not None:
            for group, rate in zip(self.optimizer.param_groups, self._base_rates, strict=True):
                group["lr"] = rate * self.lr_schedule(step - 1)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss.discriminator(self._logits(condition, image), self._logits(condition, fake))
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def _logits(self, condition: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        layers = self.inferer(torch.cat([condition, image], dim=1), self.discriminator)
        return layers[-1] if isinstance(layers, list | tuple) else layers

    def _draw(self, step: int) -> dict[str, torch.Tensor]:
        """The batch of a step, kept until another is asked for: it is asked for twice, to issue it and to use it."""
        if self._batch is None or self._batch[0] != step:
            first = (step - 1) * self.batch_size
            chosen = [
                self.samples[draw(self.seed, self.name, first + i, len(self.samples))] for i in range(self.batch_size)
            ]
            self._batch = step, {key: torch.stack([s[key] for s in chosen]) for key in ("condition", "image")}
        return self._batch[1]


def make_sites(
    samples: Mapping[str, Samples],
    discriminator: Callable[[], torch.nn.Module],
    optimizer: Callable[..., torch.optim.Optimizer],
    loss: SiteLoss,
    batch_size: int | Mapping[str, int] = 1,
    seed: int = 0,
    device: torch.device | str = "cpu",
    inferer: Inferer | None = None,
    lr_schedule: Callable[[int], float] | None = None,
) -> list[Site]:
    """
    One :class:`Site` per entry of ``samples``, each with a discriminator and an optimiser of its own.

    Args:
        samples: data by name of the site.
        discriminator: makes a discriminator; its weights are drawn from (seed, name of the site).
        optimizer: makes an optimiser from parameters.
        batch_size: of every site, or by name of the site.

    Other arguments as for :class:`Site`.

    Raises:
        ValueError: when ``batch_size`` lacks a site or names one that there is not.
    """
    if isinstance(batch_size, Mapping) and set(batch_size) != set(samples):
        raise ValueError(f"batch_size is given for {sorted(batch_size)}, but the sites are {sorted(samples)}")
    sites = []
    for name in sorted(samples):
        network = seeded(discriminator, seed, "discriminator", name).to(device)
        sites.append(
            Site(
                name,
                samples[name],
                network,
                optimizer(network.parameters()),
                loss,
                batch_size[name] if isinstance(batch_size, Mapping) else batch_size,
                seed,
                device,
                inferer,
                lr_schedule,
            )
        )
    return sites
