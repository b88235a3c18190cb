"""How good synthetic images are themselves: against real ones, and whether they are copies."""

from bundle.quality.images import ImageQuality
from bundle.quality.neighbours import KINDS, SIDES, read_examples
from bundle.quality.synthesis import synthesize

__all__ = ["KINDS", "SIDES", "ImageQuality", "read_examples", "synthesize"]
