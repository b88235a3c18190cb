"""What a site's ε is spent on, step by step; of the updates of its networks, the entry before they are made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from bundle.site.release.budget import UPDATE, Budget, SampledBudget
from bundle.site.release.needs import noise_in_bounds
from bundle.site.release.records import ReleaseRecords
from bundle.site.release.released import TEACHER, Taught

__all__ = ["Noised", "Planned", "Spending"]


class Planned(NamedTuple):
    """
    How a site's networks are updated under ``dp_sgd``.

    Attributes:
        rate: q, with which every patient is drawn for an update.
        updates: of the critic, a step.
        taught: of the site's teacher, before the first step.
        weights: P of the larger of the networks; 0 where nobody said.
    """

    rate: float
    updates: int
    taught: int = 0
    weights: int = 0


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

    ``noise`` is the multiplier σ of the step that was prepared last, 0 for none; ``planned`` is how the networks are
    updated, where the policy's mechanism is ``dp_sgd``.
    """

    def __init__(self, records: ReleaseRecords) -> None:
        self._records = records
        self._left = 1
        self._before = 0  # updates of a teacher that come before the steps that are left
        self.noise = 0.0
        self.planned: Planned | None = None

    @property
    def budget(self) -> Budget | SampledBudget:
        return self._records.released.budget

    @property
    def updates(self) -> int:
        """Updates of critics and teachers in the ledger, by whichever training."""
        self._records.open()
        return self.budget.updates if isinstance(self.budget, SampledBudget) else 0

    @property
    def taught(self) -> Taught | None:
        """The teacher of this training, as far as the ledger has its updates; None where it has none."""
        self._records.open()
        planned = self._plan()
        return self._records.released.taught_in(self._records.training, planned.rate, planned.taught)

    def prepare_teacher(self, num_steps: int | None) -> str:
        """
        Set the noise with which the updates of the site's teacher and all steps of the training take what is left of ε.
        Updates that the ledger has already are made again as they were, and cost nothing.

        Args:
            num_steps: of the training.

        Returns:
            Why they are not possible, in words that may be sent; empty where they are.

        Raises:
            RuntimeError: when that depends on what nobody has said.
        """
        made = self.taught
        if made is None:
            return self.prepare(1, num_steps, self._plan().taught)
        if objection := self.budget.objection() if self.budget.bounded else "":
            return objection
        # what has left already is nothing new
        over = isinstance(self.budget, SampledBudget) and self.budget.bounded and self.budget.overdrawn
        return self._spent() if over and not made.weights else ""

    def teach(self) -> Noised:
        """
        Write down that the site's teacher is going to be updated as was prepared, unless the ledger has these updates
        already; as :meth:`update`.
        """
        if (made := self.taught) is not None:
            return Noised(made.first, made.noise)
        about = {"of": TEACHER, "training": self._records.training, "first": self.updates}
        noised, entry = self._write(self._plan().taught, about)
        self._records.released.teach(entry)
        return noised

    def prepare(self, step: int, num_steps: int | None, before: int = 0) -> str:
        """
        Set the noise with which this step and those that are left of the training take what is left of ε. It stays the
        same from step to step; after steps that had to be done twice it is a little more.

        Args:
            step: from 1.
            num_steps: of the training.
            before: updates of a teacher that come before it.

        Returns:
            Why the step is not possible, in words that may be sent; empty where it is.

        Raises:
            RuntimeError: when that depends on what nobody has said.
        """
        self._left = 1 if num_steps is None else max(num_steps - step + 1, 1)
        self._before = before
        if not self.budget.bounded:
            return ""
        if objection := self.budget.objection():
            return objection
        if num_steps is None:
            raise RuntimeError("a finite epsilon needs the number of steps it is divided among")
        if isinstance(self.budget, SampledBudget):
            self.noise = self.budget.noise(self._plan().rate, self._ahead())
        else:
            self.noise = self.budget.noise(self._left)
        return self._spent() if math.isinf(self.noise) else self._drowned()

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
        return self._write(self._plan().updates, {"step": step})[0]

    def _write(self, updates: int, about: Mapping[str, Any]) -> tuple[Noised, dict[str, Any]]:
        """What is known of so many updates, when they are in the ledger."""
        self._records.open()
        budget, rate = self.budget, self._plan().rate
        assert isinstance(budget, SampledBudget)
        noise = self.noise if budget.bounded else 0.0
        if budget.bounded and not 0 < noise < math.inf:
            raise RuntimeError("updates under a finite epsilon without noise: no step was prepared")
        order = budget.order_of(noise, rate, self._ahead()) if noise else None
        entry = {
            "mechanism": self._records.policy.mechanism,
            "noise_multiplier": noise,
            "sampling_rate": rate,
            "updates": updates,
            "order": order,
            **about,
        }
        first = budget.updates
        self._records.write(UPDATE, bound=budget.bound, **entry)
        budget.add({"kind": UPDATE, **entry})
        return Noised(first, noise), entry

    def _ahead(self) -> int:
        """Updates that are left of the training."""
        return self._before + self._left * self._plan().updates

    def _spent(self) -> str:
        return f"its privacy budget is spent: epsilon {self.budget.epsilon:.4g} of {self._records.policy.epsilon:g}"

    def _drowned(self) -> str:
        """Why what is left of ε is too little to learn anything by; empty where it is not, or nothing says."""
        policy, planned = self._records.policy, self.planned
        if policy.max_noise is None or planned is None or not isinstance(self.budget, SampledBudget):
            return ""
        found = noise_in_bounds(self.noise, planned.weights, policy.patients_per_update)
        if found <= policy.max_noise:
            return ""
        return (
            f"epsilon {self.budget.epsilon:.4g} of {policy.epsilon:g} is spent, and with what is left the noise would "
            f"be {found:.3g} clipping bounds: max_noise is {policy.max_noise:g}"
        )

    def _plan(self) -> Planned:
        if self.planned is None:
            raise RuntimeError("nothing was said of how the critic is updated")
        return self.planned
