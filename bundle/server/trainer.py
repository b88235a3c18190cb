"""The distributed training step as an Ignite engine."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from bundle.timing import Laps
from bundle.wire.fold_losses import of_all_folds
from bundle.wire.guards import MAX_BATCH, TOLERANCE, LateReply, Violation, check_info, check_reply
from bundle.wire.messages import SiteInfo, SiteReply, SyntheticBatch

__all__ = ["DistributedGanTrainer", "first_images", "losses_by_tag", "mean_losses"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Participant:
    """What the trainer knows of a site that takes part in the step to come."""

    num_samples: int
    batch_size: int
    nonce: str
    issuing: bool  # whether its conditions are its own, or the server's public ones
    step: int  # that the conditions were issued for; later ones may pass before the site is asked
    conditions: torch.Tensor


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
        public_conditions: the server's own, for sites that issue none; without them such a site cannot take part.
        train_data_loader: nothing by default: the server holds no data. MONAI's bundle properties require the key.
        train_handlers: MONAI or Ignite handlers.
        sites_per_step: how many sites a step asks, from 1 to as many as there are; None for all.
        replay: the reminding loss of sites that have left; None for none.

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
        sites_per_step: int | None = None,
        replay: Replay | None = None,
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
        self.replay = replay
        self._participants: dict[str, _Participant] = {}  # by site; empty until the run has begun
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
        self.state_dict_user_keys.append("sites")

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
        participants = self._participants
        self.generator.train()
        self.optimizer.zero_grad(set_to_none=True)
        asked = self._asked(step)
        images = {site: self._generate(participants[site].conditions, site, step) for site in asked}
        _check_images(images.values(), step)
        self._laps.lap("generator")
        replies = self._exchange({site: self._message(site, step, own) for site, own in images.items()})
        self._laps.lap("sites")

        # in the order of names: floating-point sums depend on their order
        present = sorted(replies)
        counts = {s: about.num_samples for s, about in participants.items() if s in replies or s not in asked}
        weights = mixture_weights({site: counts[site] for site in present}, self.mixture, asked)
        returned = {s: replies[s].image_gradient.to(self.state.device) for s in present}
        gradients = self.channels.weighted(returned, weights, counts, images)
        terms = self._paired({s: images[s] for s in present})
        weighted = [weights[s] * self.paired.weight * term for s, term in terms.items()] if self.paired else []
        reminder = None
        if self.replay is not None:
            reminder = self.replay.loss(self.generator, step, self.state.device)
            weighted += [] if reminder is None else [self.replay.weight * reminder]
        torch.autograd.backward([*(images[s] for s in present), *weighted], [*gradients, *([None] * len(weighted))])
        self.optimizer.step()
        self._laps.lap("generator")

        waiting = {s: about for s, about in participants.items() if s not in asked}
        self._participants = waiting | {s: self._continued(s, participants[s], step + 1, replies[s]) for s in present}
        losses = {s: of_all_folds(replies[s].losses) for s in present}
        for s, term in terms.items():
            losses[s]["paired"] = term.item()
        output = {
            # not a number where a site withholds its losses
            "loss": sum(weights[s] * losses[s].get("adversarial", math.nan) for s in present),
            "losses": losses,
            **({} if reminder is None else {"replay": reminder.item()}),
            "images": {s: images[s].detach() for s in present},
            "conditions": {s: participants[s].conditions for s in present},
            "seconds": self._laps.take(),
        }
        return [output]

    def _asked(self, step: int) -> dict[str, float]:
        """The sites that the step asks, sorted, and how probable that was."""
        counts = {site: about.num_samples for site, about in self._participants.items()}
        return asked_sites(counts, self.sites_per_step or len(counts), self.seed, step, self.mixture)

    def _paired(self, images: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The paired term by site, of sites that have one."""
        if self.paired is None:
            return {}
        of = self._participants
        found = {s: self.paired.loss(s, of[s].step, of[s].conditions, own) for s, own in images.items()}
        return {s: term for s, term in found.items() if term is not None}

    def _message(self, site: str, step: int, images: torch.Tensor) -> SyntheticBatch:
        about = self._participants[site]
        synthetic = SyntheticBatch(site, step, self.channels.sent(site, images.detach()), about.nonce)
        return synthetic if about.issuing else replace(synthetic, conditions=about.conditions)

    def _continued(self, site: str, about: _Participant, step: int, message: SiteInfo | SiteReply) -> _Participant:
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
                    about = _Participant(info.num_samples, info.batch_size, info.nonce, issuing, step, info.conditions)
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

    def _exchange(self, synthetic: Mapping[str, SyntheticBatch]) -> dict[str, SiteReply]:
        """The replies that passed, of at least ``min_sites`` sites."""
        outcome = self.federation.exchange(synthetic)
        self.roster.dropped(outcome.late)
        replies = {}
        for site, own in synthetic.items():
            sent = own, self._participants[site].conditions, self.max_gradient_norm
            if site not in outcome.messages:
                self._missing(site, own.step, outcome)
            elif self._passes(site, own.step, check_reply, outcome.messages[site], *sent):
                replies[site] = outcome.messages[site]
        self.roster.require(self.state.iteration, synthetic)
        for site in replies:
            self.roster.answered(site, self.state.iteration)
        return replies

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

    def _generate(self, conditions: torch.Tensor, site: str, step: int) -> torch.Tensor:
        inputs = conditions.to(self.state.device, torch.float32)
        with forked_rng(derive_seed(self.seed, "generator", site, step), self.state.device):
            return self.inferer(inputs, self.generator)


