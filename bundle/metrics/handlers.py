"""Ignite handlers of this room's metrics, for the lists of metrics in configs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from monai.handlers import IgniteMetricHandler
from monai.utils import MetricReduction

from bundle.metrics.hausdorff import HausdorffDistance95

__all__ = ["HausdorffDistance95Handler"]


class HausdorffDistance95Handler(IgniteMetricHandler):
    """:class:`HausdorffDistance95` as ``key_metric`` or ``additional_metrics`` of MONAI's evaluators.

    In a config::

        additional_metrics:
          hd95:
            _target_: bundle.metrics.HausdorffDistance95Handler
            output_transform: "$monai.handlers.from_engine(['pred', 'label'])"

    Args:
        spacing, reduction: see :class:`HausdorffDistance95`.
        output_transform: from ``engine.state.output`` to ``(y_pred, y)``.
        save_details: keep the distance of every case in ``engine.state.metric_details[name]``, B×C.
    """

    def __init__(
        self,
        spacing: float | Sequence[float] | None = None,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        output_transform: Callable = lambda x: x,
        save_details: bool = True,
    ) -> None:
        super().__init__(
            metric_fn=HausdorffDistance95(spacing=spacing, reduction=reduction),
            output_transform=output_transform,
            save_details=save_details,
        )
