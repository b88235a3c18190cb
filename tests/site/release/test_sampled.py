"""ε of updates that see a random few of the patients."""

import math

import numpy as np
import pytest
from opacus.accountants import PRVAccountant
from opacus.accountants.analysis.rdp import compute_rdp

from bundle.site.release import ReleasePolicy, calibrate
from bundle.site.release.budget import Budget, SampledBudget, make_budget
from bundle.site.release.sampled import ORDERS, renyi, sampled_epsilon, sampled_noise, to_epsilon


def budget(**changes):
    return make_budget(ReleasePolicy.make({"policy": "private", "mechanism": "dp_sgd", "epsilon": 4.0} | changes))


def update(noise, rate=0.1, updates=1, order=6.0):
    about = {"noise_multiplier": noise, "sampling_rate": rate, "updates": updates, "order": order}
    return {"kind": "update", "mechanism": "dp_sgd", **about}


@pytest.mark.parametrize(("noise", "rate", "updates"), [(1.0, 0.02, 500), (3.0, 0.2, 300)])
def test_it_is_above_what_the_privacy_loss_itself_gives_and_not_far(noise, rate, updates):
    accountant = PRVAccountant()
    accountant.history = [(noise, rate, updates)]
    near = accountant.get_epsilon(1e-5)
    assert near < sampled_epsilon(noise, rate, updates, 1e-5) < 1.25 * near


@pytest.mark.parametrize(("noise", "rate"), [(0.4, 0.3), (1.0, 0.01), (30.0, 0.5), (2.0, 1.0)])
def test_it_is_what_opacus_says(noise, rate):
    opacus = compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=ORDERS[:63].tolist())
    np.testing.assert_allclose(renyi(noise, rate)[:63], opacus, rtol=1e-6, atol=1e-12)


def test_everybody_in_every_update_is_the_gaussian_mechanism():
    exact = calibrate(4.0, 1e-5, 100)
    assert exact < sampled_noise(4.0, 1e-5, 1.0, 100) < 1.15 * exact


@pytest.mark.parametrize("epsilon", [0.2, 1.0, 4.0, 16.0])
def test_noise_is_enough_and_hardly_more(epsilon):
    noise = sampled_noise(epsilon, 1e-5, 0.05, 800)
    assert sampled_epsilon(noise, 0.05, 800, 1e-5) <= epsilon
    assert sampled_epsilon(noise * 0.999, 0.05, 800, 1e-5) > epsilon
    assert sampled_noise(epsilon, 1e-5, 0.025, 800) < noise < sampled_noise(epsilon, 1e-5, 0.05, 1600)


def test_all_planned_updates_fit_and_then_nothing_does():
    spent = budget()
    noise = spent.noise(0.1, 100)
    order = spent.order_of(noise, 0.1, 100)
    told = []
    for left in range(100, 0, -10):
        assert spent.noise(0.1, left) == noise
        spent.add(update(noise, updates=10, order=order))
        told.append(spent.epsilon)
    assert told == sorted(told)
    assert 3.99 < told[-1] <= 4.0
    assert math.isinf(spent.noise(0.1, 1))


def test_the_filter_counts_at_the_order_of_the_first_update():
    """Noise that is chosen by what was released before is covered at one order alone."""
    spent = budget()
    spent.add(update(2.0, updates=5, order=8.0))
    spent.add(update(2.0, updates=5, order=20.0))
    assert spent.order == 8.0
    noise = spent.noise(0.02, 50)
    after = to_epsilon(spent.spent + 50 * renyi(noise, 0.02), 1e-5)[np.flatnonzero(ORDERS == 8.0)[0]]
    assert 3.9 < after <= 4.0
    assert spent.order_of(noise, 0.02, 50) == 8.0


def test_the_same_noise_again_after_an_interruption_and_another_for_another_plan():
    first, again = budget(), budget()
    noise = first.noise(0.1, 100)
    order = first.order_of(noise, 0.1, 100)
    again.add(update(noise, updates=40, order=order))
    assert again.noise(0.1, 60) == noise
    other = budget()
    other.add(update(noise, updates=40, order=order))
    assert other.noise(0.1, 5) < 0.9 * noise, "what is left is for what is planned now"


def test_kinds_of_entries():
    for kind, entry in {
        "foreign": {"kind": "reply", "noise_multiplier": 1.0},
        "unprotected": {"kind": "reply"},
    }.items():
        spent = budget()
        spent.add(entry)
        assert getattr(spent, kind)
        assert spent.epsilon == math.inf
        assert spent.objection()
    spent = budget()
    spent.add(update(2.0))
    spent.add({"kind": "reply", "mechanism": "dp_sgd"})
    spent.add({"kind": "refusal", "reason": "words"})
    assert not spent.objection()
    assert spent.updates == 1
    other = make_budget(ReleasePolicy.make("private"))
    assert isinstance(other, Budget)
    assert isinstance(spent, SampledBudget)
    other.add(update(2.0))
    assert "another mechanism than gradient_noise" in other.objection()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((1.0, 0.0, 1, 1e-5), "sampling rate: expected a number above 0 and at most 1, got 0.0"),
        ((1.0, 1.01, 1, 1e-5), "sampling rate: .* got 1.01"),
        ((-1.0, 0.1, 1, 1e-5), "noise_multiplier: expected a number >= 0"),
        ((1.0, 0.1, -1, 1e-5), "updates: expected a whole number >= 0"),
        ((1.0, 0.1, 1, 0.0), "delta: "),
    ],
)
def test_impossible_arguments_of_updates(arguments, words):
    with pytest.raises(ValueError, match=words):
        sampled_epsilon(*arguments)
