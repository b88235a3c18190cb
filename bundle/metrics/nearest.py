"""Nearest neighbours in a space of features: is an image a copy?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

__all__ = ["Neighbours", "nearest_neighbours"]


class Neighbours(NamedTuple):
    """The nearest neighbour of each of N images."""

    distance: torch.Tensor
    """N, float64: its distance; infinite where there is none."""
    index: torch.Tensor
    """N, int64: which of the references it is; the first of equals, −1 where there is none."""


def nearest_neighbours(
    x: torch.Tensor,
    references: torch.Tensor,
    x_groups: Sequence[str] | None = None,
    reference_groups: Sequence[str] | None = None,
) -> Neighbours:
    """
    For every image the nearest of some references, by the root mean square of the differences of their features.

    Args:
        x, references: features, N×F and M×F, floating.
        x_groups, reference_groups: a group of every image and reference, such as its patient: a reference of the
            image's own group is no neighbour. None: all are.

    Raises:
        ValueError: features or groups that do not fit, or groups of one side alone.

    Example:
        >>> nearest_neighbours(torch.tensor([[0.0]]), torch.tensor([[3.0], [-1.0]])).distance.item()
        1.0
    """
    if x.ndim != 2 or references.ndim != 2 or x.shape[1] != references.shape[1]:
        raise ValueError(f"expected features N×F and M×F, got {tuple(x.shape)} and {tuple(references.shape)}")
    if (x_groups is None) != (reference_groups is None):
        raise ValueError("expected groups of the images and of the references, or of neither, got those of one side")
    # differences, not their expansion into products: a copy is at 0 and not at the root of a rounding error
    distances = torch.cdist(x.double(), references.double(), compute_mode="donot_use_mm_for_euclid_dist")
    distances /= x.shape[1] ** 0.5
    if x_groups is not None:
        reference_groups = reference_groups or ()
        if len(x_groups) != len(x) or len(reference_groups) != len(references):
            raise ValueError(
                f"expected a group of each of {len(x)} images and {len(references)} references, got {len(x_groups)} "
                f"and {len(reference_groups)}"
            )
        number = {group: place for place, group in enumerate(dict.fromkeys([*x_groups, *reference_groups]))}
        ours, theirs = (torch.tensor([number[group] for group in groups]) for groups in (x_groups, reference_groups))
        distances[ours[:, None] == theirs[None]] = torch.inf
    if not len(references):
        return Neighbours(torch.full((len(x),), torch.inf, dtype=torch.float64), torch.full((len(x),), -1))
    distance, index = distances.min(dim=1)
    return Neighbours(distance, torch.where(distance.isinf(), -1, index))
