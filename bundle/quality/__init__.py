"""How good synthetic images are themselves: against real ones, and whether they are copies."""

from bundle.quality.images import ImageQuality
from bundle.quality.mixture import MixtureDistance, read_draws
from bundle.quality.neighbours import KINDS, SIDES, read_examples
from bundle.quality.record import OVERALL, QualityRecord
from bundle.quality.synthesis import synthesize

__all__ = [
    "KINDS",
    "OVERALL",
    "SIDES",
    "ImageQuality",
    "MixtureDistance",
    "QualityRecord",
    "read_draws",
    "read_examples",
    "synthesize",
]
