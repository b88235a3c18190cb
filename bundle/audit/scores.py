"""How near a guess is to a real image, and how near one comes without any attack."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import NamedTuple

import torch
from skimage.metrics import peak_signal_noise_ratio

from bundle.metrics import structural_similarity

__all__ = ["MOST", "Matched", "Slice", "dice_matrix", "other_patients", "psnr", "score"]

MOST = 100.0
"""PSNR in dB that equal images are given, in place of infinity, which JSON and means don't know."""


class Slice(NamedTuple):
    """A real sample."""

    case: str
    condition: torch.Tensor
    """X×H×W uint8, 0 or 1."""
    image: torch.Tensor
    """C×H×W float32 in [-1, 1]."""


class Matched(NamedTuple):
    """The other patient's slice whose condition fits best to that of a target, and what all of them come to."""

    slice: Slice
    dice: float
    """Of the two conditions, see :func:`dice_matrix`."""
    mean: float
    """Mean PSNR in dB over all slices of other patients, to the target."""
    best: float
    """The best of them: chosen by looking at the target."""


def psnr(guess: torch.Tensor, image: torch.Tensor) -> list[float]:
    """
    Peak signal-to-noise ratio of every image, 10 · log10(2² / mean squared error), by scikit-image.

    Args:
        guess, image: B×C×H×W in [-1, 1], floating.

    Returns:
        B numbers in dB, at most :data:`MOST`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of equal images, which a readout is after
        pairs = zip(image.double().numpy(), guess.double().numpy(), strict=True)
        return [min(MOST, float(peak_signal_noise_ratio(real, mine, data_range=2))) for real, mine in pairs]


def score(guess: torch.Tensor, image: torch.Tensor) -> dict:
    """
    PSNR (:func:`psnr`) and SSIM (:func:`bundle.metrics.structural_similarity`: MONAI's) of images, their means and
    each: ``{"psnr", "ssim", "psnr_each", "ssim_each"}``. Images have at least 11 pixels a side.
    """
    ratios, similarities = psnr(guess, image), structural_similarity(guess, image).tolist()
    means = {"psnr": sum(ratios) / len(ratios), "ssim": sum(similarities) / len(similarities)}
    return means | {"psnr_each": ratios, "ssim_each": similarities}


def dice_matrix(known: torch.Tensor, released: torch.Tensor) -> torch.Tensor:
    """
    Dice of all pairs, the mean over channels; 1 for a channel that is empty in both.

    Args:
        known, released: K×X×H×W and N×X×H×W, 0 and 1 of any dtype.

    Returns:
        K×N float32 in [0, 1].

    Raises:
        ValueError: for other shapes.

    >>> dice_matrix(torch.tensor([[[[1, 1]]]]), torch.tensor([[[[1, 0]]], [[[1, 1]]]])).tolist()
    [[0.6666666865348816, 1.0]]
    """
    if known.ndim != 4 or known.shape[1:] != released.shape[1:]:
        raise ValueError(f"expected K×X×H×W and N×X×H×W, got {tuple(known.shape)} and {tuple(released.shape)}")
    total = torch.zeros(len(known), len(released))
    for channel in range(known.shape[1]):
        ours, theirs = (masks[:, channel].flatten(1).float() for masks in (known, released))
        sizes = ours.sum(dim=1)[:, None] + theirs.sum(dim=1)[None]
        total += torch.where(sizes > 0, 2 * (ours @ theirs.T) / sizes.clamp(min=1), 1.0)
    return total / known.shape[1]


def other_patients(targets: list[Slice], slices: Iterable[Slice]) -> list[Matched]:
    """
    What nobody needs an attack for: real slices of other patients.

    Args:
        targets: real slices that an attack is after.
        slices: real slices of the same kind; for each target those of its own case are left out.

    Returns:
        One for each target. The slice is chosen by the conditions alone; the first of equals.

    Raises:
        ValueError: when there is no slice of another case than a target's.
    """
    ratios: list[list[float]] = [[] for _ in targets]
    found: list[tuple[float, Slice] | None] = [None] * len(targets)
    for candidate in slices:
        for place, target in enumerate(targets):
            if candidate.case == target.case:
                continue
            ratios[place] += psnr(candidate.image[None], target.image[None])
            dice = dice_matrix(candidate.condition[None], target.condition[None]).item()
            if found[place] is None or dice > found[place][0]:
                found[place] = dice, candidate
    if None in found:
        raise ValueError(f"there is no slice of another case than {targets[found.index(None)].case}")
    return [
        Matched(slice_, dice, sum(values) / len(values), max(values))
        for (dice, slice_), values in zip(found, ratios, strict=True)
    ]
