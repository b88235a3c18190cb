"""A step that asks some of its sites: in the mean it is the step that asks all."""

from collections import Counter
from copy import deepcopy
from itertools import pairwise

import numpy as np
import pytest
import torch
from ignite.engine import Events
from small_sites import federation, generator, sites

from bundle.engines import AtomicCheckpointSaver, Resume
from bundle.server import DistributedGanTrainer, LocalFederation, TooFewSites, asked_sites, mixture_weights
from bundle.server import trainer as trainer_module
from bundle.server.federation import Outcome
from bundle.server.mixture import inclusion_probabilities, systematic_sample
from bundle.site import SiteStore
from bundle.wire.messages import SyntheticBatch

EQUAL = {"A": 6, "B": 6, "C": 6, "D": 6}
UNEQUAL = {"A": 2, "B": 3, "C": 300, "D": 40}
LENGTHS = {"equal": EQUAL, "unequal": UNEQUAL}


def flat(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()]).double()


def state(site):
    return {key: value for key, value in site.state_dict().items() if key != "policy"}


def make(fed, steps=1, handlers=(), seed=0, **kwargs):
    torch.manual_seed(0)
    network = generator()
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    handlers = [handler(network, optimizer) for handler in handlers]
    trainer = DistributedGanTrainer(
        "cpu", steps, 1, fed, network, optimizer, seed=seed, train_handlers=handlers, **kwargs
    )
    return trainer, network


def gradient(lengths, mixture, **kwargs):
    """Of the first step: what a plain optimiser of rate 1 took off the weights."""
    trainer, network = make(federation(lengths=lengths), mixture=mixture, **kwargs)
    before = flat(network)
    trainer.run()
    return before - flat(network)


def all_draws(lengths, count, mixture):
    """Every systematic sample of one order, with its share of the starts: the sample changes where an end is passed."""
    weights = mixture_weights(lengths, mixture)
    probabilities = inclusion_probabilities(weights, count)
    places = np.cumsum([p for p in probabilities.values() if p < 1])
    cuts = sorted({0.0, 1.0, *(float(place) % 1 for place in places)})
    for low, high in pairwise(cuts):
        drawn = systematic_sample(probabilities, (low + high) / 2)
        assert len(drawn) == count
        yield high - low, {site: probabilities[site] for site in sorted(drawn)}


@pytest.mark.parametrize("mixture", ["proportional", "sum"])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_mean_of_the_gradient_over_all_draws_is_that_of_the_full_sum(monkeypatch, count, lengths, mixture):
    expected = gradient(LENGTHS[lengths], mixture)
    mean, single = torch.zeros_like(expected), []
    for share, drawn in all_draws(LENGTHS[lengths], count, mixture):
        monkeypatch.setattr(trainer_module, "asked_sites", lambda *_, drawn=drawn: drawn)
        single.append(gradient(LENGTHS[lengths], mixture, sites_per_step=count))
        mean += share * single[-1]
    assert (mean - expected).norm() < 1e-5 * expected.norm()
    # and no draw is: the equality is one of means
    assert max((one - expected).norm() for one in single) > 1e-4 * expected.norm()


@pytest.mark.parametrize("mixture", ["proportional", "sum"])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_over_many_steps_every_site_counts_what_it_counts_when_all_are_asked(lengths, mixture):
    counts, steps = LENGTHS[lengths], 4000
    expected, found = mixture_weights(counts, mixture), Counter()
    for step in range(1, steps + 1):
        drawn = asked_sites(counts, 2, 7, step, mixture)
        assert len(drawn) == 2
        weights = mixture_weights({site: counts[site] for site in drawn}, mixture, drawn)
        if mixture == "proportional":
            assert sum(weights.values()) == pytest.approx(1)
        found.update({site: weight / steps for site, weight in weights.items()})
    for site, weight in expected.items():
        assert found[site] == pytest.approx(weight, rel=0.35 if weight < 0.02 else 0.06), site


def test_who_is_asked_depends_on_seed_and_step_alone_and_all_pairs_come():
    counts = dict.fromkeys("ABCDE", 5)
    first = [asked_sites(counts, 2, 3, step) for step in range(1, 200)]
    reversed_names = dict(reversed(list(counts.items())))
    assert first == [asked_sites(reversed_names, 2, 3, step) for step in range(1, 200)]
    assert first != [asked_sites(counts, 2, 4, step) for step in range(1, 200)]
    assert len({tuple(drawn) for drawn in first}) == 10
    assert asked_sites(counts, 5, 3, 1) == asked_sites(counts, 9, 3, 1) == dict.fromkeys("ABCDE", 1.0)


def test_asking_all_has_the_bits_of_a_training_without_the_option():
    ends = []
    for count in (None, 4):
        trainer, network = make(federation(lengths=UNEQUAL), steps=5, sites_per_step=count)
        trainer.run()
        ends.append(flat(network))
    assert torch.equal(*ends)


class Watched(LocalFederation):
    """Keeps the state of every site before each step, and whom it asked."""

    def __init__(self, members):
        super().__init__(members)
        self.before, self.asked = [], []

    def step(self, batch):
        if len(self.asked) < batch.step:
            self.before.append({name: deepcopy(state(self.site(name))) for name in self.sites})
            self.asked.append([])
        self.asked[-1].append(batch.site)
        return super().step(batch)


