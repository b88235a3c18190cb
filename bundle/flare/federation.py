"""The server's view of sites in other processes: :class:`FlareFederation`."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from nvflare.collab import collab

from bundle.declarations.job import JobError
from bundle.server.federation import Federation, Outcome, SiteUnreachable
from bundle.text import shown
from bundle.wire.codec import Codec, WireLedger
from bundle.wire.guards import Violation
from bundle.wire.limits import Limits
from bundle.wire.messages import (
    ConditionBatch,
    ConditionRequest,
    Message,
    OpenRequest,
    Refusal,
    SyntheticBatch,
)

__all__ = ["FlareFederation", "JobEnded"]

logger = logging.getLogger(__name__)

NO_ANSWER = "has not answered the call before"
RETURN_TIMEOUT = 1.0


class JobEnded(RuntimeError):
    """The job was ended by somebody; its checkpoints are as they were."""


@dataclass(frozen=True)
class _Call:
    """What a site was asked: its answer is a future, unless there is a reason why it was not asked."""

    message: Message
    future: Future | None = None
    failure: str = ""


class FlareFederation(Federation):
    """
    Sites in other processes, on other machines.

    Every site is called by itself, with a payload that goes to no other, as soon as that is made; replies are told of
    as they arrive. The step waits for them until its own deadline: what FLARE promises about timeouts is not relied on.
    A reply that arrives later is dropped and counted, and its site is asked nothing before it has answered.

    Made by the server's process of a FLARE job, inside of the method that the job runs.

    Args:
        codec: messages ↔ bytes.
        sites: names of all the sites that the run is for; None for those that are there when the job starts.
        step_timeout: seconds that a step waits for the sites.
        open_timeout: seconds that opening waits for them at first, and that they may take to release conditions.
        limits: of messages from sites; larger ones are refused before they are decoded.

    Raises:
        JobError: when a site is there that the run is not for, or two have one name.
    """

    def __init__(
        self,
        codec: Codec | None = None,
        step_timeout: float = 60.0,
        open_timeout: float = 600.0,
        limits: Limits | None = None,
        sites: Sequence[str] | None = None,
    ) -> None:
        self.codec = Codec() if codec is None else codec
        self.step_timeout = step_timeout
        self.open_timeout = open_timeout
        self.limits = Limits() if limits is None else limits
        self.ledger = WireLedger()
        self._proxies = {proxy.name: proxy for proxy in collab.clients}
        self._names = tuple(sorted(self._proxies if sites is None else sites))
        if twice := sorted({name for name in self._names if self._names.count(name) > 1}):
            raise JobError(f"site_names: two sites are called {', '.join(twice)}, in {', '.join(self._names)}")
        if not set(self._proxies) <= set(self._names):
            strangers = ", ".join(sorted(set(self._proxies) - set(self._names)))
            raise JobError(f"the run is for the sites {', '.join(self._names)}, and {strangers} is there")
        # one thread a site: with a call that has not ended, however late, it is asked nothing else
        self._pool = ThreadPoolExecutor(max(1, len(self._proxies)), thread_name_prefix="sites")
        self._running: dict[str, Future] = {}
        self._sent: dict[str, _Call] = {}  # what was sent, and has not been told of
        self._silent: set[str] = set()
        # late answers that no outcome has told of; they come in the threads of the pool
        self._late: Counter[str] = Counter()
        self._late_lock = threading.Lock()
        self._opened = False

    @property
    def sites(self) -> tuple[str, ...]:
        return self._names

    def open(
        self, step: int, sites: Collection[str] | None = None, waiting: Mapping[str, int] | None = None
    ) -> Outcome:
        chosen = self.sites if sites is None else sorted(sites)
        steps = dict.fromkeys(chosen, step) | dict(waiting or {})
        requests = {site: OpenRequest(site, steps[site]) for site in chosen}
        if not self._opened:
            self._opened = True
            return self._with_late(self._ask(requests, self.open_timeout))
        # one that did not answer must not hold up the others: it is waited for when it has given a sign of life
        silent = {site: requests[site] for site in chosen if site in self._silent}
        awake = {site: requests[site] for site in chosen if site not in self._silent}
        first = self._ask(silent, RETURN_TIMEOUT, self.step_timeout)
        # one reason for it, however it shows: the roster tells of another one
        still = Outcome(failures={site: NO_ANSWER for site in first.failures if site in self._silent})
        return self._with_late(Outcome.of([first, still, self._ask(awake, self.step_timeout)]))

    def send(self, batches: Iterable[SyntheticBatch]) -> None:
        for batch in batches:
            self._sent[batch.site] = self._call(batch, 2 * self.step_timeout)

    def replies(self) -> Iterator[Outcome]:
        self.ledger.steps += 1
        calls, self._sent = self._sent, {}
        for outcome in self._answers(calls, self.step_timeout):
            yield self._with_late(outcome)

    def ask(self, requests: Mapping[str, Any]) -> Outcome:
        """
        What sites say to a :class:`ScoreRequest` or :class:`RoundRequest` each: a
        :class:`bundle.server.evaluation.ScoringFederation`, and one that averages.
        """
        return self._with_late(self._ask(requests, self.step_timeout))

    def conditions(self, request: ConditionRequest) -> ConditionBatch:
        outcome = self._ask({request.site: request}, self.open_timeout)
        if request.site in outcome.broken:
            raise Violation(outcome.failures[request.site])
        if request.site in outcome.failures:
            raise SiteUnreachable.no_conditions(request.site, outcome.failures[request.site])
        batch = outcome.messages[request.site]
        self.limits.check_size(batch)
        return batch

    def state_dict(self) -> dict:
        """The sites keep checkpoints of their own: here is what only the server knows."""
        return {"ledger": self.ledger.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.ledger.load_state_dict(state["ledger"])

    def close(self) -> None:
        """Nothing is asked any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, messages: Mapping[str, Message], timeout: float, patience: float | None = None) -> Outcome:
        """Wait ``timeout`` seconds for answers; those that come later are dropped, after ``patience`` unseen."""
        # FLARE gives up later than the step does: or a late answer would not be seen
        calls = {site: self._call(messages[site], patience or 2 * timeout) for site in sorted(messages)}
        return Outcome.of(self._answers(calls, timeout))

    def _call(self, message: Message, patience: float) -> _Call:
        site = message.site
        if site not in self._proxies:
            return _Call(message, failure="was not there when the job started")
        before = self._running.get(site)
        if before is not None and not before.done():
            return _Call(message, failure=NO_ANSWER)
        data = self.codec.encode(message)
        self.ledger.sent(site, len(data))
        self._running[site] = self._pool.submit(self._send, site, data, patience)
        return _Call(message, self._running[site])

    def _answers(self, calls: Mapping[str, _Call], timeout: float) -> Iterator[Outcome]:
        """What comes of calls, as it comes."""
        refused = {site: call.failure for site, call in calls.items() if call.failure}
        if refused:
            yield Outcome(failures=refused)
        waiting = {call.future: site for site, call in calls.items() if call.future}
        if not waiting:
            return
        for future in arrivals(list(waiting), timeout):
            _check_going_on()
            yield self._answer(calls[waiting.pop(future)].message, future)
        _check_going_on()
        for future, site in waiting.items():
            self._silent.add(site)
            future.add_done_callback(partial(self._count_late, site))
        if waiting:
            yield Outcome(failures=dict.fromkeys(sorted(waiting.values()), f"no answer within {timeout:g} s"))

    def _answer(self, request: Message, future: Future) -> Outcome:
        site = request.site
        try:  # whatever a site or the network did, the others go on
            data = future.result()
        except Exception as error:
            # some of these texts come from the other end
            self._silent.add(site)
            return Outcome(failures={site: shown(error)})
        self._silent.discard(site)
        try:
            answer = self._decode(request, data)
        except Exception as error:
            return Outcome(failures={site: shown(error)}, broken=frozenset({site}))
        if isinstance(answer, Refusal):
            ended = frozenset({site}) if answer.final else frozenset()
            return Outcome(failures={site: f"refused: {answer.reason}"}, ended=ended)
        return Outcome({site: answer})

    def _send(self, site: str, data: bytes, timeout: float) -> bytes:
        return self._proxies[site](timeout=timeout).receive(data)

    def _decode(self, request: Message, data: Any) -> Message:
        if not isinstance(data, bytes):
            raise ValueError(f"answered with a {type(data).__name__}, expected bytes")
        self.ledger.received(request.site, len(data))
        message = self.codec.decode(data, self.limits.answers(request))
        if message.site != request.site:
            raise ValueError("answered in another site's name")
        return message

    def _count_late(self, site: str, future: Future) -> None:
        if future.exception() is None:
            self._silent.discard(site)
            with self._late_lock:
                self._late[site] += 1
            logger.warning("site %s answered too late: the answer is dropped", site)

    def _with_late(self, outcome: Outcome) -> Outcome:
        with self._late_lock:
            late, self._late = self._late, Counter()
        return replace(outcome, late=dict(late))


def arrivals(futures: Sequence[Future], timeout: float) -> Iterator[Future]:
    """
    Those that are done, as they become so, in their order where several are; until ``timeout`` seconds have passed
    since the first was asked for, also by whoever asks.
    """
    deadline = time.monotonic() + timeout
    waiting = list(futures)
    while waiting:
        done, _ = wait(waiting, max(0.0, deadline - time.monotonic()), FIRST_COMPLETED)
        if not done:
            return
        yield from (future for future in waiting if future in done)
        waiting = [future for future in waiting if future not in done]


def _check_going_on() -> None:
    """
    Raises:
        JobEnded: every call fails then, which says nothing about the sites.
    """
    if collab.is_aborted:
        raise JobEnded("the job was ended from outside")
