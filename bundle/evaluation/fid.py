"""FID and MMD between synthetic and real images, with what they are between real ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from statistics import fmean

import numpy as np
import torch

from bundle.evaluation.crops import Crops
from bundle.metrics import frechet_distance, mean_discrepancy
from bundle.seeding import derive_seed

__all__ = ["DISTANCES", "compare_sets"]

DISTANCES: Mapping[str, Callable[[torch.Tensor, torch.Tensor], float]] = {
    "fid": frechet_distance,
    "mmd": mean_discrepancy,
}


def compare_sets(synthetic: Crops, real: Crops, sites: Collection[str], splits: int = 10) -> dict[str, float]:
    """
    Distances between the sets of some sites' images.

    Args:
        synthetic, real: crops with features.
        sites: the sites whose crops are compared.
        splits: random splits of the patients into halves, over which is averaged.

    Returns:
        For each of :data:`DISTANCES`, NaN where there are too few images or patients:

        ``METRIC``
            synthetic against real images, of the same patients: those whose label maps the synthetic ones are of;
        ``METRIC/other patients``
            synthetic images of one half of the patients against real ones of the other half, over splits and both ways;
        ``METRIC/real, other patients``
            the same with real images of both halves: what an ideal generator reaches there, with as many images;
        ``METRIC/real, other sites``
            real images of these sites against those of all the others.
    """
    patients = sorted({p for p, s in zip(real.patient, real.site, strict=True) if s in sites})
    halves = [_half(patients, split) for split in range(splits)]
    ours = real.of_sites(sites)
    others = real.of_sites(set(real.site) - set(sites))
    scores = {}
    for name, distance in DISTANCES.items():
        scores[name] = _measured(distance, synthetic.of_sites(sites), ours)
        scores[f"{name}/other patients"] = fmean(
            _measured(distance, synthetic.of_patients(one), real.of_patients(other))
            for split in halves
            for one, other in (split, split[::-1])
        )
        scores[f"{name}/real, other patients"] = fmean(
            _measured(distance, real.of_patients(one), real.of_patients(other)) for one, other in halves
        )
        scores[f"{name}/real, other sites"] = _measured(distance, ours, others)
    return scores


def _measured(distance: Callable, x: torch.Tensor, y: torch.Tensor) -> float:
    return distance(x, y) if min(len(x), len(y)) > 1 else math.nan


def _half(patients: list[str], split: int) -> tuple[set[str], set[str]]:
    """Two halves of the patients; of an odd number one is left out, so that the halves are as large."""
    order = np.random.default_rng(derive_seed(0, "halves", split)).permutation(len(patients))
    half = len(patients) // 2
    return {patients[i] for i in order[:half]}, {patients[i] for i in order[half : 2 * half]}
