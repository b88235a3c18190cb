"""Server and sites at work at the same time: the bits are those of one after the other."""

import threading
from copy import deepcopy

import pytest
import torch
from flaky_sites import FlakyFederation, flaky
from ignite.engine import Events
from small_sites import federation, generator, sites

from bundle.engines import AtomicCheckpointSaver, Resume
from bundle.server import DistributedGanTrainer, Outcome, mixture_weights
from bundle.server.roster import TooFewSites
from bundle.server.step import SiteGradients

LENGTHS = {"A": 3, "B": 5, "C": 4, "D": 6}


class Dropout(torch.nn.Module):
    """A generator with a random layer."""

    def __init__(self):
        super().__init__()
        self.net = generator()

    def forward(self, x):
        return torch.nn.functional.dropout(self.net(x), 0.5, self.training).tanh()


def make(fed, network=generator, steps=6, handlers=(), **kwargs):
    torch.manual_seed(0)
    network = network()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2, betas=(0.5, 0.999))
    handlers = [handler({"generator": network, "optimizer": optimizer, "federation": fed}) for handler in handlers]
    return DistributedGanTrainer(
        "cpu", steps // 2, 2, fed, network, optimizer, train_handlers=handlers, rejoin_interval=2, **kwargs
    )


def run(fed, **kwargs):
    trainer = make(fed, **kwargs)
    trainer.run()
    return trainer


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def ends(trainer):
    fed = trainer.federation
    return [weights(trainer.generator), *(weights(fed.site(name).critic.discriminator) for name in fed.sites)]


def equal(one, two):
    return all(torch.equal(a, b) for a, b in zip(ends(one), ends(two), strict=True))


class Shuffled(FlakyFederation):
    """All are sent to at once, and answer in an order that changes from step to step; more is sent meanwhile."""

    def __init__(self, members, *faults):
        super().__init__(members, *faults)
        self.sent, self.orders = [], []

    def send(self, batches):
        self.sent += list(batches)

    def replies(self):
        sent, self.sent = self.sent, []
        self.ledger.steps += 1
        order = torch.randperm(len(sent), generator=torch.Generator().manual_seed(self.ledger.steps)).tolist()
        self.orders.append([sent[place].site for place in order])
        for place in order:
            yield self.step(sent[place])


@pytest.mark.parametrize("staleness", [0, 1])
@pytest.mark.parametrize("network", [generator, Dropout])
def test_the_order_of_the_replies_changes_no_bit(network, staleness):
    fed = Shuffled(sites(LENGTHS))
    one = run(fed, network=network, staleness=staleness)
    assert len({tuple(order) for order in fed.orders}) > 1
    assert equal(one, run(federation(lengths=LENGTHS), network=network, staleness=staleness))


@pytest.mark.parametrize("staleness", [0, 1])
def test_nor_when_sites_fail_on_the_way(staleness):
    def faults():
        return {("B", 2): "lost", ("D", 3): "away", ("A", 3): "late"}

    one = run(Shuffled(sites(LENGTHS), faults()), staleness=staleness)
    two = run(flaky(faults(), lengths=LENGTHS), staleness=staleness)
    assert equal(one, two)
    assert one.state.sites == two.state.sites
    assert [one.state.sites[site]["failures"] for site in "ABCD"] == [1, 1, 0, 1]


def test_without_a_site_that_failed_the_update_is_that_of_one_backward_pass_through_the_others():
    """Bit for bit: with π of those that answered, though all but the last were gone back through before it failed."""
    fed, given = flaky({("A", 1): "lost"}, lengths=LENGTHS), {}
    trainer = make(fed, steps=2)
    twin, back = deepcopy(trainer.generator), trainer._back

    def noted(now, site, *more):
        given[site] = now.replies[site].image_gradient
        back(now, site, *more)

    trainer._back = noted

    @trainer.on(Events.ITERATION_COMPLETED(once=1))
    def compare(engine):
        x = engine.state.output[0]["conditions"]
        pi = mixture_weights({site: LENGTHS[site] for site in "BCD"})
        torch.autograd.backward([twin(x[s].float()) for s in "BCD"], [pi[s] * given[s] for s in "BCD"])
        for one, two in zip(engine.generator.parameters(), twin.parameters(), strict=True):
            assert torch.equal(one.grad, two.grad)

    trainer.run()
    assert list(given)[:3] == ["D", "C", "B"]


