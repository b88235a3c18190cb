"""How far synthetic numbers are from the mixture that the real ones were drawn from: the toy's figure of merit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.stats import wasserstein_distance

from bundle.evaluation.record import OVERALL, Items

__all__ = ["MixtureDistance", "read_draws"]


def read_draws(items: Sequence[Mapping], load: Callable[[Mapping], Mapping]) -> tuple[np.ndarray, np.ndarray]:
    """
    Args:
        items: items of a data list whose images are numbers; not none.
        load: makes arrays of the files of an item: ``image`` and ``label``, of one size.

    Returns:
        All numbers and their components, of shape (N,).
    """
    cases = [load(item) for item in items]
    images, labels = (np.concatenate([np.asarray(case[key]).ravel() for case in cases]) for key in ("image", "label"))
    return images, labels


class MixtureDistance:
    """
    Wasserstein-1 distance (:func:`scipy.stats.wasserstein_distance`) to held-out numbers of the whole mixture.

    The held-out numbers of a component weigh as much, together, as the component has of the training data of all sites,
    π_j = n_j / Σ n_i, in whichever setting: the mixture is what a generator of one site alone misses. The metrics:

    ``w1``
        of all synthetic numbers to the mixture.
    ``w1_component``
        of those of a component to the held-out ones of it, and their mean with the weights π_j; that is not there where
        a component is not.
    ``w1_data``
        of the setting's own training numbers to the mixture, as ``w1``: what the finite samples alone make.

    Args:
        held_out: items of the held-out numbers.
        training: items of the training data of all sites.
        load: see :func:`read_draws`.
        components: label values by name of the component.

    Attributes:
        held_out: the held-out numbers, (M,).
        weights: of the held-out numbers, (M,); they sum to 1.
        shares: π_j by component.

    Raises:
        ValueError: without held-out items, or when one of the components has none or is not trained on anywhere.
    """

    def __init__(
        self,
        held_out: Sequence[Mapping],
        training: Sequence[Mapping],
        load: Callable[[Mapping], Mapping],
        components: Mapping[str, Sequence[int]],
    ) -> None:
        if not held_out:
            raise ValueError("there are no held-out numbers: the list 'test' of the data list is empty")
        self.load = load
        self.components = {name: tuple(values) for name, values in components.items()}
        self.held_out, labels = read_draws(held_out, load)
        trained = read_draws(training, load)[1]
        self._members = {name: np.isin(labels, values) for name, values in self.components.items()}
        shares = {name: np.isin(trained, values).mean() for name, values in self.components.items()}
        for name, members in self._members.items():
            if not members.any() or not shares[name] > 0:
                raise ValueError(f"component {name!r}: expected numbers in 'training' and in 'test' of the data list")
        self.shares: dict[str, float] = {name: float(share) for name, share in shares.items()}
        self.weights = sum(shares[name] / members.sum() * members for name, members in self._members.items())

    def __call__(self, real: Items, synthetic: Items) -> dict[str, dict[str, float]]:
        """Scores by metric, each ``overall`` and, where there are, by component; of :class:`QualityRecord`."""
        values, labels = read_draws([item for items in synthetic.values() for item in items], self.load)
        trained, _ = read_draws([item for items in real.values() for item in items], self.load)
        by_component = {
            name: self._distance(values[np.isin(labels, label)], members)
            for (name, label), members in zip(self.components.items(), self._members.values(), strict=True)
        }
        mean = math.fsum(self.shares[name] * distance for name, distance in by_component.items())
        return {
            "w1": {OVERALL: self._distance(values)},
            "w1_component": {OVERALL: mean} | by_component,
            "w1_data": {OVERALL: self._distance(trained)},
        }

    def _distance(self, values: np.ndarray, members: np.ndarray | None = None) -> float:
        """NaN without values."""
        if not len(values):
            return math.nan
        if members is not None:
            return float(wasserstein_distance(values, self.held_out[members]))
        return float(wasserstein_distance(values, self.held_out, v_weights=self.weights))
