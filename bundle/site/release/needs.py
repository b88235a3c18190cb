"""What a site needs for its ε to leave something to learn: patients, or fewer steps."""

from __future__ import annotations

import math

from bundle.site.release.policy import ReleasePolicy
from bundle.site.release.sampled import sampled_epsilon, sampled_noise

__all__ = ["noise_in_bounds", "patients_needed", "too_few_patients"]

MOST_PATIENTS = 10**7
SMALLER = {
    "discriminator": "a smaller discriminator",
    "teacher": "a smaller teacher (private_teacher_channels)",
}


def noise_in_bounds(noise_multiplier: float, weights: int, patients_per_update: int) -> float:
    """
    The L2 norm of the noise on the mean gradient of an update, in clipping bounds: σ·√P/B. Of B patients that agree
    entirely the mean gradient is one bound long.

    Args:
        noise_multiplier: σ.
        weights: P, of the network.
        patients_per_update: B, drawn on average.
    """
    return noise_multiplier * math.sqrt(weights) / patients_per_update


def patients_needed(policy: ReleasePolicy, updates: int, weights: int) -> int | None:
    """
    With how many patients a site's noise is as small as its policy wants it to be.

    Args:
        policy: with a finite ε and ``max_noise``.
        updates: of a whole training.
        weights: P, of the network.

    Returns:
        The number, to two digits, rounded up; None where with ``patients_per_update`` no number is enough.
    """
    drawn = policy.patients_per_update
    most = policy.max_noise / noise_in_bounds(1.0, weights, drawn)

    def enough(patients: int) -> bool:
        return sampled_epsilon(most, drawn / patients, updates, policy.delta) <= policy.epsilon

    high = drawn
    while not enough(high):
        high *= 2
        if high > MOST_PATIENTS:
            return None
    low = max(drawn, high // 2)
    while high - low > max(1, low // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    unit = 10 ** max(0, len(str(high)) - 2)
    return -(-high // unit) * unit


def too_few_patients(policy: ReleasePolicy, patients: int, updates: int, weights: int, called: str) -> str:
    """
    Why a site's patients are too few for its ε, in words for its owner; empty where they are not, or nothing says when
    they are.

    Args:
        policy: whose mechanism is ``dp_sgd``.
        patients: of the site, at least ``patients_per_update``.
        updates: of a whole training, those of a teacher (``private_teacher_steps``) among them.
        weights: P, of the network.
        called: what the network is called: ``discriminator`` or ``teacher``.
    """
    if policy.max_noise is None or policy.epsilon == math.inf:
        return ""
    drawn = policy.patients_per_update
    found = sampled_noise(policy.epsilon, policy.delta, drawn / patients, updates)
    norm = noise_in_bounds(found, weights, drawn)
    if norm <= policy.max_noise:
        return ""
    needed = patients_needed(policy, updates, weights)
    advice = (
        f"it takes some {needed:,} patients, fewer updates (num_steps, private_teacher_steps), {SMALLER[called]} or a "
        "larger epsilon"
        if needed
        else f"with {drawn} patients_per_update no number of patients is enough: draw more, or have a larger epsilon"
    )
    return (
        f"{patients:,} patients are too few for epsilon {policy.epsilon:g} in {updates:,} updates: on the {weights:,} "
        f"weights of the {called} the noise would be {norm:.3g} clipping bounds, max_noise is {policy.max_noise:g}; "
        f"{advice}"
    )
