"""How good synthetic images are themselves: against real ones, and whether they are copies."""

from bundle.evaluation.copies import KINDS, SIDES, read_examples
from bundle.evaluation.fixed_pattern import FixedPattern
from bundle.evaluation.images import ImageQuality
from bundle.evaluation.mixture import MixtureDistance, read_draws
from bundle.evaluation.record import OVERALL, QualityRecord
from bundle.evaluation.synthesis import synthesize

__all__ = [
    "KINDS",
    "OVERALL",
    "SIDES",
    "FixedPattern",
    "ImageQuality",
    "MixtureDistance",
    "QualityRecord",
    "read_draws",
    "read_examples",
    "synthesize",
]
