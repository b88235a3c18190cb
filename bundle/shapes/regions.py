"""Label maps of an organ with regions in it, such as a brain with a tumour: heads, shapes, sizes and places apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from bundle.shapes.fields import from_coefficients, in_frame, on_pixels, signed_distance, to_coefficients
from bundle.shapes.moments import MIN_PATIENTS, Moments
from bundle.shapes.statistics import ShapeStatistics

__all__ = ["OrganWithRegions"]

_SAMPLES = 48
_REACH = 3.0
"""Half the side of a region's window, in its radii."""
_INSIDE = 0.8
"""Share of a drawn region that has to lie in the organ."""
_TRIES = 200
_DRAWS = 4000


class OrganWithRegions:
    """
    A condition is an organ's outline (the last channel) and a region in it, of one class or several (the others).

    What is drawn is put together from four parts that know nothing of each other, so no patient's head comes with his
    tumour: the outline, whether there is a region, its shape, and its size and place in the organ. A part is a normal
    distribution (:class:`bundle.shapes.Moments`) over patients. Shapes are signed distances in low frequencies, after
    Leventon et al. 2000 (https://doi.org/10.1109/CVPR.2000.855835), who take the principal components of signed
    distance maps; a fixed basis instead of pixels makes them few numbers, and the same at every image size.

    Args:
        num_classes: channels before the outline.
        outline_frequencies: a side, of the outline.
        region_frequencies: a side, of a region.
        components: principal components of a part at most.
        min_pixels: that a drawn region has at least.

    Raises:
        ValueError: for numbers below 1, and more frequencies than a window has samples.
    """

    any_size = False
    """An organ fills the image that it was learned in."""

    def __init__(
        self,
        num_classes: int,
        outline_frequencies: int = 12,
        region_frequencies: int = 12,
        components: int = 20,
        min_pixels: int = 4,
    ) -> None:
        numbers = num_classes, outline_frequencies, region_frequencies, components, min_pixels
        if min(numbers) < 1 or region_frequencies > _SAMPLES:
            raise ValueError(f"a shape model: expected whole numbers from 1 on, frequencies up to {_SAMPLES}")
        self.num_classes = num_classes
        self.outline_frequencies = outline_frequencies
        self.region_frequencies = region_frequencies
        self.components = components
        self.min_pixels = min_pixels

    def fit(self, conditions: Mapping[str, Sequence[np.ndarray]], least: int = MIN_PATIENTS) -> ShapeStatistics:
        """
        Args:
            conditions: (num_classes + 1)×N×N uint8 of 0 and 1, by patient.
            least: patients of which there have to be statistics.

        Raises:
            TooFewPatients: see :class:`bundle.shapes.Moments`; a patient without any region is none of a region.
            ValueError: a condition of another shape.
        """
        outlines: dict[str, list[np.ndarray]] = {}
        presence: dict[str, list[np.ndarray]] = {}
        shapes: dict[str, list[np.ndarray]] = {}
        places: dict[str, list[np.ndarray]] = {}
        for patient, own in conditions.items():
            for condition in own:
                self._check(condition)
                outline, region = condition[-1] > 0, np.any(condition[:-1], axis=0)
                if not outline.any():
                    continue
                outlines.setdefault(patient, []).append(self._outline_vector(outline))
                presence.setdefault(patient, []).append(np.array([float(region.any())]))
                if region.any():
                    shapes.setdefault(patient, []).append(self._shape_vector(condition, region))
                    places.setdefault(patient, []).append(_place_vector(outline, region))
        parts = {"outline": outlines, "presence": presence, "shape": shapes, "place": places}
        return ShapeStatistics.of(self, parts, "outline", least)

    def draw(
        self,
        statistics: ShapeStatistics,
        rng: np.random.Generator,
        size: int,
        region_size: tuple[float, float] | None = None,
    ) -> np.ndarray:
        """
        A condition.

        Args:
            statistics: of :meth:`fit`.
            rng: NumPy's generator.
            size: N, height and width.
            region_size: least and greatest share of the organ that a region takes; there is one then. None: a region
                as often and as large as in the statistics.

        Returns:
            (num_classes + 1)×N×N uint8 of 0 and 1.

        Raises:
            ValueError: for a ``region_size`` beyond what the statistics know, with their range; when nothing that could
                be drawn from them is an organ.
        """
        self._check_region_size(statistics, region_size)
        condition = np.zeros((self.num_classes + 1, size, size), np.uint8)
        outline = self._draw_outline(statistics.moments["outline"], rng, size)
        condition[-1] = outline
        wanted = region_size is not None or rng.random() < statistics.moments["presence"].mean[0]
        for _ in range(_TRIES if wanted else 0):
            classes = self._draw_region(statistics, rng, outline, region_size)
            if np.count_nonzero(classes) >= self.min_pixels:
                for number in range(self.num_classes):
                    condition[number] = classes == number + 1
                break
        return condition

    def size_range(self, statistics: ShapeStatistics) -> tuple[float, float]:
        """Shares of the organ that regions take, by the statistics."""
        low, high = statistics.moments["place"].span(0)
        return float(np.exp(2 * low)), float(np.exp(2 * high))

    def _check(self, condition: np.ndarray) -> None:
        channels = self.num_classes + 1
        if condition.ndim != 3 or len(condition) != channels or condition.shape[1] != condition.shape[2]:
            raise ValueError(f"a shape model: expected conditions of {channels}×N×N, got {condition.shape}")

    def _check_region_size(self, statistics: ShapeStatistics, wanted: tuple[float, float] | None) -> None:
        if wanted is None:
            return
        low, high = self.size_range(statistics)
        if not low <= wanted[0] <= wanted[1] <= high:
            raise ValueError(
                f"size of a region: expected a least and a greatest share of the organ between {low:.3g} and "
                f"{high:.3g}, the range of the training images, got {wanted[0]:g} and {wanted[1]:g}"
            )

    def _outline_vector(self, outline: np.ndarray) -> np.ndarray:
        size = len(outline)
        # beyond half an image a distance says nothing of the shape
        field = np.clip(signed_distance(outline) / size, -0.5, 0.5)
        return to_coefficients(field, min(self.outline_frequencies, size))

    def _draw_outline(self, moments: Moments, rng: np.random.Generator, size: int) -> np.ndarray:
        for _ in range(_TRIES):
            outline = _largest(from_coefficients(moments.draw(rng), size) > 0)
            if outline.sum() >= 0.02 * size * size:
                return outline
        raise ValueError("a shape model: what is drawn from its statistics is no organ")

    def _shape_vector(self, condition: np.ndarray, region: np.ndarray) -> np.ndarray:
        """Signed distances of the region and, where there are several, of each class, in radii of the region."""
        centre, radius = _centre(region), _radius(region)
        masks = [region, *(condition[:-1] > 0 if self.num_classes > 1 else ())]
        windows = [in_frame(signed_distance(mask) / radius, centre, _REACH * radius, _SAMPLES) for mask in masks]
        # a class that a region lacks is far from it, not infinitely far
        return np.concatenate(
            [to_coefficients(np.clip(window, -_REACH, _REACH), self.region_frequencies) for window in windows]
        )

    def _draw_region(
        self,
        statistics: ShapeStatistics,
        rng: np.random.Generator,
        outline: np.ndarray,
        region_size: tuple[float, float] | None,
    ) -> np.ndarray:
        """Class indices N×N; all 0 where the place that was drawn lies beyond the organ."""
        low, high = self.size_range(statistics) if region_size is None else region_size
        place = statistics.moments["place"].draw(rng)
        for _ in range(_DRAWS):
            if low <= np.exp(2 * place[0]) <= high:
                break
            place = statistics.moments["place"].draw(rng)
        centre = _centre(outline) + place[1:] * _radius(outline)
        nearest = tuple(np.clip(np.round(centre).astype(int), 0, len(outline) - 1))
        none = np.zeros(outline.shape, np.uint8)
        if not outline[nearest]:
            return none
        radius = np.exp(place[0]) * _radius(outline)
        drawn = statistics.moments["shape"].draw(rng).reshape(-1, self.region_frequencies**2)
        windows = [from_coefficients(coefficients, _SAMPLES) for coefficients in drawn]
        # in radii of its own, a shape has the area of a circle of radius 1
        area = np.count_nonzero(windows[0] > 0) * (2 * _REACH / _SAMPLES) ** 2
        if area < 0.1:
            return none
        reach = _REACH * radius * np.sqrt(np.pi / area)
        fields = [on_pixels(window, centre, reach, outline.shape, -_REACH) for window in windows]
        whole = fields[0] > 0
        region = whole & outline
        if region.sum() < _INSIDE * whole.sum():
            return none
        return np.where(region, 1 + np.argmax(fields[1:], axis=0) if len(fields) > 1 else 1, 0).astype(np.uint8)


def _place_vector(outline: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Logarithm of the region's radius, and its centre from the organ's, in radii of the organ."""
    radius = _radius(outline)
    return np.array([np.log(_radius(region) / radius), *((_centre(region) - _centre(outline)) / radius)])


def _centre(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask).mean(axis=0)


def _radius(mask: np.ndarray) -> float:
    """Of the circle of that area, in pixels."""
    return float(np.sqrt(mask.sum() / np.pi))


def _largest(mask: np.ndarray) -> np.ndarray:
    """The largest of its pieces, without holes."""
    pieces, number = ndimage.label(mask)
    if not number:
        return mask
    sizes = ndimage.sum_labels(mask, pieces, range(1, number + 1))
    return ndimage.binary_fill_holes(pieces == 1 + int(np.argmax(sizes)))
