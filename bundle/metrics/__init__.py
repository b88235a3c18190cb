"""Metrics that MONAI lacks."""

from bundle.metrics.aji import AggregatedJaccardIndex, aggregated_jaccard_index
from bundle.metrics.handlers import HausdorffDistance95Handler
from bundle.metrics.hausdorff import HausdorffDistance95
from bundle.metrics.mixture import MixtureDistance, read_draws
from bundle.metrics.panoptic import PanopticQuality
from bundle.metrics.rates import ConfusionRate
from bundle.metrics.slices import from_foreground_slices

__all__ = [
    "AggregatedJaccardIndex",
    "ConfusionRate",
    "HausdorffDistance95",
    "HausdorffDistance95Handler",
    "MixtureDistance",
    "PanopticQuality",
    "aggregated_jaccard_index",
    "from_foreground_slices",
    "read_draws",
]
