"""What noise buys when every update sees a random few of the patients: the sampled Gaussian mechanism."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from bundle.site.release.accountant import check_delta, check_target, check_whole

__all__ = ["ORDERS", "renyi", "sampled_epsilon", "sampled_noise", "to_epsilon"]

ORDERS = np.array([*range(2, 65), 80, 96, 112, 128, 160, 192, 256, 384, 512], dtype=float)
"""α of Rényi differential privacy: for ε from 0.05 to 20. Any of them gives a bound that holds."""

DIGITS = 1e4
"""A noise multiplier is rounded up to the next multiple of 1/DIGITS, for a ledger that can be read."""


@lru_cache(maxsize=256)
def renyi(noise_multiplier: float, rate: float) -> np.ndarray:
    """
    ε of Rényi differential privacy of one update, at every order of :data:`ORDERS`.

    A patient is drawn with probability ``rate``, each by itself; of those drawn, vectors of a norm of at most C are
    added up, with noise N(0, (σC)²) on every number. For a whole order α that is log(1 + Σ_k (α over k) q^k
    (1 − q)^(α−k) (e^(k(k−1)/2σ²) − 1)) / (α − 1) (Mironov, Talwar and Zhang 2019, https://arxiv.org/abs/1908.10530,
    section 3.3). Opacus has the same numbers, in a hundred times the time. Updates add up, order by order.

    Args:
        noise_multiplier: σ > 0.
        rate: q, above 0 and at most 1.
    """
    if rate == 1:
        return ORDERS / (2 * noise_multiplier**2)
    # here, for reading a ledger of anything else needs none of it
    from scipy.special import gammaln, logsumexp

    order, chosen = ORDERS[:, None], np.arange(2, ORDERS.max() + 1)[None]
    some = chosen <= order
    others = np.where(some, order - chosen, 0)
    ways = gammaln(order + 1) - gammaln(chosen + 1) - gammaln(others + 1)
    grown = chosen * (chosen - 1) / (2 * noise_multiplier**2)
    with np.errstate(divide="ignore"):
        # log(e^x - 1), whatever x is
        terms = ways + chosen * math.log(rate) + others * math.log1p(-rate) + grown + np.log(-np.expm1(-grown))
    found = np.logaddexp(0, logsumexp(np.where(some, terms, -np.inf), axis=1)) / (ORDERS - 1)
    found.flags.writeable = False
    return np.asarray(found)


def to_epsilon(spent: np.ndarray, delta: float) -> np.ndarray:
    """
    ε of (ε, δ)-differential privacy by every order of :data:`ORDERS` (Balle et al. 2020,
    https://arxiv.org/abs/1905.09982, theorem 21); each of them is a bound.

    Args:
        spent: Rényi's ε by order.
        delta: δ, in (0, 1).
    """
    return np.maximum(0.0, spent - (math.log(delta) + np.log(ORDERS)) / (ORDERS - 1) + np.log1p(-1 / ORDERS))


def sampled_epsilon(noise_multiplier: float, rate: float, updates: int, delta: float) -> float:
    """
    ε of so many updates.

    Args:
        noise_multiplier: σ >= 0; 0 for none.
        rate: q, above 0 and at most 1.
        updates: how many, >= 0.
        delta: δ, in (0, 1).

    Raises:
        ValueError: when an argument is out of its range.
    """
    if not noise_multiplier >= 0:
        raise ValueError(f"noise_multiplier: expected a number >= 0, got {noise_multiplier!r}")
    _check_rate(rate)
    check_whole("updates", updates, 0)
    check_delta(delta)
    if not updates:
        return 0.0
    return float(to_epsilon(updates * renyi(noise_multiplier, rate), delta).min()) if noise_multiplier else math.inf


@lru_cache(maxsize=256)
def sampled_noise(
    epsilon_target: float,
    delta: float,
    rate: float,
    updates: int,
    spent: tuple[float, ...] | None = None,
    order: float | None = None,
) -> float:
    """
    The smallest noise with which so many updates stay within a budget.

    Args:
        epsilon_target: ε that all updates together may reach, > 0 and finite.
        delta: δ, in (0, 1).
        rate: q, above 0 and at most 1.
        updates: how many are to come, >= 1.
        spent: Rényi's ε by order of those that were; None for none.
        order: the one order of :data:`ORDERS` to count at; None for the best.

    Returns:
        σ, rounded up to four digits after the point; infinite when nothing is left.

    Raises:
        ValueError: when an argument is out of its range.
    """
    check_target(epsilon_target)
    check_delta(delta)
    _check_rate(rate)
    check_whole("updates", updates, 1)
    before = np.zeros(len(ORDERS)) if spent is None else np.array(spent)
    counted = np.ones(len(ORDERS), dtype=bool) if order is None else order == ORDERS

    def enough(noise: float) -> bool:
        return bool(to_epsilon(before + updates * renyi(noise, rate), delta)[counted].min() <= epsilon_target)

    if not (to_epsilon(before, delta)[counted] < epsilon_target).any():
        return math.inf
    high = 1.0
    while not enough(high):
        high *= 2
        if high > 2.0**40:
            return math.inf
    low = high / 2
    while low > 2.0**-6 and enough(low):
        high, low = low, low / 2
    while high > low * (1 + 1e-4):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    # more noise is never less private
    return math.ceil(high * DIGITS) / DIGITS


def _check_rate(rate: float) -> None:
    if not 0 < rate <= 1:
        raise ValueError(f"sampling rate: expected a number above 0 and at most 1, got {rate!r}")
