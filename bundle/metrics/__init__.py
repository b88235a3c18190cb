"""Metrics that MONAI lacks."""

from bundle.metrics.handlers import HausdorffDistance95Handler
from bundle.metrics.hausdorff import HausdorffDistance95
from bundle.metrics.rates import ConfusionRate
from bundle.metrics.slices import from_foreground_slices

__all__ = ["ConfusionRate", "HausdorffDistance95", "HausdorffDistance95Handler", "from_foreground_slices"]
