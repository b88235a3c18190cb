"""Panoptic quality, case by case."""

from __future__ import annotations

import numpy as np
import torch
from monai.metrics import PanopticQualityMetric, do_metric_reduction
from monai.utils import MetricReduction

from bundle.metrics.overlaps import InstanceOverlaps, check_instance_maps, count_overlaps

__all__ = ["PanopticQuality"]

# MONAI holds a mask for every object of what it is given: enough objects at once that its calls do not count, few
# enough that the masks are small.
OBJECTS_AT_ONCE = 32


class PanopticQuality(PanopticQualityMetric):
    """
    Panoptic, segmentation or recognition quality of instances of one class, by MONAI's PanopticQualityMetric.

    Kirillov et al. 2019, "Panoptic Segmentation", https://arxiv.org/abs/1801.00868: a predicted object is a true
    positive if its intersection over union (IoU) with a reference object is above 0.5. SQ is the mean IoU of the true
    positives, RQ their number divided by the mean number of predicted and reference objects (F1), PQ = SQ · RQ.

    MONAI's metric keeps the four counts of a case; this one keeps the quality itself, so that the values per case can
    be read from an engine's ``metric_details``. MONAI also makes a mask of the whole image for each object, 16 GB for
    2,000 nuclei on 1000² pixels. Its matching depends on sizes and overlaps alone, so here it is given small maps with
    the same ones: an IoU above 0.5 takes more than half of either object, so an object has one possible partner at
    most, and overlaps of other pairs are laid out as if the two lay apart.

    Called as MONAI's metrics are; ``y_pred`` and ``y`` are instance maps B×1×X×Y[×Z], or lists of 1×X×Y[×Z], whole
    numbers of any dtype, 0 is the background. The buffer holds B×1 qualities, float32. Both maps empty: 1; one of
    them, or no match: 0.

    Args:
        metric_name: ``pq``, ``sq`` or ``rq``.
        reduction: MONAI's, over what the buffer holds.

    Raises:
        ValueError: another name; different shapes, more than one channel, fractions, negative numbers.

    Example:
        One object of four pixels found with IoU 3/4, one missed: 0.75 / (1 + 1/2).

        >>> truth = torch.tensor([[[[1, 1, 1, 1, 0, 2, 2]]]])
        >>> PanopticQuality()(y_pred=torch.tensor([[[[0, 3, 3, 3, 0, 0, 0]]]]), y=truth).tolist()
        [[0.5]]
    """

    def __init__(self, metric_name: str = "pq", reduction: MetricReduction | str = MetricReduction.MEAN) -> None:
        super().__init__(num_classes=1, metric_name=metric_name, reduction=reduction)
        if metric_name not in ("pq", "sq", "rq"):
            raise ValueError(f"metric_name: expected pq, sq or rq, got {metric_name!r}")

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        y = check_instance_maps(y_pred, y)
        values = [[self._quality(count_overlaps(found, truth))] for found, truth in zip(y_pred, y, strict=True)]
        return torch.tensor(values, dtype=torch.float32, device=y_pred.device)

    def _quality(self, overlaps: InstanceOverlaps) -> float:
        counts = torch.zeros(4, dtype=torch.float64)
        for pred, truth in _small_maps(overlaps):
            # channel 0 the objects, channel 1 their class
            maps = [torch.from_numpy(np.stack([array, array > 0])).reshape(1, 2, 1, -1) for array in (pred, truth)]
            counts += super()._compute_tensor(*maps).reshape(4)
        matched, wrong, missed, iou = counts.tolist()
        if not matched + wrong + missed:
            return 1.0
        parts = {
            "pq": (iou, matched + wrong / 2 + missed / 2),
            "sq": (iou, max(matched, 1)),
            "rq": (matched, matched + wrong / 2 + missed / 2),
        }
        above, below = parts[self.metric_name[0]]
        return above / below

    def aggregate(self, reduction: MetricReduction | str | None = None) -> torch.Tensor:
        """What the buffer holds, reduced by ``reduction`` or the one given at construction."""
        data = self.get_buffer()
        if not isinstance(data, torch.Tensor):
            raise ValueError("nothing to aggregate: the metric has not been called")
        return do_metric_reduction(data, reduction or self.reduction)[0]


def _small_maps(overlaps: InstanceOverlaps) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of one-dimensional maps, int32, that together have the counts and the IoU of all possible matches."""
    truth_sizes, pred_sizes = overlaps.truth_sizes[overlaps.truth], overlaps.pred_sizes[overlaps.pred]
    possible = (2 * overlaps.pixels > truth_sizes) & (2 * overlaps.pixels > pred_sizes)
    both = overlaps.pixels[possible]
    nothing = np.zeros_like
    # one row for each pair or single object: pixels of both, of the reference alone, of the prediction alone
    missed = np.delete(overlaps.truth_sizes, overlaps.truth[possible])
    wrong = np.delete(overlaps.pred_sizes, overlaps.pred[possible])
    rows = np.concatenate(
        [
            np.stack([both, truth_sizes[possible] - both, pred_sizes[possible] - both], axis=1),
            np.stack([nothing(missed), missed, nothing(missed)], axis=1),
            np.stack([nothing(wrong), nothing(wrong), wrong], axis=1),
        ]
    )
    maps = []
    for start in range(0, len(rows), OBJECTS_AT_ONCE):
        some = rows[start : start + OBJECTS_AT_ONCE]
        numbers = np.arange(1, len(some) + 1, dtype=np.int32)
        pred = np.stack([numbers, nothing(numbers), numbers], axis=1)
        truth = np.stack([numbers, numbers, nothing(numbers)], axis=1)
        maps.append((np.repeat(pred.ravel(), some.ravel()), np.repeat(truth.ravel(), some.ravel())))
    return maps
