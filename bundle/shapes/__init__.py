"""Label maps that are nobody's: drawn from statistics of shapes over patients."""

from bundle.shapes.cells import Cells
from bundle.shapes.drawing import ALL, ShapeModel, by_patient, draw_conditions, draw_in_place, style_of
from bundle.shapes.models import model_of
from bundle.shapes.moments import MIN_PATIENTS, Moments, TooFewPatients
from bundle.shapes.regions import OrganWithRegions
from bundle.shapes.statistics import ShapeStatistics, read_statistics, write_statistics

__all__ = [
    "ALL",
    "MIN_PATIENTS",
    "Cells",
    "Moments",
    "OrganWithRegions",
    "ShapeModel",
    "ShapeStatistics",
    "TooFewPatients",
    "by_patient",
    "draw_conditions",
    "draw_in_place",
    "model_of",
    "read_statistics",
    "style_of",
    "write_statistics",
]
