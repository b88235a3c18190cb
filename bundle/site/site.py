"""A site: what it does for the server, with its images and its critic, as far as its release policy lets it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy

import torch

from bundle.seeding import derive_seed, drawn_indices, forked_rng
from bundle.site.answer import Answer
from bundle.site.critic import Critic
from bundle.site.folds import FoldedCritic
from bundle.site.own_modalities import check_checkpoint
from bundle.site.private_critic import PrivateCritic
from bundle.site.private_teacher import PrivateTeacher
from bundle.site.release import ReleaseGate, ReleasePolicy, tensor_digest
from bundle.site.samples import DeformedSamples, DrawnSamples, Samples, outgoing
from bundle.site.store import SiteStore
from bundle.site.teacher import Teacher
from bundle.wire import guards
from bundle.wire.messages import ConditionBatch, ConditionRequest, SiteInfo, SiteReply, SyntheticBatch, TaughtBatch

__all__ = ["Site"]

logger = logging.getLogger(__name__)

MAX_TAUGHT_BYTES = 2**26
"""Of a teacher's images in one message, decoded; further ones are in the next."""


class Site:
    """
    One hospital of AsynDGAN (Chang et al., CVPR 2020, algorithm 1).

    The samples of step ``s`` are a function of (seed, name, s): the conditions that the site issues with the reply to
    step ``s - 1`` and the real images that it sets against the answer are drawn from the same place, without a memory
    of what was issued.

    ``trained`` is the number of the last step that the discriminator has seen, 0 for none; ``run`` is how many steps up
    to it were done one after the other, those among them that did not ask this site.

    Where the training asks some of its sites at each step, a synthetic batch is of the conditions that the site issued
    last, whichever step it is for: a site that is not asked keeps its discriminator, its conditions and their nonce.

    Whatever leaves the site passes its :class:`bundle.site.release.ReleaseGate`: nothing that its release policy
    forbids is computed into an answer, and every answer is in its ledger before it is returned.

    Args:
        name: name of the site.
        samples: the site's data; deformed or drawn ones where the policy says so.
        critic: what learns here, and what the server's images are judged by: one for every fold, where the policy has
            the patients cut into such; one whose updates get noise, where the policy has that.
        gate: the site's release policy and ledger.
        store: where the site keeps checkpoints of its own; None where somebody else keeps its ``state_dict``.
        seed: seed of the run.
        batch_size: B of this site.
        teacher: whose images leave beside the conditions, or whose weights leave, where the policy has one.
        waits: whether steps may pass that do not ask this site.
        modalities: names of the image's channels, where the site lacks some of the task's: the server learns them, and
            sends and gets those channels alone. Nothing for a site that has all.

    Raises:
        ValueError: when the batch size is below 1, the site has fewer samples, or they are not deformed or drawn and
            the policy needs them to be.
        ReleaseRefused: when the policy forbids what the training asks for.
    """

    def __init__(
        self,
        name: str,
        samples: Samples,
        critic: Critic | FoldedCritic | PrivateCritic,
        gate: ReleaseGate,
        store: SiteStore | None = None,
        seed: int = 0,
        batch_size: int = 1,
        teacher: Teacher | PrivateTeacher | None = None,
        waits: bool = False,
        modalities: Sequence[str] = (),
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"site {name}: expected a batch_size of at least 1, got {batch_size}")
        if len(samples) < batch_size:
            raise ValueError(
                f"site {name} has {len(samples)} samples, fewer than its batch size {batch_size}: "
                "give it a smaller batch (batch_size: {" + f"{name}: {len(samples)}, ..." + "}) or more cases"
            )
        if gate.policy.conditions == "deformed" and not isinstance(samples, DeformedSamples):
            raise ValueError(
                f"site {name}: its release policy deforms conditions, and the task has no condition_deformation"
            )
        if gate.policy.conditions == "drawn" and not isinstance(samples, DrawnSamples):
            raise ValueError(f"site {name}: its release policy draws conditions, and the task has no shape_model_def")
        if (gate.policy.folds is not None) != isinstance(critic, FoldedCritic):
            raise ValueError(f"site {name}: its release policy has folds {gate.policy.folds}, its critic is another's")
        if gate.policy.noises_updates != isinstance(critic, PrivateCritic):
            raise ValueError(f"site {name}: its release policy has {gate.policy.mechanism}, its critic is another's")
        if gate.policy.teacher and teacher is None:
            key = "private_teacher" if gate.policy.noises_updates else "teacher"
            raise ValueError(f"site {name}: its release policy has a teacher, and the training defines none ({key})")
        self.name = name
        self.modalities = tuple(modalities)
        self.samples = samples
        self.critic = critic
        self.gate = gate
        self.store = store
        self.seed = seed
        self.batch_size = batch_size
        self.teacher = teacher if gate.policy.teacher else None
        gate.plan(critic.loss.terms, batch_size, len(samples))
        self.waits = waits
        self.trained = self.run = 0
        self._issued: int | None = None  # the step of the conditions that were issued last
        self._drawn: tuple[int, dict[str, torch.Tensor]] | None = None
        self._answer: Answer | None = None  # to the step `trained`
        self._initial = deepcopy(self.state_dict())

    @property
    def policy(self) -> ReleasePolicy:
        """The site's release policy."""
        return self.gate.policy

    def open(self, step: int) -> SiteInfo:
        """
        Take part from ``step`` (from 1) on, with the newest state of at most ``step`` - 1 that the site has: the one it
        is in, one of its checkpoints, or its initial weights. A site that has done ``step`` already stays as it is and
        returns the same reply again: the server has lost it.

        Raises:
            ValueError: when the step is below 1 or beyond any training, or the newest checkpoint is of another site or
                seed.
        """
        with self._counted():
            if not 1 <= step <= guards.MAX_STEP:
                raise guards.Violation(f"site {self.name}: steps are counted from 1 to {guards.MAX_STEP}, got {step}")
            self.gate.check_step(step)
            if self.trained != step - 1 and not (self._answer and self._answer.issued == step):
                self._go_to(step - 1)
            conditions, nonce = self._issue(step)
            said = self.gate.num_samples(len(self.samples))
            own = {"modalities": ",".join(self.modalities)} if self.modalities else {}
            self.gate.record("open", {"conditions": conditions}, step=step, num_samples=said, **own)
        policy = self.policy.describe()
        return SiteInfo(self.name, said, step, conditions, self.trained, self.batch_size, nonce, policy, **own)

    def step(self, synthetic: SyntheticBatch) -> SiteReply:
        """
        Update D_j on (x, y) against (x, ŷ), then return ∂L_j/∂ŷ from the updated D_j.

        Asked again for the step that it did last, the site returns the reply it gave then, whatever ŷ is this time: D_j
        is not updated twice, and nobody learns more of y by asking twice.

        Raises:
            ValueError: when it is not what :func:`bundle.wire.guards.check_synthetic` expects, or of a
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
        issued = self._issued_for(step)
        drawn = self.draw(issued)
        public = drawn["condition"].shape if self.policy.conditions == "public" else None
        guards.check_synthetic(synthetic, self.name, drawn["image"].shape, public)
        self.gate.redeem(issued, synthetic.nonce)
        before = self.trained
        try:
            self._answer = self._learn(synthetic, drawn, issued)
        except Exception:
            self.gate.note_failure(step)
            raise
        reply = self._reply()
        # after it is in the ledger: no checkpoint holds an answer that was not counted
        self._keep(before, step)
        return reply

    def conditions(self, request: ConditionRequest) -> ConditionBatch:
        """
        Conditions of the site's samples in their order, for generation.

        A message holds conditions of one shape: where the samples' differ, fewer than asked for are returned, up to the
        first of another shape. Where the policy has a teacher, they are a :class:`bundle.wire.messages.TaughtBatch`,
        with the images that it predicts for them; it is trained before the first leave. Of one whose updates get noise,
        the weights leave in their place: :class:`bundle.wire.messages.TaughtWeights`.

        Raises:
            ReleaseRefused: when they may not be kept, or the release policy lets none out.
        """
        with self._counted():
            guards.check_request(request, self.name)
            if isinstance(self.teacher, PrivateTeacher):
                return self.teacher.release(request)
            return self._conditions(request, self.teacher)

    def _conditions(self, request: ConditionRequest, teacher: Teacher | None) -> ConditionBatch:
        available = self.gate.keepable(len(self.samples))
        chosen: list[torch.Tensor] = []
        taught: list[torch.Tensor] = []
        for index in range(request.start, min(request.stop, available)):
            condition = outgoing(self.samples[index])
            if chosen and condition.shape != chosen[0].shape:
                break
            if teacher is not None:
                image = teacher.predict(index, condition)
                if taught and 4 * image.numel() * (1 + len(taught)) > MAX_TAUGHT_BYTES:
                    break
                taught.append(image)
            chosen.append(condition)
        conditions = torch.stack(chosen) if chosen else torch.empty(0, dtype=torch.uint8)
        self.gate.deliver([self._named(request.start + place) for place in range(len(chosen))])
        if not taught:
            self.gate.record("conditions", {"conditions": conditions})
            return ConditionBatch(self.name, request.start, conditions)
        images = torch.stack(taught)
        self.gate.record("conditions", {"conditions": conditions, "teacher images": images.half()})
        return TaughtBatch(self.name, request.start, conditions, images)

    def draw(self, step: int) -> dict[str, torch.Tensor]:
        """
        The site's samples of a step: ``condition`` B×X×H×W uint8 and ``image`` B×C×H×W float32 in [-1, 1]. They are
        kept until others are asked for: a step asks twice, to issue the conditions and to learn. A critic whose updates
        get noise draws others, by the site's secret; zeros are in their place then.
        """
        if isinstance(self.critic, PrivateCritic):
            return self.critic.blank(self.batch_size)
        if self._drawn is None or self._drawn[0] != step:
            first = (step - 1) * self.batch_size
            self._drawn = step, self.samples.batch(self.seed, self.name, first, self.batch_size)
        return self._drawn[1]

    def state_dict(self) -> dict:
        about = {"trained": self.trained, "run": self.run, "policy": self.policy.to_dict()} | self._folds_of_state()
        about |= {"modalities": list(self.modalities)} if self.modalities else {}
        return self.critic.state_dict() | about | {"answer": self._answer and dict(vars(self._answer))}

    def load_state_dict(self, state: dict) -> None:
        """
        Raises:
            ValueError: when it is of other folds: its critics have seen whom they would answer for; or of other
                modalities.
        """
        check_checkpoint(self.name, state.get("modalities", ()), self.modalities)
        if state["trained"] and state.get("folds") != self._folds_of_state(state["trained"]).get("folds"):
            raise ValueError(
                f"site {self.name}: its checkpoint was made with other folds of its patients than its ledger's: bring "
                "back the ledger that it was made with, or remove the checkpoints"
            )
        self.critic.load_state_dict(state)
        self.trained, self.run = state["trained"], state["run"]
        # an answer that another policy let out is not given again under this one
        answer = state["answer"] if state.get("policy") == self.policy.to_dict() else None
        self._answer = answer and Answer(**answer)

    def begin(self, state: dict) -> None:
        """Begin with the critic of an earlier training in the place of initial weights; raises as the above."""
        self.load_state_dict(state)
        self.trained, self.run, self._answer = 0, 0, None
        self._initial = deepcopy(self.state_dict())

    def _folds_of_state(self, trained: int | None = None) -> dict[str, str]:
        """What tells the folds of a state from others; before the first step nobody has asked for them."""
        if not isinstance(self.critic, FoldedCritic):
            return {}
        return {"folds": self.critic.folds.digest if (self.trained if trained is None else trained) else ""}

    def _issued_for(self, step: int) -> int:
        """The step whose conditions the images of a step are of."""
        if not self.waits:
            return step
        if self._issued is None or self._issued > step:
            raise guards.Violation(f"site {self.name}: it has issued no conditions that step {step} could be about")
        return self._issued

    def _learn(self, synthetic: SyntheticBatch, drawn: dict[str, torch.Tensor], issued: int) -> Answer:
        """Update D_j; the answer, as far as the policy lets it out."""
        device, step = self.critic.device, synthetic.step
        real = drawn["image"].to(device)
        images = synthetic.images.to(device)
        condition = drawn["condition"].to(device, real.dtype)
        public = self.policy.conditions == "public"
        source = (synthetic.conditions if public else outgoing(drawn)).to(device, real.dtype)
        critic = self.critic.of(self._indices(issued)) if isinstance(self.critic, FoldedCritic) else self.critic
        with forked_rng(derive_seed(self.seed, "site", self.name, step), device):
            loss = critic.update((condition, real), (source, images), step)
            # from here on the step is done, whatever becomes of its answer
            self.run = self.run + step - self.trained if issued == self.trained + 1 else 1
            self.trained, self._answer = step, None
            gradient, terms = critic.gradient(source, images, real)
        # of several critics it would mix what is known of all their patients
        losses = {} if loss is None else {"discriminator": loss}
        # noise is drawn once: the answer that is given again is the very same
        gradient, noise = self.gate.gradient(gradient)
        return Answer(gradient, self.gate.losses(losses | terms), noise, issued)

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
        answer = self._answer
        conditions, nonce = self._following()
        tensors = {"image gradient": answer.gradient, "conditions": conditions}
        self.gate.record("reply", tensors, answer.losses, answer.noise, step=self.trained)
        return SiteReply(self.name, self.trained, answer.gradient, dict(answer.losses), conditions, nonce)

    def _following(self) -> tuple[torch.Tensor, str]:
        """The next conditions and their nonce; after the last step those of that step again: there are no others."""
        if not self.gate.is_past_the_end(self.trained + 1):
            return self._issue(self.trained + 1)
        return self._leaving(self._answer.issued), ""

    def _issue(self, step: int) -> tuple[torch.Tensor, str]:
        """The conditions of a step as they leave, and their nonce."""
        leaving, self._issued = self._leaving(step), step
        if self.policy.conditions == "public":
            return leaving, self.gate.issue(step, [])
        return leaving, self.gate.issue(step, [self._named(index) for index in self._indices(step)])

    def _indices(self, step: int) -> list[int]:
        """The samples of a step."""
        first = (step - 1) * self.batch_size
        return drawn_indices(self.seed, self.name, first, self.batch_size, len(self.samples)).tolist()

    def _leaving(self, step: int) -> torch.Tensor:
        if self.policy.conditions == "public":
            return torch.empty(0, dtype=torch.uint8)
        return outgoing(self.draw(step))

    def _named(self, index: int) -> str:
        """A sample by what it is of, in the ledger: no name of a patient, and the same in every training."""
        return tensor_digest(list(self.samples.origin(index)))[:16]

    @property
    def _identity(self) -> dict[str, str | int]:
        return {"site": self.name, "seed": self.seed}

    def _keep(self, before: int, after: int) -> None:
        """
        Keep a checkpoint where one belongs between these two numbers of steps; after each step where nobody knows which
        is the site's last before the server writes its own.
        """
        if self.store is None or not (self.waits or self.store.due(before, after)):
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
