"""A site: its images, its discriminator, its optimiser, and the one thing it does for the server."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Protocol

import torch
from monai.inferers import Inferer, SimpleInferer

from bundle.federation import guards
from bundle.federation.messages import ConditionBatch, ConditionRequest, SiteInfo, SiteReply, SyntheticBatch
from bundle.federation.site_store import SiteStore
from bundle.losses import DiscriminatorAugmentation, SiteLoss
from bundle.seeding import derive_seed, forked_rng, seeded

__all__ = ["ConditionsWithheld", "Samples", "Site", "make_sites"]

logger = logging.getLogger(__name__)


class ConditionsWithheld(RuntimeError):
    """The site does not let its conditions be kept. The text names nothing of the site's and may be sent."""

    def __init__(self) -> None:
        super().__init__("its conditions may not be kept after training (keep_conditions: false)")


class Samples(Protocol):
    """What a site needs of its data: samples with ``condition`` X×H×W and ``image`` C×H×W, by index or drawn."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict: ...

    def batch(self, seed: int, name: str, first: int, count: int) -> dict[str, torch.Tensor]:
        """``count`` draws (:func:`bundle.seeding.draw`) from position ``first`` on, stacked."""


class Site:
    """
    One hospital of AsynDGAN (Chang et al., CVPR 2020, algorithm 1).

    The samples of step ``s`` are a function of (seed, name, s): the conditions that the site issues with the reply to
    step ``s - 1`` and the real images that it sets against the answer are drawn from the same place, without a memory
    of what was issued.

    ``trained`` is the number of the last step that the discriminator has seen, 0 for none.

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
        store: where the site keeps checkpoints of its own; None where somebody else keeps its ``state_dict``.
        augmentation: of all that the discriminator sees; None for none.
        keep_conditions: whether the server may keep conditions of this site, to generate from them after training. The
            conditions of every step go to it in any case.

    Raises:
        ValueError: when the batch size is below 1, the site has fewer samples, or ``keep_conditions`` is no boolean.
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
        store: SiteStore | None = None,
        augmentation: DiscriminatorAugmentation | None = None,
        keep_conditions: bool = True,
    ) -> None:
        # any text is true to Python, "no" as well
        if not isinstance(keep_conditions, bool):
            raise ValueError(f"site {name}: keep_conditions: expected true or false, got {keep_conditions!r}")
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
        self.store = store
        self.augmentation = augmentation
        self.keep_conditions = keep_conditions
        self.trained = 0
        self._base_rates = [group["lr"] for group in optimizer.param_groups]
        self._batch: tuple[int, dict[str, torch.Tensor]] | None = None
        # gradient and losses of the reply to the step `trained`, to give again when asked again
        self._answer: tuple[torch.Tensor, dict[str, float]] | None = None
        self._initial = deepcopy(self.state_dict())

    def open(self, step: int) -> SiteInfo:
        """
        Take part from ``step`` (from 1) on, with the newest state of at most ``step`` - 1 that the site has: the one it
        is in, one of its checkpoints, or its initial weights. A site that has done ``step`` already stays as it is and
        returns the same reply again: the server has lost it.

        Raises:
            ValueError: when the step is below 1, or the newest checkpoint is of another site or seed.
        """
        if step < 1:
            raise ValueError(f"site {self.name}: steps are counted from 1, got {step}")
        if self.trained != step - 1 and not (self.trained == step and self._answer):
            self._go_to(step - 1)
        return SiteInfo(self.name, len(self.samples), step, self._draw(step)["condition"], self.trained)

    def step(self, synthetic: SyntheticBatch) -> SiteReply:
        """
        Update D_j on (x, y) against (x, ŷ), then return ∂L_j/∂ŷ from the updated D_j.

        Asked again for the step that it did last, the site returns the reply it gave then, whatever ŷ is this time: D_j
        is not updated twice, and nobody learns more of y by asking twice.

        Raises:
            ValueError: when the batch is not what :func:`bundle.federation.guards.check_synthetic` expects, or of a
                step before the last one done. D_j is as before then.
        """
        guards.check_addressee(synthetic, self.name)
        step = synthetic.step
        if step == self.trained and self._answer:
            return self._reply()
        if step <= self.trained:
            raise ValueError(f"site {self.name} has done step {self.trained}: step {step} is past until it is opened")
        batch = self._draw(step)
        guards.check_synthetic(synthetic, self.name, batch["image"].shape)
        image = batch["image"].to(self.device)
        condition = batch["condition"].to(self.device, image.dtype)
        # a leaf of its own: the gradient ends at the synthetic image, where the wall stands
        fake = synthetic.images.to(self.device).requires_grad_(True)

        before = self.trained
        with forked_rng(derive_seed(self.seed, "site", self.name, step), self.device):
            losses = {"discriminator": self._update_discriminator(condition, image, fake.detach(), step)}
            # from here on the step is done, whatever becomes of its answer
            self.trained, self._answer = step, None
            self.discriminator.requires_grad_(False)
            try:
                total, terms = self.loss.generator(self._logits(condition, fake), fake, image)
                (gradient,) = torch.autograd.grad(total, fake)
            finally:
                self.discriminator.requires_grad_(True)
        self._answer = gradient, losses | {name: value.item() for name, value in terms.items()}
        self._keep(before)
        return self._reply()

    def conditions(self, request: ConditionRequest) -> ConditionBatch:
        """
        Conditions of the site's samples in their order, for generation.

        A message holds conditions of one shape: where the samples' differ, fewer than asked for are returned, up to the
        first of another shape.

        Raises:
            ConditionsWithheld: when they may not be kept.
        """
        if not self.keep_conditions:
            error = ConditionsWithheld()
            logger.warning("site %s was asked for conditions to keep, and refused: %s", self.name, error)
            raise error
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
        return {
            "discriminator": self.discriminator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "trained": self.trained,
            "answer": self._answer and {"gradient": self._answer[0], "losses": self._answer[1]},
        }

    def load_state_dict(self, state: dict) -> None:
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.trained = state["trained"]
        answer = state["answer"]
        self._answer = answer and (answer["gradient"], answer["losses"])

    def _reply(self) -> SiteReply:
        gradient, losses = self._answer
        return SiteReply(self.name, self.trained, gradient, dict(losses), self._draw(self.trained + 1)["condition"])

    def _keep(self, before: int) -> None:
        if self.store is None or not self.store.due(before, self.trained):
            return
        try:
            self.store.save(self.trained, self.state_dict() | {"site": self.name, "seed": self.seed})
        except OSError as error:
            # a full disk costs this site what it would go back to, not everybody the training
            logger.error("site %s could not keep its checkpoint of step %d: %s", self.name, self.trained, error)

    def _go_to(self, step: int) -> None:
        """Take the newest state of at most this step."""
        before = self.trained
        ahead = before > step
        stored = iter(()) if self.store is None else self.store.load(step, above=-1 if ahead else before)
        _, state = next(stored, (0, None))
        if state is not None:
            if (state["site"], state["seed"]) != (self.name, self.seed):
                raise ValueError(
                    f"{self.store.folder} holds checkpoints of site {state['site']!r} with seed {state['seed']}, "
                    f"not of {self.name!r} with {self.seed}"
                )
            self.load_state_dict(state)
        elif ahead:
            self.load_state_dict(deepcopy(self._initial))
        logger.log(
            # with the very state that the server left off with, nothing is lost
            logging.INFO if self.trained == step else logging.WARNING,
            "site %s was trained to step %d and goes on after step %d %s",
            self.name,
            before,
            step,
            "as it is" if self.trained == before else f"with its {self._which()}",
        )

    def _which(self) -> str:
        return f"checkpoint of step {self.trained}" if self.trained else "initial weights: it has no such checkpoint"

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
        if self.augmentation is not None:
            condition, image = self.augmentation(condition, image)
        layers = self.inferer(torch.cat([condition, image], dim=1), self.discriminator)
        return layers[-1] if isinstance(layers, list | tuple) else layers

    def _draw(self, step: int) -> dict[str, torch.Tensor]:
        """The batch of a step, kept until another is asked for: it is asked for twice, to issue it and to use it."""
        if self._batch is None or self._batch[0] != step:
            first = (step - 1) * self.batch_size
            self._batch = step, self.samples.batch(self.seed, self.name, first, self.batch_size)
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
    store: Callable[[str], SiteStore] | None = None,
    augmentation: DiscriminatorAugmentation | None = None,
    keep_conditions: bool | Mapping[str, bool] = True,
) -> list[Site]:
    """
    One :class:`Site` per entry of ``samples``, each with a discriminator and an optimiser of its own.

    Args:
        samples: data by name of the site.
        discriminator: makes a discriminator; its weights are drawn from (seed, name of the site).
        optimizer: makes an optimiser from parameters.
        batch_size: of every site, or by name of the site.
        store: makes the store of a site from its name; None for none.
        keep_conditions: of every site, or by name of the site.

    Other arguments as for :class:`Site`.

    Raises:
        ValueError: when ``batch_size`` or ``keep_conditions`` lacks a site or names one that there is not.
    """
    for key, value in {"batch_size": batch_size, "keep_conditions": keep_conditions}.items():
        if isinstance(value, Mapping) and set(value) != set(samples):
            raise ValueError(f"{key} is given for {sorted(value)}, but the sites are {sorted(samples)}")
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
                None if store is None else store(name),
                augmentation,
                keep_conditions[name] if isinstance(keep_conditions, Mapping) else keep_conditions,
            )
        )
    return sites
