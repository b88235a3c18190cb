"""Rates of the confusion matrix, case by case."""

from __future__ import annotations

import torch
from monai.metrics import (
    CumulativeIterationMetric,
    compute_confusion_matrix_metric,
    do_metric_reduction,
    get_confusion_matrix,
)
from monai.utils import MetricReduction

__all__ = ["ConfusionRate"]


class ConfusionRate(CumulativeIterationMetric):
    """
    A rate of the voxel-wise confusion matrix, such as sensitivity or specificity.

    MONAI's ConfusionMatrixMetric keeps the four counts of a case; this one keeps the rate itself, so that the values
    per case can be read from an engine's ``metric_details`` as they can for the other metrics.

    Args:
        name: as for :func:`monai.metrics.compute_confusion_matrix_metric`: ``sensitivity``, ``specificity``, …
        reduction: over cases and channels.

    Input: ``y_pred`` and ``y`` binary, B×C×spatial. A rate without a case to count (the sensitivity where ``y`` is
    empty) is NaN and left out of the mean.
    """

    def __init__(self, name: str, reduction: MetricReduction | str = MetricReduction.MEAN) -> None:
        super().__init__()
        self.name = name
        self.reduction = reduction

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        counts = get_confusion_matrix(y_pred=y_pred, y=y, include_background=True)
        return compute_confusion_matrix_metric(self.name, counts)

    def aggregate(self) -> torch.Tensor:
        return do_metric_reduction(self.get_buffer(), self.reduction)[0]
