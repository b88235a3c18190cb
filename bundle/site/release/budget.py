"""What a site's ε allows, and what its ledger took of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from bundle.site.release.accountant import calibrate, epsilon
from bundle.site.release.policy import DP_SGD, ReleasePolicy
from bundle.site.release.sampled import ORDERS, renyi, sampled_noise, to_epsilon

__all__ = ["UPDATE", "Budget", "SampledBudget", "make_budget"]

UPDATE = "update"
"""Kind of the entry that says, before it is made, that a network is updated with noise."""

ROUNDING = 1e-9
"""Of the whole: the last release planned ends at the budget, not exactly on it."""

LEFT_OVER = 1e-3
"""Of the whole: what rounding up the noise of a training leaves of it, which nothing is done with."""

HARDLY = 0.01
"""By how much less noise has to do, of itself, for a site to change what it adds."""


def make_budget(policy: ReleasePolicy) -> Budget | SampledBudget:
    """The budget of a policy's mechanism."""
    return SampledBudget(policy) if policy.mechanism == DP_SGD else Budget(policy)


class _Ledgered:
    """
    Args:
        policy: whose ε and δ.

    ``unprotected`` is whether something left that no noise covers, ``foreign`` whether something left by the other
    mechanism. Copies (:func:`copy.copy`) are independent.
    """

    bound = ""

    def __init__(self, policy: ReleasePolicy) -> None:
        self._policy = policy
        self.unprotected = False
        self.foreign = False

    @property
    def bounded(self) -> bool:
        return self._policy.private and self._policy.epsilon < math.inf

    def objection(self) -> str:
        """Why nothing more may leave, in words that may be sent; empty where something may."""
        if self.foreign:
            return (
                f"its ledger holds releases of another mechanism than {self._policy.mechanism}: their epsilons are of "
                "different things, and do not add up. Have the site's owner begin a new ledger, or set mechanism back"
            )
        if self.unprotected:
            return "its ledger has image gradients that were released without noise: no finite epsilon holds any more"
        return ""


class Budget(_Ledgered):
    """
    The sum of 1/σ² of releases with noise: Gaussian mechanisms compose to one with σ = 1/√Σ. As long as it stays below
    what ε and δ allow, noise and number of releases may be chosen by what was released before (a filter, Smith and
    Thakurta 2022, https://arxiv.org/abs/2210.17520).
    """

    bound = "exact Gaussian composition"

    def __init__(self, policy: ReleasePolicy) -> None:
        super().__init__(policy)
        self._allowed: float | None = None
        self.spent = 0.0

    @property
    def epsilon(self) -> float | None:
        """ε so far, at the policy's δ; None without differential privacy."""
        if not self._policy.private:
            return None
        if self.unprotected or self.foreign:
            return math.inf
        return epsilon(1 / math.sqrt(self.spent), 1, self._policy.delta) if self.spent else 0.0

    def add(self, entry: Mapping[str, Any]) -> None:
        """Count an entry: a reply, which has left, or a step that failed."""
        noise = entry.get("noise_multiplier", 0.0)
        if entry["kind"] == UPDATE:
            self.foreign = True
        elif noise:
            self.spent += 1 / noise**2
        elif entry["kind"] == "reply":
            self.unprotected = True

    def covers(self, noise_multiplier: float) -> bool:
        """Whether there is enough left for a release with this noise."""
        return bool(noise_multiplier) and 1 / noise_multiplier**2 <= self._left() + self._whole() * ROUNDING

    def noise(self, releases: int) -> float:
        """The noise multiplier with which so many releases take what is left; infinite when nothing is."""
        used_up = self._left() <= self._whole() * ROUNDING
        return math.inf if used_up else math.sqrt(releases / self._left())

    def _whole(self) -> float:
        if self._allowed is None:
            self._allowed = 1 / calibrate(self._policy.epsilon, self._policy.delta, 1) ** 2
        return self._allowed

    def _left(self) -> float:
        return self._whole() - self.spent


class SampledBudget(_Ledgered):
    """
    Rényi's ε of the updates of a critic, and of a teacher, whose patients were drawn. It is held below what ε and δ
    allow at one order, that of the first update in the ledger, and so noise, rate and number of updates may be chosen
    by what was released before (a Rényi filter, Feldman and Zrnic 2021, https://arxiv.org/abs/2008.11193).

    Replies count nothing: they are computed from the critic. Nor do the weights of a teacher that leave.
    """

    bound = "Rényi, sampled Gaussian"

    def __init__(self, policy: ReleasePolicy) -> None:
        super().__init__(policy)
        self.spent = np.zeros(len(ORDERS))
        self.updates = 0
        self.order: float | None = None
        self._last = 0.0, 0.0
        self._settled = False

    @property
    def epsilon(self) -> float | None:
        """ε so far, at the policy's δ, by the best order."""
        if self.unprotected or self.foreign:
            return math.inf
        return float(to_epsilon(self.spent, self._policy.delta).min()) if self.updates else 0.0

    def add(self, entry: Mapping[str, Any]) -> None:
        """Count an entry: updates that are made, or a reply, which has to follow from such."""
        if entry["kind"] == UPDATE:
            noise, rate = entry["noise_multiplier"], entry["sampling_rate"]
            self.updates += entry["updates"]
            if noise:
                self.spent = self.spent + entry["updates"] * renyi(noise, rate)
                self.order = self.order or entry["order"]
                self._last = noise, rate
            else:
                self.unprotected = True
        elif entry.get("noise_multiplier"):
            self.foreign = True
        elif entry["kind"] == "reply" and entry.get("mechanism") != DP_SGD:
            self.unprotected = True

    @property
    def overdrawn(self) -> bool:
        """Whether more was spent than ε and δ allow: by an owner who has lowered them since."""
        return self.order is not None and not self._fits(np.zeros(len(ORDERS)))

    def noise(self, rate: float, updates: int) -> float:
        """
        The noise multiplier for so many updates; infinite when nothing is left. It stays that of the updates before,
        in a training that goes on as well, as long as it is enough and less would not do.
        """
        last, of_rate = self._last
        fits = bool(last) and of_rate == rate and self._fits(updates * renyi(last, rate))
        if fits and self._settled:
            return last
        allowed, before = (self._policy.epsilon, self._policy.delta), tuple(self.spent.tolist())
        found = sampled_noise(*allowed, rate, updates, before, self.order)
        self._settled = True
        if not fits and self._left() < LEFT_OVER:
            return math.inf
        return last if fits and found > last * (1 - HARDLY) else found

    def order_of(self, noise_multiplier: float, rate: float, updates: int) -> float:
        """The order that the filter counts at: the ledger's, or the best for what is planned."""
        if self.order is not None:
            return self.order
        planned = to_epsilon(updates * renyi(noise_multiplier, rate), self._policy.delta)
        return float(ORDERS[planned.argmin()])

    def _left(self) -> float:
        """Share of what Rényi's ε may be at the order of the ledger."""
        if self.order is None:
            return 1.0
        (place,) = np.flatnonzero(np.equal(ORDERS, self.order))
        allowed = self._policy.epsilon - to_epsilon(np.zeros(len(ORDERS)), self._policy.delta)[place]
        return 1 - float(self.spent[place]) / allowed if allowed > 0 else 0.0

    def _fits(self, more: np.ndarray) -> bool:
        found = to_epsilon(self.spent + more, self._policy.delta)
        return bool(found[self.order == ORDERS][0] <= self._policy.epsilon * (1 + ROUNDING))
