"""95th percentile of the Hausdorff distance, with a stated convention for empty masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.metrics import CumulativeIterationMetric, compute_hausdorff_distance, do_metric_reduction
from monai.utils import MetricReduction

__all__ = ["HausdorffDistance95"]


class HausdorffDistance95(CumulativeIterationMetric):
    """HD95 between the surfaces of binary masks, in the unit of the voxel spacing (mm; pixels where there is none).

    Of two non-empty masks: MONAI's, the larger of the two directed 95th percentiles of distances between surface
    voxels. MONAI returns nan or infinity for empty masks, which a mean over cases silently leaves out or is ruined
    by. Here:

    * both empty: 0, nothing was there and nothing was found;
    * exactly one empty: the diagonal of the image, the largest distance there could be. BraTS 2018 scores 373.13
      for its 240×240×155 voxels of 1 mm, which is that diagonal.

    Called as MONAI's metrics are: ``metric(y_pred, y)``, ``metric.aggregate()``, ``metric.reset()``; ``y_pred`` and
    ``y`` are B×C×H×W[×D], any dtype, 0 or 1, or lists of C×H×W[×D]. Every channel is scored: drop a background
    channel before. The buffer holds B×C distances, float32.

    Args:
        spacing: size of a voxel: one number, one for each axis, or None for that of the MetaTensor ``y`` (else
            ``y_pred``; 1 where neither is one). ``metric(y_pred, y, spacing=...)`` wins over both.
        reduction: MONAI's, over what the buffer holds.

    Raises:
        ValueError: different shapes, fewer than two spatial axes, values other than 0 and 1, a spacing that does
            not fit.
    """

    def __init__(
        self,
        spacing: float | Sequence[float] | None = None,
        reduction: MetricReduction | str = MetricReduction.MEAN,
    ) -> None:
        super().__init__()
        self.spacing = spacing
        self.reduction = reduction

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        if y is None or y_pred.shape != y.shape or y_pred.ndim < 4:
            raise ValueError(
                "expected y_pred and y, both B×C×H×W[×D], of one shape; got "
                f"{tuple(y_pred.shape)} and {None if y is None else tuple(y.shape)}"
            )
        spacings = _spacings(kwargs.get("spacing", self.spacing), y_pred, y)
        # MONAI's distances are a KD-tree over few surface voxels on the CPU: cheaper than a copy back and forth.
        masks = []
        for name, tensor in (("y_pred", y_pred), ("y", y)):
            plain = tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
            plain = plain.detach().cpu()
            mask = plain != 0
            if not torch.equal(mask.to(plain.dtype), plain):
                raise ValueError(f"{name}: expected 0 or 1 everywhere")
            masks.append(mask)
        found, truth = masks
        distances = torch.zeros(found.shape[:2], dtype=torch.float32)
        for sample, spacing in enumerate(spacings):
            diagonal = math.hypot(*(size * step for size, step in zip(found.shape[2:], spacing, strict=True)))
            for channel in range(found.shape[1]):
                here = (slice(sample, sample + 1), slice(channel, channel + 1))
                any_found, any_truth = bool(found[here].any()), bool(truth[here].any())
                if any_found != any_truth:
                    distances[sample, channel] = diagonal
                elif any_found:
                    distances[here] = compute_hausdorff_distance(
                        found[here], truth[here], include_background=True, percentile=95, spacing=spacing
                    )
        return distances.to(y_pred.device)

    def aggregate(self, reduction: MetricReduction | str | None = None) -> torch.Tensor:
        """What the buffer holds, reduced by ``reduction`` or the one given at construction."""
        data = self.get_buffer()
        if not isinstance(data, torch.Tensor):
            raise ValueError("nothing to aggregate: the metric has not been called")
        return do_metric_reduction(data, reduction or self.reduction)[0]


def _spacings(
    spacing: float | Sequence[float] | None, y_pred: torch.Tensor, y: torch.Tensor
) -> list[tuple[float, ...]]:
    """One spacing per sample."""
    batch, axes = y.shape[0], y.ndim - 2
    if spacing is not None:
        steps = [spacing] * axes if isinstance(spacing, (int, float)) else list(spacing)
        rows = [steps] * batch
    else:
        meta = y if isinstance(y, MetaTensor) else y_pred
        if not isinstance(meta, MetaTensor):
            return [(1.0,) * axes] * batch
        affine = torch.as_tensor(meta.affine)
        # Collated batches stack one affine per sample; a single case given a batch axis keeps its one.
        affines = list(affine) if affine.ndim == 3 else [affine] * batch
        rows = [affine_to_spacing(one, r=axes).tolist() for one in affines]
    if len(rows) != batch or any(len(row) != axes or min(row) <= 0 for row in rows):
        raise ValueError(f"spacing: expected {axes} positive numbers for each of {batch} samples, got {rows}")
    return [tuple(float(step) for step in row) for row in rows]
