"""A site: its images, its discriminator, its optimiser, and the one thing it does for the server."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from os import PathLike
from typing import Protocol

import torch
from monai.inferers import Inferer, SimpleInferer

from bundle.losses import DiscriminatorAugmentation, SiteLoss
from bundle.seeding import derive_seed, drawn_indices, forked_rng, seeded
from bundle.site.release import DEFAULT, POLICIES, ReleaseGate, ReleasePolicy, tensor_digest
from bundle.site.store import SiteStore
from bundle.wire import guards
from bundle.wire.messages import ConditionBatch, ConditionRequest, SiteInfo, SiteReply, SyntheticBatch

__all__ = ["Samples", "Site", "make_sites"]

logger = logging.getLogger(__name__)

ANSWER = ("gradient", "losses", "noise")


class Samples(Protocol):
    """What a site needs of its data: samples with ``condition`` X×H×W and ``image`` C×H×W, by index or drawn."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict: ...

    def batch(self, seed: int, name: str, first: int, count: int) -> dict[str, torch.Tensor]:
        """``count`` draws (:func:`bundle.seeding.draw`) from position ``first`` on, stacked."""

    def origin(self, index: int) -> tuple[str | int, ...]:
        """Patient, case and slice that a sample is of: the same whatever a training asks for."""

    def changed(self, change: Callable[[int, dict], dict]) -> Samples:
        """The same samples, each changed before anything random happens to it."""


