"""What a site's ε allows, and what its releases took of it."""

from __future__ import annotations

import math

from bundle.site.release.accountant import calibrate, epsilon
from bundle.site.release.policy import ReleasePolicy

__all__ = ["Budget"]

ROUNDING = 1e-9
"""Of the whole: the last release planned ends at the budget, not exactly on it."""


class Budget:
    """
    The sum of 1/σ² of releases with noise: Gaussian mechanisms compose to one with σ = 1/√Σ. As long as it stays below
    what ε and δ allow, a Rényi filter, noise and number of releases may be chosen by what was released before.

    Args:
        policy: whose ε and δ.
    """

    def __init__(self, policy: ReleasePolicy) -> None:
        self._policy = policy
        self._allowed: float | None = None
        self.spent = 0.0
        self.unprotected = False  # whether something left without noise

    @property
    def bounded(self) -> bool:
        return self._policy.private and self._policy.epsilon < math.inf

    @property
    def epsilon(self) -> float | None:
        """ε so far, at the policy's δ; None without differential privacy."""
        if not self._policy.private:
            return None
        if self.unprotected:
            return math.inf
        return epsilon(1 / math.sqrt(self.spent), 1, self._policy.delta) if self.spent else 0.0

    @property
    def used_up(self) -> bool:
        return self._left() <= self._whole() * ROUNDING

    def take(self, noise_multiplier: float) -> None:
        """A release with this noise; 0 for none."""
        if noise_multiplier:
            self.spent += 1 / noise_multiplier**2
        else:
            self.unprotected = True

    def covers(self, noise_multiplier: float) -> bool:
        """Whether there is enough left for a release with this noise."""
        return bool(noise_multiplier) and 1 / noise_multiplier**2 <= self._left() + self._whole() * ROUNDING

    def noise(self, releases: int) -> float:
        """The noise multiplier with which so many releases take what is left."""
        return math.sqrt(releases / self._left())

    def _whole(self) -> float:
        if self._allowed is None:
            self._allowed = 1 / calibrate(self._policy.epsilon, self._policy.delta, 1) ** 2
        return self._allowed

    def _left(self) -> float:
        return self._whole() - self.spent
