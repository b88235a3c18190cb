"""What the trainer knows of the sites: a federation, whatever lies between."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Self

from bundle.wire.codec import WireLedger
from bundle.wire.messages import ConditionBatch, ConditionRequest, SyntheticBatch

__all__ = ["Federation", "Outcome", "SequentialFederation", "SiteUnreachable"]


class SiteUnreachable(ConnectionError):
    """A site did not answer, or refused to; the message names it and says why."""

    @classmethod
    def no_conditions(cls, site: str, reason: str) -> SiteUnreachable:
        return cls(f"site {site} released no conditions: {reason}")


@dataclass(frozen=True)
class Outcome:
    """
    What came of asking several sites for something. Whoever was asked is in one of the two, and not in both.

    Args:
        messages: by site, what it answered. Nothing but decoded: :mod:`bundle.wire.guards` judges what it says.
        failures: by site, why it did not, in words for a log: out of reach, too late, what it refused, what of its
            answer could not be decoded.
        late: by site, how many of its answers came after they had been waited for and were dropped, since the outcome
            before.
        ended: the sites among ``failures`` that will release nothing more in this training: their budget is spent.
        broken: the sites among ``failures`` that did answer, with what is no message, or one that is larger than any
            could be: no site that does what it should can have sent it.
    """

    messages: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    late: Mapping[str, int] = field(default_factory=dict)
    ended: Collection[str] = frozenset()
    broken: Collection[str] = frozenset()

    @classmethod
    def of(cls, outcomes: Iterable[Self]) -> Self:
        """What came of asking several times, other sites each time."""
        messages: dict[str, Any] = {}
        failures: dict[str, str] = {}
        late: Counter[str] = Counter()
        ended, broken = set[str](), set[str]()
        for one in outcomes:
            messages |= one.messages
            failures |= one.failures
            late.update(one.late)
            ended |= set(one.ended)
            broken |= set(one.broken)
        return cls(messages, failures, dict(late), frozenset(ended), frozenset(broken))


class Federation(ABC):
    """
    The sites, as the server sees them.

    A site that fails is no error here: :class:`Outcome` tells of it, and the caller decides. Nothing is asked of a site
    that the caller did not name, so a site that failed hears nothing until it is asked to :meth:`open` again.

    ``state_dict`` / ``load_state_dict`` belong to the server's checkpoint. A federation that holds its sites in the
    same process stores them in it whole. Behind a network every site keeps its own checkpoints, and ``open`` says which
    step it is to go back to.
    """

    ledger: WireLedger

    @property
    @abstractmethod
    def sites(self) -> tuple[str, ...]:
        """Names of all the sites that the run is for, sorted, whether or not they can be reached."""

    def rest(self) -> None:
        """A training has ended: sites of this process hold on to no file until they are asked again."""
        return

    @abstractmethod
    def open(
        self, step: int, sites: Collection[str] | None = None, waiting: Mapping[str, int] | None = None
    ) -> Outcome:
        """
        Ask sites to take part from ``step`` (from 1) on.

        Args:
            step: the first step that the server is going to ask them for.
            sites: names; None for all.
            waiting: by name, of some of those sites, an earlier step: they are asked to open for that one, whose
                conditions they had issued when a training was interrupted that does not ask every site at every step.

        Returns:
            :class:`bundle.wire.messages.SiteInfo` by site: n_j, the conditions of ``step``, and up to where the
            site's discriminator is trained.
        """

    @abstractmethod
    def send(self, batches: Iterable[SyntheticBatch]) -> None:
        """
        Of a step: to each site its own synthetic batch and no other.

        Sites compute while others are still sent to, and while nobody waits for :meth:`replies`. It may be called again
        for the same step and a site: one that has done that step already returns the reply it gave then
        (:meth:`bundle.site.Site.step`).

        Args:
            batches: pulled one after the other, and sent before the next is pulled. Where the sites are in this
                process, each is pulled by :meth:`replies`, when its site's turn has come.
        """

    @abstractmethod
    def replies(self) -> Iterator[Outcome]:
        """
        What came of all that was sent before: :class:`bundle.wire.messages.SiteReply` by site, of every site once, in
        the order in which they answer. Until the last, it waits for as long as a step may take. More may be sent
        meanwhile: what comes of that, the next call tells.
        """

    def exchange(self, synthetic: Mapping[str, SyntheticBatch]) -> Outcome:
        """One step, waiting for all: :meth:`send`, and :meth:`replies` in one."""
        self.send(synthetic[site] for site in sorted(synthetic))
        return Outcome.of(self.replies())

    @abstractmethod
    def conditions(self, request: ConditionRequest) -> ConditionBatch:
        """
        Conditions of one site, for generation.

        Raises:
            SiteUnreachable: when the site does not answer, or does not let its conditions be kept.
            Violation: when it answered with what is no message.
        """

    @abstractmethod
    def state_dict(self) -> dict: ...

    @abstractmethod
    def load_state_dict(self, state: dict) -> None: ...


class SequentialFederation(Federation):
    """
    Sites that are asked one after the other: a batch is pulled, its site computes, and its reply is told of before the
    next is pulled. So one site's images are there at a time.
    """

    _batches: Iterable[SyntheticBatch] = ()

    @abstractmethod
    def step(self, batch: SyntheticBatch) -> Outcome:
        """What a site says to its batch."""

    def send(self, batches: Iterable[SyntheticBatch]) -> None:
        self._batches = chain(self._batches, batches)

    def replies(self) -> Iterator[Outcome]:
        batches, self._batches = self._batches, ()
        self.ledger.steps += 1
        for batch in batches:
            yield self.step(batch)
