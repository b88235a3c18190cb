"""Does every image have the same speck or stripe in the same place? Outliers by position; texture of the mean image."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np
import torch
from scipy import ndimage

from bundle.evaluation.crops import grid_crops

__all__ = ["FixedPattern", "outliers"]

STEP = 0.5
"""A quarter of the range [-1, 1]."""
MARGIN = 32
"""The mean outline is eroded by one pixel for so many of a crop's side: heads do not end at one place."""


def outliers(images: np.ndarray) -> np.ndarray:
    """
    Pixels that stand out from what surrounds them.

    Args:
        images: N×C×H×W in [-1, 1].

    Returns:
        N×H×W bool: where a channel differs from its 3×3 median by more than :data:`STEP`.
    """
    # a border is mirrored: MONAI's filter has zeros beyond it, from which a dark border would differ
    medians = ndimage.median_filter(images, size=(1, 1, 3, 3), mode="mirror")
    return (np.abs(images - medians) > STEP).any(axis=1)


class FixedPattern:
    """
    Rates of outliers (:func:`outliers`) at every position, over images, and the texture of the mean image.

    A generator's artefact sits in one place of every image; lesions, vessels and noise do not. Positions are those
    of a crop of the fixed grid. They count inside the mean outline: where most of the images have their anatomical
    outline, eroded by a pixel for every :data:`MARGIN` of a side; the whole crop where images have no outline.

    Args:
        images: site, image C×H×W in [-1, 1] and outline K×H×W of 0 and 1, K 0 for none, one after the other.
        crop_size: side of the crops.
    """

    def __init__(self, images: Iterable[tuple[str, torch.Tensor, torch.Tensor]], crop_size: int) -> None:
        self.size = crop_size
        self._count: dict[str, int] = {}
        self._found: dict[str, np.ndarray] = {}
        self._inside: dict[str, np.ndarray] = {}
        self._sums: dict[str, np.ndarray] = {}
        for site, image, outline in images:
            inside = outline.bool().any(dim=0, keepdim=True) if len(outline) else torch.ones_like(image[:1]).bool()
            for (_, crop), (_, part) in zip(grid_crops(image, crop_size), grid_crops(inside, crop_size), strict=True):
                self._add(site, crop.float().numpy(), part[0].numpy())

    def _add(self, site: str, crop: np.ndarray, inside: np.ndarray) -> None:
        self._count[site] = self._count.get(site, 0) + 1
        found = outliers(crop[None])[0].astype(np.int64), inside.astype(np.int64), crop.astype(np.float64)
        for sums, one in zip((self._found, self._inside, self._sums), found, strict=True):
            sums[site] = sums.get(site, 0) + one

    def scores(self, sites: Collection[str]) -> dict[str, float]:
        """
        Of the images of some sites; NaN without images or without anything inside:

        ``fixed_pattern``
            the largest rate at one position by the median rate, (largest + 1/N) / (median + 1/N) of N crops: 1 where
            outliers are everywhere alike or nowhere at all, and no division by 0 where the median is none. The largest
            of few counts is far from the median by chance: compare sets of the same size;
        ``fixed_pattern_rate``
            the largest rate itself, the share of crops that have an outlier at that one position, 0 to 1;
        ``fixed_texture``
            how far the mean of all crops is from its own 3×3 median, root mean square over positions and channels, in
            [0, 2]: stripes and checkerboards that all images share, and no outlier of a single one, are left in
            the mean; texture that is elsewhere in each falls with √N.
        """
        known = sorted(set(sites) & set(self._count))
        count = sum(self._count[site] for site in known)
        inside = self._total(self._inside, known) > count / 2
        # what is beyond a crop counts as in
        inside = ndimage.binary_erosion(inside, iterations=max(1, self.size // MARGIN), border_value=1)
        if not count or not inside.any():
            return dict.fromkeys(("fixed_pattern", "fixed_pattern_rate", "fixed_texture"), float("nan"))
        rates = self._total(self._found, known)[inside] / count
        largest, median = float(rates.max()), float(np.median(rates))
        mean = sum(self._sums[site] for site in known) / count
        texture = mean - ndimage.median_filter(mean, size=(1, 3, 3), mode="mirror")
        return {
            "fixed_pattern": (largest + 1 / count) / (median + 1 / count),
            "fixed_pattern_rate": largest,
            "fixed_texture": float(np.sqrt(np.mean(texture[:, inside] ** 2))),
        }

    def _total(self, counts: Mapping[str, np.ndarray], sites: Collection[str]) -> np.ndarray:
        return sum((counts[site] for site in sites), np.zeros((self.size, self.size), np.int64))
