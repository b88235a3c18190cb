"""Means and principal components over patients: what shapes are drawn from, with no patient in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["MIN_PATIENTS", "Moments", "TooFewPatients"]

MIN_PATIENTS = 5
"""Fewer are no statistics: their mean tells of each of them."""


class TooFewPatients(ValueError):
    """Statistics over so few patients that they tell of single ones."""


@dataclass(frozen=True)
class Moments:
    """
    A normal distribution of vectors: its leading principal components, and the variance of each number beside them.

    Attributes:
        mean: d.
        components: q×d, each times its standard deviation.
        residual: d, standard deviations of what the components leave over.
    """

    mean: np.ndarray
    components: np.ndarray
    residual: np.ndarray

    @classmethod
    def of(cls, vectors: Mapping[str, Sequence[np.ndarray]], components: int, least: int = MIN_PATIENTS) -> Moments:
        """
        Every patient weighs the same, however many vectors are of it.

        Args:
            vectors: by patient, some of d numbers each; a patient without any does not count.
            components: how many at most, and one less than patients.
            least: patients that there have to be.

        Raises:
            TooFewPatients: there are fewer.
        """
        found = [np.stack([*own]).astype(np.float64) for own in vectors.values() if len(own)]
        if len(found) < max(least, 2):
            raise TooFewPatients(
                f"expected at least {max(least, 2)} patients for statistics of shapes, got {len(found)}"
            )
        mean = np.mean([own.mean(axis=0) for own in found], axis=0)
        covariance = np.mean([(own - mean).T @ (own - mean) / len(own) for own in found], axis=0)
        values, directions = np.linalg.eigh(covariance)
        kept = np.argsort(values)[::-1][: min(components, len(found) - 1)]
        # the sign of an eigenvector is the library's choice: the largest number of each is positive
        leading = directions[:, kept].T
        leading *= np.sign(leading[np.arange(len(kept)), np.abs(leading).argmax(axis=1)])[:, None]
        scaled = leading * np.sqrt(np.maximum(values[kept], 0))[:, None]
        left_over = np.maximum(np.diag(covariance) - (scaled**2).sum(axis=0), 0)
        return cls(mean, scaled, np.sqrt(left_over))

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """
        A vector of the distribution, none of its coordinates beyond two standard deviations: the unusual ones among
        those that it was made of stay unseen, and shapes keep to what is known of them.
        """
        along, beside = (np.clip(rng.standard_normal(count), -2, 2) for count in self.components.shape)
        return self.mean + along @ self.components + beside * self.residual

    def span(self, index: int) -> tuple[float, float]:
        """Two standard deviations of one number about its mean: what is said to be its range."""
        spread = 2 * float(np.hypot(np.linalg.norm(self.components[:, index]), self.residual[index]))
        return float(self.mean[index]) - spread, float(self.mean[index]) + spread

    def to_arrays(self) -> dict[str, np.ndarray]:
        """float32: what :meth:`from_arrays` takes."""
        return {name: value.astype(np.float32) for name, value in vars(self).items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Moments:
        """
        Raises:
            ValueError: an array is missing, has another shape or dtype, or is not finite.
        """
        if missing := {"mean", "components", "residual"} - arrays.keys():
            raise ValueError(f"statistics of shapes: expected {', '.join(sorted(missing))} as well")
        mean, components, residual = (np.asarray(arrays[name]) for name in ("mean", "components", "residual"))
        fits = mean.ndim == 1 and residual.shape == mean.shape and components.ndim == 2
        if not fits or components.shape[1] != len(mean):
            raise ValueError(
                "statistics of shapes: expected a mean of d numbers, components of q×d and a residual of d, got "
                f"{mean.shape}, {components.shape} and {residual.shape}"
            )
        if not all(array.dtype.kind == "f" and np.isfinite(array).all() for array in (mean, components, residual)):
            raise ValueError("statistics of shapes: expected finite floating-point numbers")
        if (residual < 0).any():
            raise ValueError("statistics of shapes: expected standard deviations of at least 0")
        return cls(*(array.astype(np.float64) for array in (mean, components, residual)))
