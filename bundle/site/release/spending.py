"""What a site's ε is spent on, step by step; of a critic's updates, the entry before they are made."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from bundle.site.release.budget import UPDATE, Budget, SampledBudget
from bundle.site.release.records import ReleaseRecords

__all__ = ["Noised", "Planned", "Spending"]


class Planned(NamedTuple):
    """
    How a critic is updated under ``dp_sgd``.

    Attributes:
        rate: q, with which every patient is drawn for an update.
        updates: of a step.
        taught: of the site's teacher, before the first step.
    """

    rate: float
    updates: int
    taught: int = 0


class Noised(NamedTuple):
    """
    Updates that are in the ledger.

    Attributes:
        first: how many the ledger held before: the number of the first of them, which no other has.
        noise: multiplier σ of the noise of each; 0 for none.
    """

    first: int
    noise: float


class Spending:
    """
    Args:
        records: of the site's releases.

    ``noise`` is the multiplier σ of the step that was prepared last, 0 for none; ``planned`` is how the critic is
    updated, where the policy's mechanism is ``dp_sgd``.
    """

    def __init__(self, records: ReleaseRecords) -> None:
        self._records = records
        self._left = 1
        self.noise = 0.0
        self.planned: Planned | None = None

    @property
    def budget(self) -> Budget | SampledBudget:
        return self._records.released.budget

    @property
    def updates(self) -> int:
        """Updates of critics in the ledger, by whichever training."""
        self._records.open()
        return self.budget.updates if isinstance(self.budget, SampledBudget) else 0

    def prepare(self, step: int, num_steps: int | None) -> str:
        """
        Set the noise with which this step and those that are left of the training take what is left of ε. It stays the
        same from step to step; after steps that had to be done twice it is a little more.

        Args:
            step: from 1.
            num_steps: of the training.

        Returns:
            Why the step is not possible, in words that may be sent; empty where it is.

        Raises:
            RuntimeError: when that depends on what nobody has said.
        """
        self._left = 1 if num_steps is None else max(num_steps - step + 1, 1)
        if not self.budget.bounded:
            return ""
        if objection := self.budget.objection():
            return objection
        if num_steps is None:
            raise RuntimeError("a finite epsilon needs the number of steps it is divided among")
        if isinstance(self.budget, SampledBudget):
            planned = self._plan()
            self.noise = self.budget.noise(planned.rate, self._left * planned.updates)
        else:
            self.noise = self.budget.noise(self._left)
        if math.isinf(self.noise):
            allowed = self._records.policy.epsilon
            return f"its privacy budget is spent: epsilon {self.budget.epsilon:.4g} of {allowed:g}"
        return ""

    def failed(self) -> dict[str, Any]:
        """
        Count a step that got no answer, whose updates are not in the ledger already, as its answer would have counted.

        Returns:
            What its entry says of it.
        """
        if not self.budget.bounded or isinstance(self.budget, SampledBudget):
            return {}
        about = {"mechanism": self._records.policy.mechanism, "noise_multiplier": self.noise}
        self.budget.add({"kind": "refusal", **about})
        return about | {"epsilon": self.budget.epsilon}

    def update(self, step: int) -> Noised:
        """
        Write down that the critic is going to be updated for the step that was prepared. Whatever becomes of the
        updates, they count from then on: nothing is computed from real images before.

        Raises:
            LedgerError, OSError: when the ledger cannot be written.
        """
        self._records.open()
        budget, planned = self.budget, self._plan()
        assert isinstance(budget, SampledBudget)
        noise = self.noise if budget.bounded else 0.0
        order = budget.order_of(noise, planned.rate, self._left * planned.updates) if noise else None
        about = {
            "mechanism": self._records.policy.mechanism,
            "noise_multiplier": noise,
            "sampling_rate": planned.rate,
            "updates": planned.updates,
            "order": order,
        }
        first = budget.updates
        self._records.write(UPDATE, step=step, bound=budget.bound, **about)
        budget.add({"kind": UPDATE, **about})
        return Noised(first, noise)

    def _plan(self) -> Planned:
        if self.planned is None:
            raise RuntimeError("nothing was said of how the critic is updated")
        return self.planned
