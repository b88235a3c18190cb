"""What noise buys: ε of many noisy releases together."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["calibrate", "epsilon"]

# The best order α of the conversion to (ε, δ) lies near 1 + sqrt(2·σ²·log(1/δ)/T): 1.003 where ε is 1e6 and 1 + 1e-6
# where it is 1e13; in the millions where ε is 1e-6, at e/δ where noise hides everything. The orders of Opacus, 1.1
# to 63, are good for ε of about 0.1 to 1000. 100 orders a decade are 2.3 % apart, which costs ε less than 0.01 %. Any
# order gives a bound that holds: beyond the ends of the grid ε is only higher than it need be.
ORDERS = 1 + np.geomspace(1e-8, 1e20, 2801)

TOLERANCE = 1e-4


def epsilon(noise_multiplier: float, releases: int, delta: float) -> float:
    """
    ε of (ε, δ)-differential privacy after so many releases by the Gaussian mechanism.

    Each release may depend on those before it (adaptive composition). Nothing is gained from sampling: every release
    depends on all data. Rényi differential privacy of order α adds up over releases to T·α/(2σ²) (Mironov 2017,
    https://arxiv.org/abs/1702.07476, corollary 3) and is converted at the best of 2801 orders (Balle et al. 2020,
    https://arxiv.org/abs/1905.09982, theorem 21), both by Opacus' accountant.

    Args:
        noise_multiplier: σ, the standard deviation of the noise over the L2 sensitivity of a release, >= 0.
        releases: T, the number of releases, >= 0.
        delta: δ, in (0, 1).

    Returns:
        ε >= 0, an upper bound of the exact one; 0 without releases or with infinite noise, infinite without noise.

    Raises:
        ValueError: when an argument is out of its range.
    """
    if not noise_multiplier >= 0:
        raise ValueError(f"noise_multiplier: expected a number >= 0, got {noise_multiplier!r}")
    _check_whole(releases, 0)
    _check_delta(delta)
    if releases == 0 or math.isinf(noise_multiplier):
        return 0.0
    # below 1e-154 the square is 0 to a float
    if noise_multiplier**2 == 0:
        return math.inf
    # here, for Opacus imports in many seconds, and reading a ledger needs none of it
    from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent

    rdp = compute_rdp(q=1.0, noise_multiplier=noise_multiplier, steps=releases, orders=ORDERS)
    found, _ = get_privacy_spent(orders=ORDERS, rdp=rdp, delta=delta)
    # the conversion goes below 0 where δ alone covers the difference
    return max(0.0, float(found))


def calibrate(epsilon_target: float, delta: float, releases: int) -> float:
    """
    The smallest noise that keeps so many releases within a budget.

    Args:
        epsilon_target: ε that all releases together may reach, > 0 and finite.
        delta: δ, in (0, 1).
        releases: T, the number of releases, >= 1.

    Returns:
        Noise multiplier σ with :func:`epsilon` (σ, T, δ) <= ``epsilon_target``; at most 0.01 % above the smallest one.

    Raises:
        ValueError: when an argument is out of its range, or the target is below what the accountant can show with any
            noise: about log(1/δ) · 1e-20.
    """
    if not 0 < epsilon_target < math.inf:
        raise ValueError(f"epsilon_target: expected a finite number > 0, got {epsilon_target!r}")
    _check_whole(releases, 1)
    _check_delta(delta)
    least = epsilon(1e30 * math.sqrt(releases), releases, delta)
    if least > epsilon_target:
        raise ValueError(
            f"epsilon_target: with delta {delta:g} the least that can be shown is {least:.3g}, got {epsilon_target:g}"
        )
    enough = 1.0
    while epsilon(enough, releases, delta) > epsilon_target:
        enough *= 2
    short = enough / 2
    while epsilon(short, releases, delta) <= epsilon_target:
        enough, short = short, short / 2
    while enough > short * (1 + TOLERANCE):
        middle = math.sqrt(enough * short)
        if epsilon(middle, releases, delta) <= epsilon_target:
            enough = middle
        else:
            short = middle
    return enough


def _check_whole(releases: int, least: int) -> None:
    # True is an int to Python
    if not isinstance(releases, int) or isinstance(releases, bool) or releases < least:
        raise ValueError(f"releases: expected a whole number >= {least}, got {releases!r}")


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ValueError(f"delta: expected a number between 0 and 1, got {delta!r}")
