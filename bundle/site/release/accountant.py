"""What noise buys: ε of many noisy releases together, each of which depends on all data."""

from __future__ import annotations

import math

__all__ = ["calibrate", "check_delta", "check_target", "check_whole", "epsilon"]

TOLERANCE = 1e-9
"""By how much more, of itself, noise is than it has to be: what rounding could have cost."""

SMALL = 1e-5
"""Means up to which a bound takes the place of a difference that rounding would eat."""


def epsilon(noise_multiplier: float, releases: int, delta: float) -> float:
    """
    ε of (ε, δ)-differential privacy after so many releases by the Gaussian mechanism.

    Each release may depend on those before it, and so may its noise. Nothing is gained from sampling: every release
    depends on all data. Gaussian mechanisms compose to one whose outputs on neighbouring data are, at worst, two
    normal distributions μ = √T/σ standard deviations apart (Dong, Roth and Su 2022,
    https://arxiv.org/abs/1905.02383, corollary 3.3; with noise chosen on the way Smith and Thakurta 2022,
    https://arxiv.org/abs/2210.17520); ε is the exact one of those (Balle and Wang 2018,
    https://arxiv.org/abs/1805.06530, theorem 8).

    Args:
        noise_multiplier: σ, the standard deviation of the noise over the L2 sensitivity of a release, >= 0.
        releases: T, the number of releases, >= 0.
        delta: δ, in (0, 1).

    Returns:
        ε >= 0; 0 without releases or with infinite noise, infinite without noise.

    Raises:
        ValueError: when an argument is out of its range.
    """
    if not noise_multiplier >= 0:
        raise ValueError(f"noise_multiplier: expected a number >= 0, got {noise_multiplier!r}")
    check_whole("releases", releases, 0)
    check_delta(delta)
    if releases == 0 or math.isinf(noise_multiplier):
        return 0.0
    mean = math.sqrt(releases) / noise_multiplier if noise_multiplier else math.inf
    # above that its square has no float
    if mean > 1e150:
        return math.inf
    return _epsilon(mean * (1 + TOLERANCE), delta)


def calibrate(epsilon_target: float, delta: float, releases: int) -> float:
    """
    The smallest noise that keeps so many releases within a budget.

    Args:
        epsilon_target: ε that all releases together may reach, > 0 and finite.
        delta: δ, in (0, 1).
        releases: T, the number of releases, >= 1.

    Returns:
        Noise multiplier σ with :func:`epsilon` (σ, T, δ) <= ``epsilon_target``; at most 0.0001 % above the smallest
        one.

    Raises:
        ValueError: when an argument is out of its range.
    """
    check_target(epsilon_target)
    check_whole("releases", releases, 1)
    check_delta(delta)
    enough = 1.0
    while epsilon(enough, releases, delta) > epsilon_target:
        enough *= 2
    short = enough / 2
    while epsilon(short, releases, delta) <= epsilon_target:
        enough, short = short, short / 2
    while enough > short * (1 + 1e-6):
        middle = math.sqrt(enough * short)
        if epsilon(middle, releases, delta) <= epsilon_target:
            enough = middle
        else:
            short = middle
    return enough


def _epsilon(mean: float, delta: float) -> float:
    """
    ε = μx + μ²/2 where δ = φ(x)·(R(x) − R(x + μ)), with R(x) = Φ(−x)/φ(x), Mills' ratio: the exact curve, written so
    that nothing is lost where ε is large or δ tiny.
    """
    from scipy.optimize import brentq
    from scipy.special import ndtri

    def excess(place: float) -> float:
        return _log_delta(place, mean) - math.log(delta)

    # beyond 10 standard deviations δ is 1; at the upper end one of the two terms alone is δ
    low, high = max(-mean / 2, -10.0), float(-ndtri(delta)) + 1e-9
    if low >= high or excess(low) <= 0:
        # δ alone covers it
        return max(0.0, mean * low + mean * mean / 2)
    return max(0.0, mean * brentq(excess, low, high, xtol=1e-13, rtol=1e-14) + mean * mean / 2)


def _log_delta(place: float, mean: float) -> float:
    from scipy.special import erfcx

    def mills(at: float) -> float:
        return math.sqrt(math.pi / 2) * float(erfcx(at / math.sqrt(2)))

    # R is convex: its slope at x is the steepest
    gap = mean * (1 - place * mills(place)) if mean < SMALL else mills(place) - mills(place + mean)
    return -place * place / 2 - math.log(2 * math.pi) / 2 + math.log(gap) if gap > 0 else -math.inf


def check_target(epsilon_target: float) -> None:
    """
    Raises:
        ValueError: for an ε that is none, or no bound.
    """
    if not 0 < epsilon_target < math.inf:
        raise ValueError(f"epsilon_target: expected a finite number > 0, got {epsilon_target!r}")


def check_whole(name: str, number: int, least: int) -> None:
    """
    Raises:
        ValueError: for what is no whole number, or below the least.
    """
    # True is an int to Python
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        raise ValueError(f"{name}: expected a whole number >= {least}, got {number!r}")


def check_delta(delta: float) -> None:
    """
    Raises:
        ValueError: for a δ that is no probability.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta: expected a number between 0 and 1, got {delta!r}")
