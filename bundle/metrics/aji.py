"""Aggregated Jaccard index of instance maps."""

from __future__ import annotations

import numpy as np
import torch
from monai.config import NdarrayOrTensor
from monai.metrics import CumulativeIterationMetric, do_metric_reduction
from monai.utils import MetricReduction

from bundle.metrics.overlaps import check_instance_maps, count_overlaps

__all__ = ["AggregatedJaccardIndex", "aggregated_jaccard_index"]


def aggregated_jaccard_index(pred: NdarrayOrTensor, truth: NdarrayOrTensor) -> float:
    """
    Aggregated Jaccard index (AJI) of two instance maps: Kumar et al. 2017, "A Dataset and a Technique for Generalized
    Nuclear Segmentation for Computational Pathology", algorithm 1, https://doi.org/10.1109/TMI.2017.2677499.

    Every reference object takes the predicted one with the largest Jaccard index to it; intersections and unions of
    these pairs are summed; reference objects that nothing overlaps, and predicted ones that none took, add their
    pixels to the unions. The AJI is the sum of the intersections divided by that of the unions. As in the algorithm, a
    predicted object may be taken by several reference objects, and counts in full in each of these unions.

    What the algorithm leaves open: of several predicted objects with the same Jaccard index the one that shares more
    pixels is taken, then the one whose overlap comes first in the array; numbers of objects never decide. Both maps
    empty: 1; one of them: 0.

    Args:
        pred, truth: arrays or tensors of one shape; whole numbers of any dtype, 0 is the background, every other
            number one object, whatever numbers are left out.

    Returns:
        The index, 0 to 1.

    Raises:
        ValueError: different shapes, fractions, negative numbers.

    Example:
        Two merged nuclei of two and three pixels: both take the one object, (2 + 3) / (5 + 5).

        >>> aggregated_jaccard_index(np.array([[4, 4, 4, 4, 4]]), np.array([[1, 1, 2, 2, 2]]))
        0.5
    """
    found = count_overlaps(pred, truth)
    if not len(found.truth_sizes) and not len(found.pred_sizes):
        return 1.0
    unions = found.truth_sizes[found.truth] + found.pred_sizes[found.pred] - found.pixels
    # Stable: pairs that are equal in all of these stay in the order in which the maps show them.
    order = np.lexsort((-found.pixels, -found.pixels / unions, found.truth))
    matched, first = np.unique(found.truth[order], return_index=True)
    taken = order[first]
    missed = np.delete(found.truth_sizes, matched)
    unused = np.delete(found.pred_sizes, found.pred[taken])
    return float(found.pixels[taken].sum() / (unions[taken].sum() + missed.sum() + unused.sum()))


class AggregatedJaccardIndex(CumulativeIterationMetric):
    """
    :func:`aggregated_jaccard_index` of every case, as one of MONAI's metrics.

    Called as MONAI's metrics are: ``metric(y_pred, y)``, ``metric.aggregate()``, ``metric.reset()``; ``y_pred`` and
    ``y`` are instance maps B×1×X×Y[×Z], or lists of 1×X×Y[×Z], whole numbers of any dtype. The buffer holds B×1
    indices, float32.

    Args:
        reduction: MONAI's, over what the buffer holds.

    Raises:
        ValueError: different shapes, more than one channel, fractions, negative numbers.

    Example:
        >>> metric = AggregatedJaccardIndex()
        >>> maps = torch.tensor([[[[1, 1, 0, 2]]], [[[0, 0, 0, 0]]]])
        >>> metric(y_pred=maps, y=torch.tensor([[[[5, 5, 0, 0]]], [[[0, 0, 0, 0]]]])).tolist()
        [[0.6666666865348816], [1.0]]
    """

    def __init__(self, reduction: MetricReduction | str = MetricReduction.MEAN) -> None:
        super().__init__()
        self.reduction = reduction

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        y = check_instance_maps(y_pred, y)
        values = [[aggregated_jaccard_index(found, truth)] for found, truth in zip(y_pred, y, strict=True)]
        return torch.tensor(values, dtype=torch.float32, device=y_pred.device)

    def aggregate(self, reduction: MetricReduction | str | None = None) -> torch.Tensor:
        """What the buffer holds, reduced by ``reduction`` or the one given at construction."""
        data = self.get_buffer()
        if not isinstance(data, torch.Tensor):
            raise ValueError("nothing to aggregate: the metric has not been called")
        return do_metric_reduction(data, reduction or self.reduction)[0]
