"""The images that are compared: crops of one size, with their features and where they are from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from monai.data.utils import iter_patch_slices

__all__ = ["Crops", "batches", "grid_crops"]


def grid_crops(image: torch.Tensor, size: int) -> list[tuple[tuple[int, int], torch.Tensor]]:
    """
    The crops of a fixed grid without overlaps, from the first pixel on; what is left at the far ends is left out.

    Args:
        image: C×H×W.
        size: side of a crop.

    Returns:
        Places (of the first row and column) and crops C×size×size.

    Raises:
        ValueError: an image that is smaller.
    """
    height, width = image.shape[-2:]
    if min(height, width) < size:
        raise ValueError(f"expected images of at least {size}×{size} pixels, got {height}×{width}")
    # MONAI would take a smaller patch of an image that is smaller
    places = iter_patch_slices((height, width), (size, size), padded=False)
    return [((rows.start, columns.start), image[..., rows, columns]) for rows, columns in places]


def batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of ``size`` items; the last may be shorter."""
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


@dataclass
class Crops:
    """Features of crops, and of every crop its site, its patient and what it is a crop of."""

    features: torch.Tensor
    """N×F, float32."""
    site: list[str] = field(default_factory=list)
    patient: list[str] = field(default_factory=list)
    """Of a synthetic crop, the patient whose label map it was drawn from."""
    source: list[Mapping] = field(default_factory=list)
    """``case`` and ``place``, ``slice`` of a volume, and for looking it up ``key`` and ``index`` of its sample."""

    def __len__(self) -> int:
        return len(self.site)

    def of_sites(self, sites: Collection[str]) -> torch.Tensor:
        """Features of the crops of some sites."""
        return self.features[torch.tensor([site in sites for site in self.site], dtype=torch.bool)]

    def of_patients(self, patients: Collection[str]) -> torch.Tensor:
        """Features of the crops of some patients."""
        return self.features[torch.tensor([patient in patients for patient in self.patient], dtype=torch.bool)]