def _check_images(images: Iterable[torch.Tensor], step: int) -> None:
    """Sites would refuse what is none, each by itself, and that would look as if all of them had failed."""
    for own in images:
        if not isinstance(own, torch.Tensor):
            raise ValueError(f"step {step}: generator_def: expected one tensor, got a {type(own).__name__}")
        largest = own.detach().abs().max().item()
        if not math.isfinite(largest):
            raise FloatingPointError(f"step {step}: the generator's images are not finite")
        if largest > 1 + TOLERANCE:
            raise ValueError(
                f"step {step}: generator_def: expected images in [-1, 1], got values as large as {largest:.4g}: "
                "let it end in tanh"
            )


def losses_by_tag(output: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The output of a step as scalars: ``loss/SITE/TERM``, and ``seconds/PART`` of the server's time."""
    (about,) = output
    losses = {f"loss/{site}/{term}": v for site, terms in about["losses"].items() for term, v in terms.items()}
    losses |= {"replay": about["replay"]} if "replay" in about else {}
    return losses | {f"seconds/{part}": value for part, value in about.get("seconds", {}).items()}


def mean_losses(output: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The losses of a step by term, averaged over the sites that answered with it."""
    by_term: dict[str, list[float]] = {}
    for losses in output[0]["losses"].values():
        for term, value in losses.items():
            by_term.setdefault(term, []).append(value)
    return {term: sum(values) / len(values) for term, values in by_term.items()}


def first_images(output: Sequence[Mapping[str, Any]]) -> torch.Tensor:
    """
    The output of a step as one picture for TensorBoard: a row for every site that answered, its first condition beside
    what the generator made of it. Real images are none: the server has none.

    Returns:
        1×3×(S·H)×(2·W), float32 in [0, 1], of S sites. A condition's classes get brighter in the order of its channels;
        of an image that is neither grey nor RGB, the first channel is shown.
    """
    (about,) = output
    rows = []
    for site in sorted(about["images"]):
        condition, image = about["conditions"][site][0].cpu().float(), about["images"][site][0].cpu().float()
        brightness = torch.arange(len(condition), 0, -1).reshape(-1, 1, 1) / len(condition)
        shown = (condition * brightness).amax(dim=0, keepdim=True)
        image = ((image if len(image) == 3 else image[:1]) + 1) / 2
        rows.append(torch.cat([shown.expand(3, -1, -1), image.clamp(0, 1).expand(3, -1, -1)], dim=2))
    height, width = (max(row.shape[axis] for row in rows) for axis in (1, 2))
    padded = [torch.nn.functional.pad(r, (0, width - r.shape[2], 0, height - r.shape[1])) for r in rows]
    return torch.cat(padded, dim=1)[None]
