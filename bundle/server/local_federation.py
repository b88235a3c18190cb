"""All sites in this process: the default."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, cast

from bundle.plain_errors import sentence
from bundle.server.federation import Outcome, SequentialFederation, SiteUnreachable
from bundle.site.release import ReleaseRefused
from bundle.site.site import Site
from bundle.text import shown
from bundle.wire.codec import Codec, WireLedger
from bundle.wire.messages import (
    ConditionBatch,
    ConditionRequest,
    Message,
    Refusal,
    ScoreRequest,
    Scores,
    SyntheticBatch,
)

__all__ = ["LocalFederation", "LocalScoring"]

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)


class _Calls:
    """Calls within this process, each of its messages encoded and decoded."""

    def __init__(self, codec: Codec | None = None) -> None:
        self.codec = Codec() if codec is None else codec
        self.ledger = WireLedger()

    def _ask(self, calls: Mapping[str, Callable[[], Message]]) -> Outcome:
        messages: dict[str, Message] = {}
        failures: dict[str, str] = {}
        ended: set[str] = set()
        for name, call in calls.items():
            try:
                messages[name] = self._from(call())
            except ReleaseRefused as error:
                refusal = self._refusal(name, error)
                failures[name] = f"refused: {refusal.reason}"
                ended |= {name} if refusal.final else set()
        return Outcome(messages, failures, ended=frozenset(ended))

    def _refusal(self, site: str, error: ReleaseRefused) -> Refusal:
        """As it arrives: it costs the bytes that it costs behind a network, and says the same."""
        return self._from(Refusal(site, shown(error), error.final))

    def _to(self, message: M) -> M:
        data = self.codec.encode(message)
        self.ledger.sent(message.site, len(data))
        return cast(M, self.codec.decode(data))

    def _from(self, message: M) -> M:
        data = self.codec.encode(message)
        self.ledger.received(message.site, len(data))
        return cast(M, self.codec.decode(data))


class LocalScoring(_Calls):
    """
    Sites that score segmenters and are called directly: a :class:`bundle.server.evaluation.ScoringFederation`.

    A site that fails is one failure of many, as it is behind a network; what failed is in the log.

    Args:
        sites: how to have each of them score, by name.
    """

    def __init__(self, sites: Mapping[str, Callable[[ScoreRequest], Scores]]) -> None:
        super().__init__()
        self._sites = dict(sites)

    @property
    def sites(self) -> tuple[str, ...]:
        return tuple(sorted(self._sites))

    def ask(self, requests: Mapping[str, ScoreRequest]) -> Outcome:
        messages: dict[str, Any] = {}
        failures: dict[str, str] = {}
        for site in sorted(requests):
            outcome = self._score(site, requests[site])
            messages |= outcome.messages
            failures |= outcome.failures
        return Outcome(messages, failures)

    def _score(self, site: str, request: ScoreRequest) -> Outcome:
        try:
            return self._ask({site: lambda: self._sites[site](self._to(request))})
        except Exception as error:  # whatever a site's data do, the others are scored on
            logger.exception("site %s could not score", site)
            return Outcome(failures={site: shown(sentence(error))})


class LocalFederation(_Calls, SequentialFederation):
    """
    Sites that are called directly.

    Every message is still encoded and decoded: nothing passes that could not cross a network, what a codec does to
    precision shows here too, and the bytes in the ledger are those that a network would carry.

    No site fails here for reasons of its own: what a site raises is an error of this process, and ends it. What a
    site's release policy forbids, it refuses here as it does anywhere.

    Args:
        sites: the sites.
        codec: messages ↔ bytes.

    Raises:
        ValueError: without sites, or when two have the same name.
    """

    def __init__(self, sites: Sequence[Site], codec: Codec | None = None) -> None:
        self._sites = {site.name: site for site in sorted(sites, key=lambda site: site.name)}
        if not sites or len(self._sites) != len(sites):
            raise ValueError(f"a federation needs sites of different names, got {[site.name for site in sites]}")
        super().__init__(codec)

    @property
    def sites(self) -> tuple[str, ...]:
        return tuple(self._sites)

    def site(self, name: str) -> Site:
        return self._sites[name]

    def open(
        self, step: int, sites: Collection[str] | None = None, waiting: Mapping[str, int] | None = None
    ) -> Outcome:
        asked = self.sites if sites is None else sorted(sites)
        steps = dict.fromkeys(asked, step) | dict(waiting or {})
        return self._ask({name: partial(self._sites[name].open, steps[name]) for name in asked})

    def rest(self) -> None:
        for site in self._sites.values():
            site.gate.close()

    def step(self, batch: SyntheticBatch) -> Outcome:
        site = self._sites[batch.site]
        return self._ask({batch.site: lambda: site.step(self._to(batch))})

    def conditions(self, request: ConditionRequest) -> ConditionBatch:
        try:
            return self._from(self._sites[request.site].conditions(self._to(request)))
        except ReleaseRefused as error:
            refusal = self._refusal(request.site, error)
            raise SiteUnreachable.no_conditions(request.site, f"refused: {refusal.reason}") from None

    def state_dict(self) -> dict:
        return {
            "sites": {name: site.state_dict() for name, site in self._sites.items()},
            "ledger": self.ledger.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        if set(state["sites"]) != set(self._sites):
            raise ValueError(f"the checkpoint is of the sites {sorted(state['sites'])}, not {sorted(self._sites)}")
        for name, site in self._sites.items():
            site.load_state_dict(state["sites"][name])
        self._batches = ()
        self.ledger.load_state_dict(state["ledger"])
