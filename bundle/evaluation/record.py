"""The scores of a synthetic data set itself, as a file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bundle.files import write_json

__all__ = ["OVERALL", "Items", "QualityRecord"]

OVERALL = "overall"
"""Stands for all sites together, among the names of sites."""

Items = Mapping[str, Sequence[Mapping]]
"""Items of a data list by site."""


class QualityRecord:
    """
    Compares a synthetic data set with the real one and writes the scores as JSON, last of all.

    Args:
        measure: from the real and the synthetic items (items of data lists, by site; the sites of the setting) to
            scores: by name of the metric, values by site, and under :data:`OVERALL` that of all together. A value that
            is not there, or not finite, is written as null.
        real, synthetic: what it is called with.
        path: file to write, in the form of :class:`bundle.engines.CaseMetricsSaver`: a site is a case, and the overall
            value the mean.
        content: what else to write.

    Raises:
        ValueError: when a metric has no overall value.
    """

    def __init__(
        self,
        measure: Callable[[Items, Items], Mapping[str, Mapping[str, float]]],
        real: Items,
        synthetic: Items,
        path: str,
        content: Mapping[str, Any] | None = None,
    ) -> None:
        self.measure = measure
        self.real = real
        self.synthetic = synthetic
        self.path = path
        self.content = {} if content is None else dict(content)

    def run(self) -> None:
        metrics = {}
        for name, values in self.measure(self.real, self.synthetic).items():
            if OVERALL not in values:
                raise ValueError(f"metric {name}: expected a value {OVERALL!r}, got {', '.join(values)}")
            known = {site: value if math.isfinite(value) else None for site, value in values.items()}
            metrics[name] = {"mean": known.pop(OVERALL), "per_case": known}
        write_json(self.path, self.content | {"metrics": metrics})
