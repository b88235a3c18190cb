import math
from itertools import pairwise

import numpy as np
import pytest
from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent
from scipy.optimize import brentq
from scipy.special import log_ndtr

from bundle.site.release import calibrate, epsilon


def exact_log_delta(eps, mu):
    """δ(ε) of Gaussian differential privacy (Balle, Wang 2018, theorem 8; Dong, Roth, Su 2022, corollary 2.13)."""
    first, second = log_ndtr(-eps / mu + mu / 2), eps + log_ndtr(-eps / mu - mu / 2)
    return first + math.log1p(-math.exp(min(0.0, second - first))) if second < first else -math.inf


def exact_epsilon(noise, releases, delta):
    mu = math.sqrt(releases) / noise
    upper = mu * mu / 2 + mu * 40 + 1
    return brentq(lambda eps: exact_log_delta(eps, mu) - math.log(delta), 1e-9, upper, xtol=1e-9)


def exact_noise(eps, releases, delta):
    """The multiplier at which the exact curve passes through (ε, δ)."""
    mu = brentq(lambda mu: max(exact_log_delta(eps, mu), -1e6) - math.log(delta), 1e-6, 1e6)
    return math.sqrt(releases) / mu


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-8])
@pytest.mark.parametrize("releases", [1, 1000, 300_000])
@pytest.mark.parametrize("eps", [0.5, 1.0, 3.0, 8.0, 20.0])
def test_it_is_the_exact_curve_from_above(eps, releases, delta):
    found = epsilon(exact_noise(eps, releases, delta), releases, delta)
    assert eps <= found * (1 + 1e-9)
    assert found == pytest.approx(eps, rel=1e-6)


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-8])
@pytest.mark.parametrize("eps", [0.1, 1.0, 4.0, 10.0, 100.0])
def test_it_takes_less_noise_than_by_renyi(eps, delta):
    """By Opacus, at orders so close together that none would give less."""
    orders = 1 + np.geomspace(1e-2, 1e4, 2000)

    def by_renyi(noise):
        rdp = compute_rdp(q=1.0, noise_multiplier=noise, steps=100, orders=orders)
        return get_privacy_spent(orders=orders, rdp=rdp, delta=delta)[0]

    noise = calibrate(eps, delta, 100)
    assert epsilon(noise, 100, delta) <= eps <= by_renyi(noise)
    needed = brentq(lambda sigma: by_renyi(sigma) - eps, noise, 2 * noise)
    assert 1.01 < needed / noise < 1.2


@pytest.mark.parametrize(("noise", "releases"), [(0.01, 10_000), (0.4, 300_000), (1e-4, 1), (1.0, 300_000)])
@pytest.mark.filterwarnings("error")  # Opacus warns where the best order is an end of the grid
def test_large_epsilons_are_sane(noise, releases):
    exact = exact_epsilon(noise, releases, 1e-5)
    assert exact > 1e5
    assert exact <= epsilon(noise, releases, 1e-5) <= 1.01 * exact


def test_a_release_that_is_repeated_costs_as_much_as_one_with_less_noise():
    # T releases with noise σ are one with σ / sqrt(T): both have the same μ
    assert epsilon(3.0, 400, 1e-5) == pytest.approx(epsilon(3.0 / 20, 1, 1e-5), rel=1e-12)


def test_it_grows_with_releases_and_falls_with_noise_and_delta():
    noises = [epsilon(noise, 100, 1e-5) for noise in (0.01, 0.1, 1, 10, 100, 1000)]
    releases = [epsilon(5.0, count, 1e-5) for count in (0, 1, 10, 1000, 300_000)]
    deltas = [epsilon(5.0, 100, delta) for delta in (1e-12, 1e-9, 1e-5, 1e-2, 0.5)]
    for falling in (noises, releases[::-1], deltas):
        assert all(a > b for a, b in pairwise(falling)), falling


def test_the_ends():
    assert epsilon(1.0, 0, 1e-5) == 0
    assert epsilon(0.0, 0, 1e-5) == 0
    assert epsilon(math.inf, 10, 1e-12) == 0
    assert epsilon(0.0, 1, 1e-5) == math.inf
    assert epsilon(1e-200, 1, 1e-5) == math.inf
    # δ alone covers it: the total variation of a Gaussian that moved by μ is about 0.4 μ
    assert epsilon(1e8, 1, 1e-3) == 0


@pytest.mark.parametrize("releases", [1, 2000, 300_000])
@pytest.mark.parametrize("target", [1e-9, 1e-2, 1.0, 8.0, 1e3, 1e6])
@pytest.mark.filterwarnings("error")
def test_calibrated_noise_is_enough_and_hardly_more(target, releases):
    noise = calibrate(target, 1e-5, releases)
    assert epsilon(noise, releases, 1e-5) <= target
    assert epsilon(noise * (1 - 1.1e-6), releases, 1e-5) > target


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1.0, 1, 1e-5), "noise_multiplier: expected a number >= 0, got -1.0"),
        ((math.nan, 1, 1e-5), "noise_multiplier: .* got nan"),
        ((1.0, -1, 1e-5), "releases: expected a whole number >= 0, got -1"),
        ((1.0, 1.5, 1e-5), "releases: .* got 1.5"),
        ((1.0, True, 1e-5), "releases: .* got True"),
        ((1.0, 1, 0.0), "delta: expected a number between 0 and 1, got 0.0"),
        ((1.0, 0, 1.0), "delta: .* got 1.0"),
        ((1.0, 1, math.nan), "delta: .* got nan"),
    ],
)
def test_impossible_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        epsilon(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 1e-5, 1), "epsilon_target: expected a finite number > 0, got 0.0"),
        ((math.inf, 1e-5, 1), "epsilon_target: .* got inf"),
        ((math.nan, 1e-5, 1), "epsilon_target: .* got nan"),
        ((1.0, 1e-5, 0), "releases: expected a whole number >= 1, got 0"),
        ((1.0, 0, 1), "delta: .* got 0"),
    ],
)
def test_impossible_budgets(arguments, message):
    with pytest.raises(ValueError, match=message):
        calibrate(*arguments)