def test_a_site_that_is_not_asked_keeps_its_discriminator_its_conditions_and_their_nonce():
    fed = Watched(sites(lengths=EQUAL, waits=True))
    trainer, _ = make(fed, steps=12, sites_per_step=2)
    held = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: held.append(dict(engine._participants)))
    trainer.run()
    assert trainer.state.iteration == 12
    assert set(map(len, fed.asked)) == {2}
    for step in range(1, 12):
        for name in set(fed.sites) - set(fed.asked[step]):
            torch.testing.assert_close(held[step][name].conditions, held[step - 1][name].conditions, rtol=0, atol=0)
            assert held[step][name].nonce == held[step - 1][name].nonce
        for name in set(fed.sites) - set(fed.asked[step - 1]):
            torch.testing.assert_close(fed.before[step][name], fed.before[step - 1][name], rtol=0, atol=0)
    about = trainer.state.sites
    assert {name: about[name]["answered"] for name in about} == Counter(n for asked in fed.asked for n in asked)
    assert all(about[name]["failures"] == 0 for name in about)


class Apart(LocalFederation):
    """Sites that keep checkpoints of their own, as behind a network: the server's has none of theirs."""

    def state_dict(self):
        return {"ledger": self.ledger.state_dict()}

    def load_state_dict(self, state):
        self.ledger.load_state_dict(state["ledger"])


@pytest.mark.parametrize(("kind", "sites_too"), [(LocalFederation, True), (Apart, False), (Apart, True)])
@pytest.mark.parametrize("killed", [0, 1, 4])
def test_a_resumed_training_has_the_bits_of_an_uninterrupted_one(tmp_path, kind, sites_too, killed):
    """
    ``killed`` steps after its last checkpoint the server is, and goes back to it; its sites have gone on, or are killed
    with it, whenever each was asked last.
    """

    def members(folder):
        store = (lambda name: SiteStore(folder / name, interval=5)) if kind is Apart else None
        return sites(lengths=EQUAL, waits=True, store=store)

    def run(folder, fed, until, last=None):
        def saved(network, optimizer):
            return {"generator": network, "optimizer": optimizer, "federation": fed}

        trainer, network = make(
            fed,
            steps=until,
            sites_per_step=2,
            handlers=[
                lambda *parts: Resume(str(folder / "latest.pt"), saved(*parts)),
                lambda *parts: AtomicCheckpointSaver(str(folder), saved(*parts), save_interval=5),
            ],
        )
        if last is not None:
            trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: _kill(engine, last))
        try:
            trainer.run()
        except KeyboardInterrupt:
            assert trainer.state.iteration == last
        return flat(network), {name: deepcopy(state(fed.site(name))) for name in fed.sites}

    def _kill(engine, last):
        if engine.state.iteration == last:
            raise KeyboardInterrupt

    whole = run(tmp_path / "whole", kind(members(tmp_path / "whole")), 20)
    fed = kind(members(tmp_path / "cut"))
    run(tmp_path / "cut", fed, 20, last=10 + killed)
    fed = kind(members(tmp_path / "cut")) if sites_too else fed
    resumed = run(tmp_path / "cut", fed, 20)
    assert torch.equal(whole[0], resumed[0])
    for name in EQUAL:
        torch.testing.assert_close(whole[1][name], resumed[1][name], rtol=0, atol=0)


class Failing(LocalFederation):
    def __init__(self, members, failing):
        super().__init__(members)
        self.failing = failing

    def step(self, batch):
        if batch.site in self.failing:
            return Outcome(failures={batch.site: "out of reach"})
        return super().step(batch)


def test_a_site_that_fails_is_asked_no_more_and_the_others_are_drawn_from():
    fed = Failing(sites(lengths=EQUAL, waits=True), {"B"})
    trainer, _ = make(fed, steps=12, sites_per_step=3, rejoin_interval=100)
    trainer.run()
    about = trainer.state.sites
    assert about["B"]["failures"] == 1
    assert sum(about[name]["answered"] for name in about) == 3 * 12 - 1


def test_a_step_that_none_of_those_asked_answers_is_not_done():
    fed = Failing(sites(lengths=EQUAL, waits=True), set("ABCD"))
    trainer, network = make(fed, steps=3, sites_per_step=2)
    before = flat(network)
    with pytest.raises(TooFewSites, match="step 1 needs 1 of 2 sites and has 0"):
        trainer.run()
    assert torch.equal(before, flat(network))


@pytest.mark.parametrize("count", [0, -1, 5, 1.5, True, "2"])
def test_numbers_of_sites_that_cannot_be_are_refused_with_the_sites_that_there_are(count):
    with pytest.raises(ValueError, match=r"sites_per_step: expected .* 1 to 4, .* \(A, B, C, D\), got"):
        make(federation(lengths=EQUAL), sites_per_step=count)


def test_a_batch_for_conditions_that_a_site_never_issued_is_refused():
    (site,) = sites(lengths={"A": 5}, waits=True)
    with pytest.raises(ValueError, match="site A: it has issued no conditions that step 3 could be about"):
        site.step(SyntheticBatch("A", 3, torch.zeros(2, 1, 8, 8)))