def test_the_sum_is_that_of_one_backward_pass_through_all_images():
    torch.manual_seed(0)
    network, inputs = generator(), [torch.rand(2, 2, 8, 8) for _ in "ABCD"]
    twin, given = deepcopy(network), [torch.randn(2, 1, 8, 8) for _ in "ABCD"]
    torch.autograd.backward([twin(x) for x in inputs], given)
    found = SiteGradients(network.parameters(), "ABCD")
    for site in "CADB":
        found.add(site, [network(inputs["ABCD".index(site)])], [given["ABCD".index(site)]])
    found.store(network.parameters())
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(network.parameters(), twin.parameters(), strict=True))


def test_tensors_that_autograd_gives_twice_and_weights_without_a_gradient():
    one, two, unused = (torch.nn.Parameter(torch.ones(2)) for _ in range(3))
    found = SiteGradients([one, two, unused], "ABCD")
    for site in "DBA":
        found.add(site, [one + two], [torch.ones(2)])
    found.leave_out("C")
    found.store([one, two, unused])
    assert one.grad.tolist() == two.grad.tolist() == [3.0, 3.0]
    assert unused.grad is None


def test_in_one_process_the_images_of_one_site_are_there_at_a_time():
    """Those of the next are made when the gradient of this one is in the sum."""
    fed, done = federation(lengths=LENGTHS), []
    trainer = make(fed, steps=2)
    generate, back = trainer._generate, trainer._back
    trainer._generate = lambda x, site, *more: (done.append(f"forward {site}"), generate(x, site, *more))[1]
    trainer._back = lambda now, site, *more: (done.append(f"backward {site}"), back(now, site, *more))[1]
    trainer.run()
    assert done == [f"{way} {site}" for _ in range(2) for site in "DCBA" for way in ("forward", "backward")]


@pytest.mark.parametrize("staleness", [0, 1])
def test_behind_flare_sites_compute_while_images_are_made_and_gradients_summed(monkeypatch, staleness):
    """B answers when the gradients of all others are in, and every site as soon as it has been sent something."""
    pytest.importorskip("nvflare", reason="the extra `federation` is not installed")
    from wired_sites import ends as flare_ends
    from wired_sites import federate

    members = sites(LENGTHS)
    answers = flare_ends(members)
    backward, reached = {step: threading.Event() for step in range(1, 7)}, {site: threading.Event() for site in "ABCD"}

    def answer(site):
        calls = iter(range(100))

        def receive(data):
            step = next(calls)  # the first is the request to open
            if step:
                reached[site].set()
            if site == "B" and step:
                assert backward[step].wait(60)
            return answers[site](data)

        return receive

    fed, _ = federate(monkeypatch, {site: answer(site) for site in "ABCD"})
    trainer = make(fed, staleness=staleness)
    generate, back, done = trainer._generate, trainer._back, []

    def generated(conditions, site, step, network):
        # who was sent something before computes already
        assert all(reached[before].wait(60) for before in "DCBA"[: "DCBA".index(site)])
        return generate(conditions, site, step, network)

    def summed(now, site, *more):
        back(now, site, *more)
        done.append(site)
        if len(done) % 4 == 3:
            backward[now.step].set()

    trainer._generate, trainer._back = generated, summed
    trainer.run()
    assert done[3::4] == ["B"] * 6
    one = run(federation(lengths=LENGTHS), staleness=staleness)
    assert torch.equal(weights(trainer.generator), weights(one.generator))
    for member in members:
        assert torch.equal(
            weights(member.critic.discriminator), weights(one.federation.site(member.name).critic.discriminator)
        )