class Site:
    """
    One hospital of AsynDGAN (Chang et al., CVPR 2020, algorithm 1).

    The samples of step ``s`` are a function of (seed, name, s): the conditions that the site issues with the reply to
    step ``s - 1`` and the real images that it sets against the answer are drawn from the same place, without a memory
    of what was issued.

    ``trained`` is the number of the last step that the discriminator has seen, 0 for none; ``run`` is how many steps up
    to it were done one after the other.

    Whatever leaves the site passes its :class:`bundle.site.release.ReleaseGate`: nothing that its release policy
    forbids is computed into an answer, and every answer is in its ledger before it is returned.

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
            conditions of every step go to it in any case, unless the policy says otherwise.
        gate: the site's release policy and ledger; None for the default policy, without a ledger.
        deform: random MONAI transforms of ``condition`` and ``image``, which policies with deformed conditions need:
            every sample is deformed in one way, by the site's secret, before anything else happens to it.
        num_steps: of the training, which ends there, and from which the gate knows whether its releases are enough;
            None where that is not known.

    Raises:
        ValueError: when the batch size is below 1, the site has fewer samples, ``keep_conditions`` is no boolean, or
            the policy needs a ``deform`` and there is none.
        ReleaseRefused: when the policy forbids what the training asks for.
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
        gate: ReleaseGate | None = None,
        deform: Callable[[dict], dict] | None = None,
        num_steps: int | None = None,
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
        self.gate = ReleaseGate(ReleasePolicy.make(DEFAULT), name) if gate is None else gate
        self.policy = self.gate.policy
        if self.policy.conditions == "deformed" and deform is None:
            raise ValueError(
                f"site {name}: its release policy deforms conditions, and the task has no condition_deformation"
            )
        self.deform = deform
        self.samples = samples
        if self.policy.conditions == "deformed":
            origin = samples.origin
            self.samples = samples.changed(lambda index, sample: self._deformed(origin(index), sample))
        issuing = num_steps is not None and self.policy.conditions != "public"
        self.gate.plan(num_steps, loss.terms, -(-num_steps * batch_size // len(samples)) if issuing else 0)
        self.trained = self.run = 0
        self._base_rates = [group["lr"] for group in optimizer.param_groups]
        self._batch: tuple[int, dict[str, torch.Tensor]] | None = None
        # gradient, losses and noise of the reply to the step `trained`, to give again when asked again
        self._answer: tuple[torch.Tensor, dict[str, float], float] | None = None
        self._initial = deepcopy(self.state_dict())

    def open(self, step: int) -> SiteInfo:
        """
        Take part from ``step`` (from 1) on, with the newest state of at most ``step`` - 1 that the site has: the one it
        is in, one of its checkpoints, or its initial weights. A site that has done ``step`` already stays as it is and
        returns the same reply again: the server has lost it.

        Raises:
            ValueError: when the step is below 1, or the newest checkpoint is of another site or seed.
        """
        with self._counted():
            if step < 1:
                raise guards.Violation(f"site {self.name}: steps are counted from 1, got {step}")
            self.gate.check_step(step)
            if self.trained != step - 1 and not (self.trained == step and self._answer):
                self._go_to(step - 1)
            conditions, nonce = self._issue(step)
            said = self.gate.num_samples(len(self.samples))
            self.gate.record("open", {"conditions": conditions}, step=step, num_samples=said)
        policy = self.policy.describe()
        return SiteInfo(self.name, said, step, conditions, self.trained, self.batch_size, nonce, policy)

    def step(self, synthetic: SyntheticBatch) -> SiteReply:
        """
        Update D_j on (x, y) against (x, ŷ), then return ∂L_j/∂ŷ from the updated D_j.

        Asked again for the step that it did last, the site returns the reply it gave then, whatever ŷ is this time: D_j
        is not updated twice, and nobody learns more of y by asking twice.

        Raises:
            ValueError: when the batch is not what :func:`bundle.wire.guards.check_synthetic` expects, or of a
                step before the last one done. D_j is as before then.
            ReleaseRefused: when the release policy forbids an answer, or the training is at its end. D_j is as before
                then.
        """
        with self._counted():
            return self._step(synthetic)

    def _step(self, synthetic: SyntheticBatch) -> SiteReply:
        guards.check_addressee(synthetic, self.name)
        step = synthetic.step
        if step == self.trained and self._answer:
            return self._reply()
        if step <= self.trained:
            raise guards.Violation(
                f"site {self.name} has done step {self.trained}: step {step} is past until it is opened"
            )
        self.gate.check_step(step)
        batch = self._draw(step)
        public = batch["condition"].shape if self.policy.conditions == "public" else None
        guards.check_synthetic(synthetic, self.name, batch["image"].shape, public)
        self.gate.redeem(step, synthetic.nonce)
        before = self.trained
        try:
            self._answer = self._learn(synthetic, batch)
        except Exception:
            self.gate.note_failure(step)
            raise
        reply = self._reply()
        # after it is in the ledger: no checkpoint holds an answer that was not counted
        self._keep(before)
        return reply

    def conditions(self, request: ConditionRequest) -> ConditionBatch:
        """
        Conditions of the site's samples in their order, for generation.

        A message holds conditions of one shape: where the samples' differ, fewer than asked for are returned, up to the
        first of another shape.

        Raises:
            ReleaseRefused: when they may not be kept, or the release policy lets none out.
        """
        with self._counted():
            guards.check_request(request, self.name)
            return self._conditions(request)

    def _conditions(self, request: ConditionRequest) -> ConditionBatch:
        why = "label maps that stay at the site"
        if self.policy.conditions == "public":
            self.gate.refuse(why, f"its release policy, {self.policy.name}, lets no conditions out")
        if not self.keep_conditions:
            self.gate.refuse(why, "its conditions may not be kept after training (keep_conditions: false)")
        # as many of them as it says there are
        said = self.gate.num_samples(len(self.samples))
        if said > len(self.samples):
            self.gate.refuse(why, "it says a number of samples (num_samples) that it has no conditions to show for")
        chosen: list[torch.Tensor] = []
        for index in range(request.start, min(request.stop, said)):
            condition = self.samples[index]["condition"]
            if chosen and condition.shape != chosen[0].shape:
                break
            chosen.append(condition)
        conditions = torch.stack(chosen) if chosen else torch.empty(0, dtype=torch.uint8)
        self.gate.deliver([self._named(request.start + place) for place in range(len(chosen))])
        self.gate.record("conditions", {"conditions": conditions})
        return ConditionBatch(self.name, request.start, conditions)

    def state_dict(self) -> dict:
        return {
            "discriminator": self.discriminator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "trained": self.trained,
            "run": self.run,
            "policy": self.policy.to_dict(),
            "answer": self._answer and dict(zip(ANSWER, self._answer, strict=True)),
        }

    def load_state_dict(self, state: dict) -> None:
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.trained, self.run = state["trained"], state["run"]
        # an answer that another policy let out is not given again under this one
        answer = state["answer"] if state.get("policy") == self.policy.to_dict() else None
        self._answer = answer and tuple(answer[part] for part in ANSWER)

    def _learn(self, synthetic: SyntheticBatch, batch: dict[str, torch.Tensor]) -> tuple:
        """Update D_j; gradient, losses and noise of the answer, as far as the policy lets them out."""
        image = batch["image"].to(self.device)
        condition = batch["condition"].to(self.device, image.dtype)
        public = self.policy.conditions == "public"
        drawn_from = synthetic.conditions.to(self.device, image.dtype) if public else condition
        # a leaf of its own: the gradient ends at the synthetic image, where the wall stands
        fake = synthetic.images.to(self.device).requires_grad_(True)
        with forked_rng(derive_seed(self.seed, "site", self.name, synthetic.step), self.device):
            pairs = (condition, image), (drawn_from, fake.detach())
            losses = {"discriminator": self._update_discriminator(*pairs, synthetic.step)}
            # from here on the step is done, whatever becomes of its answer
            self.run = self.run + 1 if synthetic.step == self.trained + 1 else 1
            self.trained, self._answer = synthetic.step, None
            self.discriminator.requires_grad_(False)
            try:
                logits, seen = self._judge(drawn_from, fake)
                total, terms = self.loss.generator(logits, fake, image, seen)
                (gradient,) = torch.autograd.grad(total, fake)
            finally:
                self.discriminator.requires_grad_(True)
        # noise is drawn once: the answer that is given again is the very same
        losses |= {name: value.item() for name, value in terms.items()}
        gradient, noise = self.gate.gradient(gradient)
        return gradient, self.gate.losses(losses), noise

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Whatever a request ends in but an answer is a refusal, and counted once."""
        before = self.gate.refused
        try:
            yield
        except guards.Violation as error:
            self.gate.note_refusal("a message that says what it cannot", str(error))
            raise
        except Exception as error:
            if self.gate.refused == before:
                # its text may name cases and files: that is for the log
                self.gate.note_refusal("an error at the site", type(error).__name__)
            raise

    def _reply(self) -> SiteReply:
        gradient, losses, noise = self._answer
        conditions, nonce = self._following()
        tensors = {"image gradient": gradient, "conditions": conditions}
        self.gate.record("reply", tensors, losses, noise, step=self.trained)
        return SiteReply(self.name, self.trained, gradient, dict(losses), conditions, nonce)

    def _following(self) -> tuple[torch.Tensor, str]:
        """The next conditions and their nonce; after the last step those of that step again: there are no others."""
        if not self.gate.is_past_the_end(self.trained + 1):
            return self._issue(self.trained + 1)
        return self._leaving(self.trained), ""

    def _issue(self, step: int) -> tuple[torch.Tensor, str]:
        """The conditions of a step as they leave, and their nonce."""
        leaving = self._leaving(step)
        if self.policy.conditions == "public":
            return leaving, self.gate.issue(step, [])
        first = (step - 1) * self.batch_size
        drawn = drawn_indices(self.seed, self.name, first, self.batch_size, len(self.samples))
        return leaving, self.gate.issue(step, [self._named(int(index)) for index in drawn])

    def _leaving(self, step: int) -> torch.Tensor:
        if self.policy.conditions == "public":
            return torch.empty(0, dtype=torch.uint8)
        return self._draw(step)["condition"]

    def _named(self, index: int) -> str:
        """A sample by what it is of, in the ledger: no name of a patient, and the same in every training."""
        return tensor_digest(list(self.samples.origin(index)))[:16]

    @property
    def _identity(self) -> dict[str, str | int]:
        return {"site": self.name, "seed": self.seed}

    def _keep(self, before: int) -> None:
        if self.store is None or not self.store.due(before, self.trained):
            return
        try:
            self.store.save(self.trained, self.run, self.state_dict(), self._identity)
        except OSError as error:
            # a full disk costs this site what it would go back to, not everybody the training
            logger.error("site %s could not keep its checkpoint of step %d: %s", self.name, self.trained, error)

    def _go_to(self, step: int) -> None:
        """Take the newest state of at most this step."""
        before = self.trained
        ahead = before > step
        above = -1 if ahead else before
        stored = iter(()) if self.store is None else self.store.load(step, self._identity, above)
        if state := next(stored, None):
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

    def _update_discriminator(self, real: tuple[torch.Tensor, ...], fake: tuple[torch.Tensor, ...], step: int) -> float:
        """One update on two pairs of condition and image."""
        if self.lr_schedule is not None:
            for group, rate in zip(self.optimizer.param_groups, self._base_rates, strict=True):
                group["lr"] = rate * self.lr_schedule(step - 1)
        self.optimizer.zero_grad(set_to_none=True)
        (real_logits, real_seen), (fake_logits, fake_seen) = self._judge(*real), self._judge(*fake)
        loss = self.loss.discriminator(real_logits, fake_logits, real_seen, fake_seen)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def _judge(self, condition: torch.Tensor, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of D, and the condition as D saw it."""
        if self.augmentation is not None:
            condition, image = self.augmentation(condition, image)
        layers = self.inferer(torch.cat([condition, image], dim=1), self.discriminator)
        return layers[-1] if isinstance(layers, list | tuple) else layers, condition

    def _draw(self, step: int) -> dict[str, torch.Tensor]:
        """The batch of a step, kept until another is asked for: it is asked for twice, to issue it and to use it."""
        if self._batch is None or self._batch[0] != step:
            first = (step - 1) * self.batch_size
            batch = self.samples.batch(self.seed, self.name, first, self.batch_size)
            self._batch = step, batch
        return self._batch[1]

    def _deformed(self, origin: tuple[str | int, ...], sample: dict) -> dict:
        """
        Condition and image of a sample after its deformation: one for each sample, whatever the training, its seed and
        its steps are. With several, they could be averaged away.
        """
        pair = {key: sample[key] for key in ("condition", "image")}
        seed = derive_seed(self.gate.secret, "deformation", *origin)
        deformed = self.deform.set_random_state(seed=seed)(pair)
        plain = {key: torch.as_tensor(value).as_subclass(torch.Tensor) for key, value in deformed.items()}
        return sample | {key: value.to(pair[key].dtype) for key, value in plain.items()}


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
    policy: ReleasePolicy | Mapping[str, ReleasePolicy] = POLICIES[DEFAULT],
    ledger: Callable[[str], str | PathLike] | None = None,
    deform: Callable[[dict], dict] | None = None,
    num_steps: int | None = None,
) -> list[Site]:
    """
    One :class:`Site` per entry of ``samples``, each with a discriminator and an optimiser of its own.

    Args:
        samples: data by name of the site.
        discriminator: makes a discriminator; its weights are drawn from (seed, name of the site), or from a secret
            where the policy says so.
        optimizer: makes an optimiser from parameters.
        batch_size: of every site, or by name of the site.
        store: makes the store of a site from its name; None for none.
        keep_conditions: of every site, or by name of the site.
        policy: release policy of every site, or by name of the site.
        ledger: names the file of a site's release ledger from its name; None for none.

    Other arguments as for :class:`Site`.

    Raises:
        ValueError: when ``batch_size``, ``keep_conditions`` or ``policy`` lacks a site or names one that there is not.
    """
    for key, value in {"batch_size": batch_size, "keep_conditions": keep_conditions, "policy": policy}.items():
        if isinstance(value, Mapping) and set(value) != set(samples):
            raise ValueError(f"{key} is given for {sorted(value)}, but the sites are {sorted(samples)}")
    sites = []
    for name in sorted(samples):
        own = policy[name] if isinstance(policy, Mapping) else policy
        weights_seed = secrets.randbits(32) if own.secret_weights else seed
        network = seeded(discriminator, weights_seed, "discriminator", name).to(device)
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
                ReleaseGate(own, name, None if ledger is None else ledger(name), f"seed {seed}"),
                deform,
                num_steps,
            )
        )
    return sites
