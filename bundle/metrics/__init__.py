"""Metrics that MONAI lacks."""

from bundle.metrics.aji import AggregatedJaccardIndex, aggregated_jaccard_index
from bundle.metrics.distributions import frechet_distance, mean_discrepancy
from bundle.metrics.handlers import HausdorffDistance95Handler
from bundle.metrics.hausdorff import HausdorffDistance95
from bundle.metrics.nearest import Neighbours, nearest_neighbours
from bundle.metrics.panoptic import PanopticQuality
from bundle.metrics.rates import ConfusionRate
from bundle.metrics.similarity import structural_similarity
from bundle.metrics.slices import from_foreground_slices

__all__ = [
    "AggregatedJaccardIndex",
    "ConfusionRate",
    "HausdorffDistance95",
    "HausdorffDistance95Handler",
    "Neighbours",
    "PanopticQuality",
    "aggregated_jaccard_index",
    "frechet_distance",
    "from_foreground_slices",
    "mean_discrepancy",
    "nearest_neighbours",
    "structural_similarity",
]