# staleness: 1


def test_images_are_of_the_weights_before_the_last_update():
    trainer = make(federation(lengths=LENGTHS), staleness=1)
    past, outputs = [deepcopy(trainer.generator)], []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: past.append(deepcopy(e.generator)))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: outputs.append(e.state.output[0]))
    trainer.run()
    for step, output in enumerate(outputs, 1):
        for site in "ABCD":
            expected = past[max(0, step - 2)](output["conditions"][site].float())
            assert torch.equal(output["images"][site], expected.detach()), (step, site)
    # as many updates, each of them another one from the second on
    prompt = make(federation(lengths=LENGTHS))
    fresh = [weights(prompt.generator)]
    prompt.add_event_handler(Events.ITERATION_COMPLETED, lambda e: fresh.append(weights(e.generator)))
    prompt.run()
    same = [torch.equal(weights(one), two) for one, two in zip(past, fresh, strict=True)]
    assert same == [True, True, *[False] * 5]
    assert all(about["answered"] == 6 for about in trainer.state.sites.values())


def test_sites_are_sent_the_next_images_before_the_update_and_none_after_the_last_step():
    sent = []

    def updates():
        state = trainer.optimizer.state_dict()["state"]
        return int(state[0]["step"]) if state else 0

    class Watched(Shuffled):
        def send(self, batches):
            batches = list(batches)
            sent.extend((batch.step, updates()) for batch in batches)
            super().send(batches)

    trainer = make(Watched(sites(LENGTHS)), steps=4, staleness=1)
    trainer.run()
    assert sent == [(step, done) for step, done in ((1, 0), (2, 0), (3, 1), (4, 2)) for _ in "ABCD"]


def test_a_resumed_training_with_older_weights_ends_with_the_bits_of_an_uninterrupted_one(tmp_path):
    def start(folder, steps):
        handlers = [
            lambda saved: Resume(str(folder / "latest.pt"), saved),
            lambda saved: AtomicCheckpointSaver(str(folder), saved),
        ]
        return run(federation(lengths=LENGTHS), steps=steps, handlers=handlers, staleness=1)

    whole = start(tmp_path / "whole", 6)
    start(tmp_path / "cut", 4)
    resumed = start(tmp_path / "cut", 6)
    assert resumed.state.iteration == 6
    assert equal(whole, resumed)


def test_a_step_that_is_not_done_has_sent_nothing_of_the_next():
    fed = Shuffled(sites(LENGTHS), {("B", 3): "lost"})
    trainer = make(fed, staleness=1, min_sites=4)
    with pytest.raises(TooFewSites):
        trainer.run()
    assert trainer.state.iteration == 2
    assert [fed.site(name).trained for name in "ABCD"] == [3] * 4
    assert fed.sent == []


def test_steps_that_ask_some_of_the_sites_are_refused():
    with pytest.raises(ValueError, match="staleness: 1 is for steps that ask all sites"):
        make(federation(), staleness=1, sites_per_step=1)


@pytest.mark.parametrize(("staleness", "reason"), [(2, "expected 0 or 1, got 2"), (True, "expected 0 or 1, got True")])
def test_other_numbers_are_refused(staleness, reason):
    with pytest.raises(ValueError, match=reason):
        make(federation(), staleness=staleness)


def test_a_generator_with_statistics_of_batches_is_refused():
    with pytest.raises(ValueError, match="staleness: 1 is for a generator whose only state is its weights"):
        make(federation(), network=lambda: torch.nn.Sequential(generator(), torch.nn.BatchNorm2d(1)), staleness=1)


def test_what_came_of_asking_several_times():
    found = Outcome.of([Outcome({"A": 1}, late={"A": 1}), Outcome({}, {"B": "no"}, {"A": 2}, {"B"}, {"B"})])
    assert found == Outcome({"A": 1}, {"B": "no"}, {"A": 3}, frozenset("B"), frozenset("B"))
