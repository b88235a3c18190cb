"""The distributed training step as an Ignite engine."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from monai.engines import Trainer
from monai.inferers import Inferer, SimpleInferer

from bundle.seeding import derive_seed, forked_rng
from bundle.server.channels import Channels
from bundle.server.conditions import PublicConditions
from bundle.server.federation import Federation, Outcome
from bundle.server.mixture import asked_sites, check_sites_per_step, mixture_weights
from bundle.server.paired_term import PairedTerm
from bundle.server.replay import Replay
from bundle.server.roster import ReleasesEnded, Roster, TooFewSites
from bundle.server.step import (
    OlderGenerator,
    Participant,
    SiteGradients,
    StepUnderWay,
    check_images,
    checked_staleness,
)
from bundle.timing import Laps
from bundle.wire.fold_losses import of_all_folds
from bundle.wire.guards import MAX_BATCH, LateReply, Violation, check_info, check_reply
from bundle.wire.messages import SiteInfo, SiteReply

__all__ = ["DistributedGanTrainer"]

logger = logging.getLogger(__name__)


class DistributedGanTrainer(Trainer):
    """
    Trains a generator against the discriminators of a federation (Chang et al., *Synthetic Learning*, CVPR 2020).

    One iteration is one step, and one round trip: ŷ_j = G(x_j) to every site j, ∂L_j/∂ŷ_j and the next conditions back,
    Σ_j π_j ∂L_j/∂ŷ_j through G, one update of G. Where a site has a teacher, π_j times the
    paired term of :class:`bundle.server.PairedTerm` is added here. The trainer knows a
    :class:`bundle.server.Federation` and not where its sites are. Handlers do everything else.

    With ``sites_per_step`` a step asks so many sites, drawn and weighted by :func:`bundle.server.asked_sites` such that
    the mean over all draws is the step that asks all. A site that is not asked hears nothing: its D_j, its conditions
    and their nonce stay, until it is.

    A site that fails costs its share of a step and no more: the others go on with weights π renormalised over those
    present, and it is asked to open again later. Whatever a site says is checked before anything is computed with it
    (:mod:`bundle.wire.guards`); what does not pass is dropped, with the same effect as no answer, and is a strike
    (:class:`bundle.server.roster.Roster`). A step that too few sites answered is not done at all.

    Args:
        device: where the generator computes.
        max_epochs: number of epochs.
        epoch_length: steps per epoch; an epoch is only the interval at which handlers act.
        federation: the sites.
        generator: G, from conditions B×X×H×W to images B×C×H×W in [-1, 1].
        optimizer: optimiser of ``generator``.
        inferer: how the generator is called; :class:`bundle.engines.AutocastInferer` for mixed precision.
        mixture: see :func:`bundle.server.mixture.mixture_weights`.
        modalities: names of the generator's channels, in their order; None where no site may lack any.
        seed: seed of the run, for a generator with random layers.
        min_sites: how many sites must answer for a step to be done; more than there are, or than it asks, means all of
            them.
        rejoin_interval: steps after which a site that failed is asked to open again.
        max_strikes: answers that do not pass the checks after which a site is left out for the rest of the run.
        max_gradient_norm: what the L2 norm of ∂L_j/∂ŷ_j of one image may be at most; None for no bound.
        condition_channels: X of all sites' conditions; None for that of most.
        condition_size: H×W of them, likewise.
        max_batch_size: largest B of a site.
        paired: the paired term of sites whose teacher's images are at the server; None for none.
        guided: whether G sees the teacher's image of every condition beside it, of ``paired``: it is called with
            B×(X+C)×H×W then, zeros where a site has no teacher. No site may lack a modality.
        public_conditions: the server's own, for sites that issue none; without them such a site cannot take part.
        train_data_loader: nothing by default: the server holds no data. MONAI's bundle properties require the key.
        train_handlers: MONAI or Ignite handlers.
        sites_per_step: how many sites a step asks, from 1 to as many as there are; None for all.
        replay: the reminding loss of sites that have left; None for none.
        staleness: by how many updates the weights that make a step's images may lag. 1: sites compute on them while
            this server still makes the update before; each of the same number of updates is then by gradients at the
            weights before the last one.

    After an iteration ``engine.state.output`` is ``[{"loss": Σ_j π_j adversarial_j, "losses": {site: {name: value}},
    "images": {site: B×C×H×W}, "conditions": {site: B×X×H×W}, "seconds": {part: value}}]`` of the sites that
    answered: a list of one, as ``monai.handlers.from_engine(["loss"], first=True)`` and what is built on it want.
    Seconds are wall time since the end of the step before: ``generator`` (forward, backward, update), ``sites`` (until
    they have answered, or are given up) and ``other`` (handlers). ``engine.state.sites`` is the roster's ``record`` of
    all sites, and part of the engine's ``state_dict``.

    When so many sites have spent the budget of their release policy that no further step can be done, the training ends
    there as if it had reached its last step.

    Raises:
        TooFewSites: when fewer than ``min_sites`` answered. Generator, optimiser and ``engine.state.iteration`` are
            those after the last step that was done then, for a checkpoint that a new engine goes on from.
        FloatingPointError: when the generator's own images are not finite.
        ValueError: for another mixture, or numbers out of range; when no site has one of the modalities; when the
            generator returns several tensors, or images that leave [-1, 1].
    """

    def __init__(
        self,
        device: torch.device | str,
        max_epochs: int,
        epoch_length: int,
        federation: Federation,
        generator: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        inferer: Inferer | None = None,
        mixture: Literal["proportional", "sum"] = "proportional",
        seed: int = 0,
        min_sites: int = 1,
        rejoin_interval: int = 10,
        max_strikes: int = 3,
        max_gradient_norm: float | None = None,
        condition_channels: int | None = None,
        condition_size: Sequence[int] | None = None,
        max_batch_size: int = MAX_BATCH,
        public_conditions: PublicConditions | None = None,
        train_data_loader: Iterable | None = None,
        train_handlers: Sequence | None = None,
        paired: PairedTerm | None = None,
        guided: bool = False,
        sites_per_step: int | None = None,
        replay: Replay | None = None,
        staleness: int = 0,
        modalities: Sequence[str] | None = None,
    ) -> None:
        self.federation = federation
        self.generator = generator
        self.optimizer = optimizer
        self.inferer = SimpleInferer() if inferer is None else inferer
        self.mixture = mixture
        mixture_weights({}, mixture)  # refuses another name now and not at the first step
        self.channels = Channels(modalities, mixture)
        if max_gradient_norm is not None and not max_gradient_norm > 0:
            raise ValueError(f"max_gradient_norm: expected a number above 0 or None, got {max_gradient_norm!r}")
        self.seed = seed
        self.roster = Roster(federation.sites, min_sites, rejoin_interval, max_strikes)
        check_sites_per_step(sites_per_step, federation.sites)
        self.sites_per_step = sites_per_step
        self.max_gradient_norm = max_gradient_norm
        self.condition_channels = condition_channels
        self.condition_size = condition_size
        self.max_batch_size = max_batch_size
        self.public_conditions = public_conditions
        self.paired = paired
        if guided and (paired is None or not modalities):
            raise ValueError("guided: expected paired, whose images G is to see, and modalities, their channels")
        self.guided = guided
        self.replay = replay
        self.staleness = checked_staleness(staleness, generator, sites_per_step)
        self._ahead: StepUnderWay | None = None
        self._participants: dict[str, Participant] = {}  # by site; empty until the run has begun
        self._laps = Laps()
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            data_loader=train_data_loader if train_data_loader else range(epoch_length),
            epoch_length=epoch_length,
            handlers=train_handlers,
            decollate=False,
        )
        self.state.sites = self.roster.record
        self.state.older = {}
        self.state_dict_user_keys.extend(["sites", "older"] if self.staleness else ["sites"])

    def run(self) -> None:
        try:
            super().run()
        finally:
            self.federation.rest()

    def strike(self, site: str, reason: str) -> None:
        """Count what no site can have said, to a handler and before the first step of a run (:class:`Roster`)."""
        self._begin(self.state.iteration + 1)
        self.roster.struck(site, self.state.iteration + 1, reason)

    def _begin(self, step: int) -> None:
        # not when it is made: a checkpoint may have been loaded in between
        self.roster.start(step, self.state.sites)
        self.state.sites = self.roster.record

    def _iteration(self, engine: DistributedGanTrainer, batchdata: Any) -> list[dict[str, Any]]:
        # batch statistics, if there are any: the generator's only state that changes before the replies are there
        buffers = {name: buffer.clone() for name, buffer in self.generator.named_buffers()}
        try:
            return self._step(engine.state.iteration)
        except TooFewSites as error:
            for name, buffer in self.generator.named_buffers():
                buffer.copy_(buffers[name])
            self._ahead = None
            engine.state.iteration -= 1
            if not isinstance(error, ReleasesEnded) or not engine.state.iteration:
                raise
            logger.warning("the training ends after step %d: %s", engine.state.iteration, error)
            engine.terminate()
            return engine.state.output

    def _step(self, step: int) -> list[dict[str, Any]]:
        self._laps.lap("other")
        self._open(step)
        self._laps.lap("sites")
        self.generator.train()
        self.optimizer.zero_grad(set_to_none=True)
        probabilities = self._asked(step)
        now, self._ahead = self._begun(step)
        self.federation.send(now.batches({s: self._participants[s] for s in probabilities if s not in now.asked}))
        reminder = None if self.replay is None else self.replay.loss(self.generator, step, self.state.device)
        if self.replay is not None and reminder is not None:
            now.begin_with(self.replay.weight * reminder, self.generator.parameters())
            self._laps.lap("generator")
        gradients = self._exchange(now, self._weights(now.asked, probabilities))

        present = sorted(now.after)
        weights = self._weights(present, probabilities)
        if len(present) < len(now.asked):
            gradients = self._once_more(now, weights)
        gradients.store(self.generator.parameters())
        self.optimizer.step()
        self.state.older = self._ahead.network.weights if self._ahead else {}
        self._laps.lap("generator")

        self._participants = {s: a for s, a in self._participants.items() if s not in now.asked} | now.after
        output = {
            # not a number where a site withholds its losses
            "loss": sum(weights[s] * now.losses[s].get("adversarial", math.nan) for s in present),
            "losses": {s: now.losses[s] for s in present},
            **({} if reminder is None else {"replay": reminder.item()}),
            "images": {s: now.images[s].detach() for s in present},
            "conditions": {s: now.asked[s].conditions for s in present},
            "seconds": self._laps.take(),
        }
        return [output]

    def _asked(self, step: int) -> dict[str, float]:
        """The sites that the step asks, sorted, and how probable that was."""
        counts = {site: about.num_samples for site, about in self._participants.items()}
        return asked_sites(counts, self.sites_per_step or len(counts), self.seed, step, self.mixture)

    def _begun(self, step: int) -> tuple[StepUnderWay, StepUnderWay | None]:
        """This step and, where its images do not wait for the update of this one, the next."""
        if not self.staleness:
            return StepUnderWay(step, self.generator, self._images, self.channels.sent), None
        older = OlderGenerator(self.generator, self.state.older)
        now = self._ahead or StepUnderWay(step, older, self._images, self.channels.sent)
        return now, StepUnderWay(step + 1, OlderGenerator(self.generator), self._images, self.channels.sent)

    def _weights(self, sites: Iterable[str], probabilities: Mapping[str, float]) -> dict[str, float]:
        counts = {site: self._participants[site].num_samples for site in sorted(sites)}
        return mixture_weights(counts, self.mixture, probabilities)

    def _exchange(self, now: StepUnderWay, weights: Mapping[str, float]) -> SiteGradients:
        """The gradients of the sites whose replies passed, at least ``min_sites``; others compute meanwhile."""
        gradients, waiting, due = now.gradients(), set(now.asked), dict[str, Participant]()
        last = now.step == self.state.max_epochs * self.state.epoch_length
        for outcome in self.federation.replies():
            self._laps.lap("sites")
            self.roster.dropped(outcome.late)
            for site in sorted(waiting & {*outcome.messages, *outcome.failures}):
                waiting.remove(site)
                reply = self._passed(now, site, outcome)
                if reply is None:
                    gradients.leave_out(site)
                    continue
                now.after[site] = due[site] = self._continued(site, now.asked[site], now.step + 1, reply)
                # not before this step is certain to be done
                if self._ahead and not last and len(now.after) >= self.roster.min_sites:
                    self.federation.send(self._ahead.batches(due))
                    due = {}
                now.replies[site] = reply
                self._back(now, site, weights, gradients)
            self._laps.lap("generator")
        for site in sorted(waiting):
            self._missing(site, now.step, Outcome())
            gradients.leave_out(site)
        self.roster.require(now.step, now.asked)
        for site in sorted(now.after):
            self.roster.answered(site, now.step)
        return gradients

    def _passed(self, now: StepUnderWay, site: str, outcome: Outcome) -> SiteReply | None:
        if site not in outcome.messages:
            self._missing(site, now.step, outcome)
            return None
        sent = now.sent[site], now.asked[site].conditions, self.max_gradient_norm
        return (
            outcome.messages[site] if self._passes(site, now.step, check_reply, outcome.messages[site], *sent) else None
        )

    def _once_more(self, now: StepUnderWay, weights: Mapping[str, float]) -> SiteGradients:
        """With other weights than the sites were first given, for some have failed: their images are made again."""
        buffers = {name: buffer.clone() for name, buffer in self.generator.named_buffers()}
        gradients = now.gradients(weights)
        for site in sorted(weights, reverse=True):
            now.images[site] = self._images(now.asked[site], site, now.step, now.network)
            self._back(now, site, weights, gradients)
        for name, buffer in self.generator.named_buffers():
            buffer.copy_(buffers[name])
        return gradients

    def _back(self, now: StepUnderWay, site: str, weights: Mapping[str, float], gradients: SiteGradients) -> None:
        """π_j ∂L_j/∂ŷ through G, and the paired term of a site that has one; ``weights`` are of all that count."""
        images, about, reply, weight = now.images[site], now.asked[site], now.replies[site], weights[site]
        now.losses[site] = of_all_folds(reply.losses)
        returned = reply.image_gradient.to(self.state.device)
        counts = {s: a.num_samples for s, a in self._participants.items() if s in weights or s not in now.asked}
        outputs, given = [images], [self.channels.weighted(site, returned, weight, counts)]
        term = None
        if self.paired:
            own, shares = self.channels.sent(site, images), self.channels.shares(site, counts)
            term = self.paired.loss(site, about.step, about.conditions, own, shares)
        if self.paired and term is not None:
            now.losses[site]["paired"] = term.item()
            outputs, given = [*outputs, weight * self.paired.weight * term], [*given, None]
        gradients.add(site, outputs, given)
        now.images[site] = images.detach()

    def _continued(self, site: str, about: Participant, step: int, message: SiteInfo | SiteReply) -> Participant:
        """A site as it takes part in a step, after what it said: conditions it issued, or the server's own."""
        conditions = message.conditions
        if not about.issuing:
            assert self.public_conditions is not None  # without them nobody takes part who issues none
            conditions = self.public_conditions.batch(self.seed, site, step, about.batch_size)
        if self.sites_per_step is not None:
            self.roster.waits(site, step)
        return replace(about, nonce=message.nonce, step=step, conditions=conditions)

    def _open(self, step: int) -> None:
        """Ask the sites that do not take part to do so from this step on: at first all, then those that are due."""
        if not self._participants:
            self._begin(step)
        due = self.roster.due(step)
        if due:
            steps = self.roster.opening(due, step)
            outcome = self.federation.open(step, due, {site: own for site, own in steps.items() if own != step})
            self.roster.dropped(outcome.late)
            infos: dict[str, SiteInfo] = {}
            for site in due:
                asked = site, steps[site], (), self.max_batch_size
                if site not in outcome.messages:
                    self._missing(site, step, outcome)
                elif self._passes(site, step, check_info, outcome.messages[site], *asked):
                    infos[site] = outcome.messages[site]
            expected = self._condition_shape(infos), self.max_batch_size
            for site, info in infos.items():
                issuing = info.conditions.numel() > 0
                if not issuing and self.public_conditions is None:
                    reason = "it issues no conditions, and there are no public_conditions of the server's own"
                    self.roster.failed(site, step, reason)
                elif self._passes(site, step, check_info, info, site, steps[site], *expected) and self._passes(
                    site, step, self.channels.join, info, self.roster.record[site]
                ):
                    self.roster.opened(site, step, info.trained, info.policy)
                    about = Participant(info.num_samples, info.batch_size, info.nonce, issuing, step, info.conditions)
                    self._participants[site] = self._continued(site, about, steps[site], info)
            self.channels.check(step, self._participants, self.roster.record)
        self.roster.require(step)

    def _condition_shape(self, infos: Mapping[str, SiteInfo]) -> Sequence[int | None]:
        """X×H×W of the conditions: as configured, or else of those who take part, or of most who want to."""
        issued = {site: info.conditions for site, info in infos.items() if info.conditions.numel()}
        known = {site: about.conditions for site, about in self._participants.items()} or issued
        shapes = [conditions.shape[1:] for conditions in known.values()]
        shapes = [shape for shape in shapes if self.condition_channels in (None, shape[0])]
        # of as many of either shape the smaller
        counted = Counter(sorted(shapes, key=torch.Size.numel)).most_common(1)
        most = counted[0][0] if counted else (None, None, None)
        channels = most[0] if self.condition_channels is None else self.condition_channels
        return channels, *(most[1:] if self.condition_size is None else self.condition_size)

    def _missing(self, site: str, step: int, outcome: Outcome) -> None:
        told = self.roster.ended if site in outcome.ended else self.roster.failed
        told = self.roster.struck if site in outcome.broken else told
        told(site, step, outcome.failures.get(site, "no answer"))

    def _passes(self, site: str, step: int, check: Callable[..., None], *message: Any) -> bool:
        try:
            check(*message)
        except LateReply as error:
            self.roster.late(site, step, str(error))
        except Violation as error:
            self.roster.struck(site, step, str(error))
        else:
            return True
        return False

    def _images(self, *of: Any) -> torch.Tensor:
        self._laps.lap("sites")
        images = self._generate(*of)
        check_images(images, of[2])
        self._laps.lap("generator")
        return images

    def _generate(self, about: Participant, site: str, step: int, network: Callable[..., torch.Tensor]) -> torch.Tensor:
        inputs = about.conditions.to(self.state.device, torch.float32)
        if self.guided:
            inputs = torch.cat([inputs, self._guide(about, site)], dim=1)
        with forked_rng(derive_seed(self.seed, "generator", site, step), self.state.device):
            return self.inferer(inputs, network)

    def _guide(self, about: Participant, site: str) -> torch.Tensor:
        """The teacher's images B×C×H×W of a site's conditions."""
        assert self.paired is not None
        modalities = self.channels.modalities
        if len(self.channels.own(site)) < len(modalities):
            raise ValueError(
                f"generator_guide: site {site} lacks a modality, and so does what its teacher would show G"
            )
        # by the step that they were issued for, which other sites' steps may follow
        taught = self.paired.taught(site, about.step, about.conditions, len(modalities), self.state.device)
        if taught is not None:
            return taught
        if not self.paired.any():
            raise ValueError(
                "generator_guide: no site has a teacher whose images G could see (release_policy: out_of_fold, or one "
                "with teacher: true)"
            )
        shape = (len(about.conditions), len(modalities), *about.conditions.shape[2:])
        return torch.zeros(shape, device=self.state.device)
