"""What a site's ε is going to cost, before anything runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from bundle.site.release import ReleasePolicy, calibrate
from bundle.site.release.needs import noise_in_bounds, patients_needed
from bundle.site.release.sampled import sampled_noise

__all__ = ["MEASURED", "Plan", "explain"]

MEASURED: tuple[tuple[float, float], ...] = (
    (0.15, 0.76),
    (0.22, 0.80),
    (0.34, 0.77),
    (0.56, 0.75),
    (0.65, 0.73),
    (1.0, 0.72),
    (1.6, 0.66),
    (2.8, 0.64),
    (3.7, 0.69),
    (7.6, 0.60),
    (14.0, 0.52),
    (26.0, 0.24),
)
"""Noise in clipping bounds and Dice, means of three trainings (docs/lab/private_curve.md)."""
PAINTED, REAL = 0.73, 0.85
"""Dice there of label maps painted at random, and of the real images of one site of eight patients."""

PIXELS = 64 * 64


@dataclass(frozen=True)
class Plan:
    """
    A training that a site thinks of.

    Args:
        patients: n of the site, at least 1.
        steps: of the training, at least 1.
        epsilon: ε that it may take, finite.
        delta: δ.
        weights: P of the discriminator.
        updates: of the discriminator, a step.
        patients_per_update: B, drawn on average; at most as many as there are.
        max_noise: in clipping bounds, above which nothing is expected to be learned.
        teacher_steps: updates of a teacher before the first step; 0 for none.
        teacher_weights: P of the teacher.

    Raises:
        ValueError: for numbers out of range.
    """

    patients: int
    steps: int
    epsilon: float
    delta: float = 1e-5
    weights: int = 35_873
    updates: int = 1
    patients_per_update: int = 32
    max_noise: float = ReleasePolicy.max_noise or math.inf
    teacher_steps: int = 0
    teacher_weights: int = 113

    def __post_init__(self) -> None:
        for name in ("patients", "steps", "weights", "updates", "patients_per_update", "teacher_weights"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name}: expected at least 1, got {getattr(self, name)}")
        if self.teacher_steps < 0:
            raise ValueError(f"--teacher_steps: expected at least 0, got {self.teacher_steps}")
        if not 0 < self.epsilon < math.inf:
            raise ValueError(f"--epsilon: expected a finite number above 0, got {self.epsilon}")
        if self.patients_per_update > self.patients:
            raise ValueError(
                f"a sampling rate above 1: --patients_per_update {self.patients_per_update} of {self.patients} patients"
            )

    @property
    def policy(self) -> ReleasePolicy:
        names = ("epsilon", "delta", "patients_per_update", "max_noise")
        given = {name: getattr(self, name) for name in names}
        return ReleasePolicy.make({"policy": "private", "mechanism": "dp_sgd"} | given)

    @property
    def all_updates(self) -> int:
        """Of the whole training, those of the teacher among them."""
        return self.teacher_steps + self.steps * self.updates

    @property
    def noise(self) -> float:
        """Multiplier σ of every update."""
        return sampled_noise(self.epsilon, self.delta, self.patients_per_update / self.patients, self.all_updates)

    @property
    def bounds(self) -> float:
        """The noise on the mean gradient of an update of the discriminator, in clipping bounds."""
        return noise_in_bounds(self.noise, self.weights, self.patients_per_update)

    @property
    def teacher_bounds(self) -> float:
        """The same of the teacher; 0 where there is none."""
        weights = self.teacher_weights if self.teacher_steps else 0
        return noise_in_bounds(self.noise, weights, self.patients_per_update)

    @property
    def worst(self) -> float:
        """The larger of both: what ``max_noise`` bounds."""
        return max(self.bounds, self.teacher_bounds)


def explain(plan: Plan) -> Iterator[str]:
    """
    The page of ``asyndgan audit plan``, line by line: noise, what it leaves to learn, and what would be needed.
    """
    yield (
        f"{plan.patients:,} patients, {plan.patients_per_update} of them for an update (sampling rate "
        f"{plan.patients_per_update / plan.patients:.3g}), {plan.all_updates:,} updates, epsilon "
        f"{plan.epsilon:g} at delta {plan.delta:g}, a discriminator of {plan.weights:,} weights."
    )
    if plan.teacher_steps:
        yield (
            f"{plan.teacher_steps:,} of them are of a teacher of {plan.teacher_weights:,} weights, on which the "
            f"noise is {plan.teacher_bounds:.3g} clipping bounds long. They leave once, before the first step."
        )
    yield (
        f"dp_sgd: noise multiplier {plan.noise:.4g}. On the mean gradient of an update the noise is {plan.bounds:.3g} "
        "clipping bounds long; the gradient itself is one at most."
    )
    other = 2 * math.sqrt(PIXELS) * calibrate(plan.epsilon, plan.delta, plan.steps)
    yield (
        f"gradient_noise: {other:,.0f} clipping bounds on the gradient of one image of 64 by 64 pixels, however many "
        "patients there are."
    )
    yield _usefulness(plan.bounds)
    if plan.teacher_steps:
        yield "That was without a teacher. What one was worth there is in docs/lab/private_curve.md."
    yield from _needs(plan)


def _usefulness(bounds: float) -> str:
    if bounds > MEASURED[-1][0]:
        return f"Expected: nothing was measured with more than {MEASURED[-1][0]:g} clipping bounds of noise."
    below = [one for one in MEASURED if one[0] <= bounds]
    above = [one for one in MEASURED if one[0] >= bounds]
    near = [*below[-1:], *above[:1]]
    told = " and ".join(f"{dice:.2f} with {noise:.3g} bounds" for noise, dice in dict.fromkeys(near))
    return (
        f"Expected: on phantoms of 32 by 32 pixels a segmenter of the generated images had a Dice of {told}. Label "
        f"maps painted at random, without any hospital, gave {PAINTED:.2f}, real images of eight patients {REAL:.2f} "
        "(means of three trainings; docs/lab/private_curve.md)."
    )


def _needs(plan: Plan) -> Iterator[str]:
    if plan.worst <= plan.max_noise:
        yield f"That is within max_noise, {plan.max_noise:g}: a site lets such a training begin."
        return
    larger = "discriminator" if plan.bounds >= plan.teacher_bounds else "teacher"
    on = f" on the {larger}" if plan.teacher_steps else ""
    yield f"That is{on} above max_noise, {plan.max_noise:g}: a site refuses such a training. It would take one of:"
    if plan.bounds <= plan.max_noise:
        fewest = int(plan.teacher_weights * (plan.max_noise / plan.teacher_bounds) ** 2)
        yield f"- a teacher of {fewest:,} weights"
    weights = max(plan.weights, plan.teacher_weights if plan.teacher_steps else 0)
    needed = patients_needed(plan.policy, plan.all_updates, weights)
    if needed is not None:
        yield f"- {needed:,} patients"
    steps = _most_steps(plan)
    if steps:
        yield f"- {steps:,} steps"
    epsilon = _least_epsilon(plan)
    if epsilon is not None:
        yield f"- epsilon {epsilon:.3g}"
    if plan.patients_per_update < plan.patients and replace(plan, patients_per_update=plan.patients).worst < plan.worst:
        yield f"- more patients_per_update: with all {plan.patients:,} the noise is less, and an update takes longer"


def _most_steps(plan: Plan) -> int:
    low, high = 0, plan.steps
    while high - low > max(1, low // 50):
        middle = (low + high) // 2
        low, high = (middle, high) if replace(plan, steps=middle).worst <= plan.max_noise else (low, middle)
    return low


def _least_epsilon(plan: Plan) -> float | None:
    for tenth in range(1, 41):
        epsilon = float(f"{plan.epsilon * 10 ** (tenth / 10):.2g}")
        if replace(plan, epsilon=epsilon).worst <= plan.max_noise:
            return epsilon
    return None
