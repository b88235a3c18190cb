"""
Sites that leave a call unanswered: how long they are waited for, and what becomes of an answer that comes late.

Behind proxies that are functions, and without a clock: a deadline is over as soon as all have answered that will.
"""

import threading
from concurrent.futures import wait
from types import SimpleNamespace

import pytest
import torch
from small_sites import sites

pytest.importorskip("nvflare", reason="the extra `federation` is not installed")

import wired_sites
from wired_sites import Gate, ends, federate

from bundle.flare import federation
from bundle.flare.federation import FlareFederation
from bundle.wire.messages import SyntheticBatch

STEP, OPEN, RETURN = 60.0, 600.0, federation.RETURN_TIMEOUT
NO_ANSWER = {"B": "has not answered the call before"}


def gone(data):
    raise RuntimeError("the line is dead")


def batches(names, step):
    return {name: SyntheticBatch(name, step, torch.full((2, 1, 8, 8), 0.1)) for name in names}


@pytest.fixture
def wired(monkeypatch):
    """
    A federation of A and B, of which B can be blocked.

    ``waits``: who was waited for and how long, since the list was last cleared; ``block()`` has B leave calls
    unanswered and returns the gate; ``counted``: set when an answer came late.
    """
    counted, gates = threading.Event(), []

    class Watched(FlareFederation):
        def _count_late(self, site, future):
            super()._count_late(site, future)
            counted.set()

    monkeypatch.setattr(wired_sites, "FlareFederation", Watched)
    answers = ends(sites())
    fed, proxies = federate(monkeypatch, answers, step_timeout=STEP, open_timeout=OPEN)
    waits = []

    def until_its_deadline(futures, timeout):
        asked = {site: future for site, future in fed._running.items() if future in futures}
        waits.append(("".join(sorted(asked)), timeout))
        held = {"B"} if gates and not gates[-1].opened.is_set() else set()
        wait([future for site, future in asked.items() if site not in held], 60)
        yield from (future for future in futures if future.done())

    def block():
        gates.append(Gate(answers["B"]))
        proxies["B"].answer = gates[-1]
        return gates[-1]

    def let(gate):
        gate.opened.set()
        assert counted.wait(60)
        counted.clear()
        proxies["B"].answer = answers["B"]

    monkeypatch.setattr(federation, "arrivals", until_its_deadline)
    yield SimpleNamespace(fed=fed, proxies=proxies, answers=answers, waits=waits, block=block, let=let)
    for gate in gates:
        gate.opened.set()
    fed.close()


def since(waits):
    found = list(waits)
    waits.clear()
    return found


def test_one_that_blocks_makes_one_step_wait_is_asked_nothing_and_is_waited_for_again_once_it_has_answered(wired):
    fed, waits = wired.fed, wired.waits
    fed.open(1)
    gate = wired.block()
    outcome = fed.exchange(batches("AB", 1))
    assert (list(outcome.messages), outcome.failures) == (["A"], {"B": "no answer within 60 s"})
    assert since(waits) == [("AB", OPEN), ("AB", STEP)]
    # the others go on, and nobody waits for it, nor sends it anything, asked for or not
    assert gate.entered.wait(60)
    calls = len(wired.proxies["B"].received)
    for step in (2, 3):
        assert list(fed.exchange(batches("A", step)).messages) == ["A"]
        outcome = fed.open(step + 1, ["B"])
        assert (outcome.messages, outcome.failures) == ({}, NO_ANSWER)
    assert fed.exchange(batches("AB", 4)).failures == NO_ANSWER
    assert since(waits) == [("A", STEP)] * 3
    assert len(wired.proxies["B"].received) == calls
    assert fed.exchange(batches("A", 5)).late == {}

    wired.let(gate)
    # what it answered to step 1 was dropped: it is asked anew, and may take as long as anybody
    since(waits)
    outcome = fed.open(5, ["B"])
    assert outcome.late == {"B": 1}
    assert (outcome.messages["B"].step, outcome.messages["B"].trained) == (5, 1)
    outcome = fed.exchange(batches("AB", 5))
    assert sorted(outcome.messages) == ["A", "B"]
    assert outcome.late == {}  # each is told once
    assert since(waits) == [("B", STEP), ("AB", STEP)]


def test_one_that_fails_is_waited_for_shortly_until_it_gives_a_sign_of_life(wired):
    fed, waits, proxy = wired.fed, wired.waits, wired.proxies["B"]

    fed.open(1)
    proxy.answer = gone
    assert fed.exchange(batches("AB", 1)).failures == {"B": "the line is dead"}
    since(waits)
    # one reason, however it fails: the roster tells of another one
    assert fed.open(2, ["B"]).failures == NO_ANSWER
    assert since(waits) == [("B", RETURN)]
    # FLARE does not give it up when the step does: it may take as long as anybody, unseen
    assert proxy.timeouts[-1] == STEP
    proxy.answer = wired.answers["B"]
    assert fed.open(3, ["B"]).messages["B"].step == 3
    assert fed.open(3, ["B"]).messages["B"].step == 3
    assert since(waits) == [("B", RETURN), ("B", STEP)]


def test_one_that_comes_back_slowly_is_counted_and_asked_again(wired):
    fed, waits = wired.fed, wired.waits
    fed.open(1)
    wired.let(_silence(wired, 1))
    gate = _silence(wired, 2)
    wired.let(gate)
    since(waits)
    # silent, with nothing under way: it takes longer than RETURN to open
    wired.proxies["B"].answer = gone
    assert fed.exchange(batches("AB", 3)).late == {"B": 1}
    gate = wired.block()
    assert fed.open(4, "AB").failures == NO_ANSWER
    # those that are awake are asked beside it, with their own deadline
    assert since(waits) == [("AB", STEP), ("B", RETURN), ("A", STEP)]
    wired.let(gate)
    outcome = fed.open(4, ["B"])
    assert (list(outcome.messages), outcome.late) == (["B"], {"B": 1})
    assert since(waits) == [("B", STEP)]


def _silence(wired, step):
    """B leaves the step unanswered."""
    gate = wired.block()
    outcome = wired.fed.exchange(batches("AB", step))
    assert outcome.failures == {"B": "no answer within 60 s"}
    return gate


def test_a_call_that_ends_in_an_error_is_no_late_answer(wired):
    """It says nothing of life: the site stays silent."""
    fed, proxy = wired.fed, wired.proxies["B"]
    fed.open(1)
    gate = wired.block()
    gate.answer = gone
    fed.exchange(batches("AB", 1))
    wired.let(gate)
    since(wired.waits)
    outcome = fed.open(2, ["B"])
    assert (list(outcome.messages), outcome.late) == (["B"], {})
    assert since(wired.waits) == [("B", RETURN)]
    assert proxy.timeouts[-1] == STEP
