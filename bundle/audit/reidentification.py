"""Finding a mask that is known from elsewhere among released conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt, gaussian_filter, shift
from scipy.stats import binomtest, bootstrap

from bundle.audit.roc import CONFIDENCE
from bundle.audit.scores import dice_matrix

__all__ = ["Search", "identification_rates", "nearest_release", "other_reading"]


@dataclass(frozen=True)
class Search:
    """
    Similarity transforms that an attacker tries, who knows that conditions were moved before they were released.

    Known and released masks are centred on the centroid of their last channel, which undoes every shift, and the known
    one is turned, scaled and mirrored in every combination.

    Attributes:
        angles: degrees.
        scales: factors, above 0.
        mirrored: whether both handednesses are tried.
    """

    angles: tuple[float, ...] = (-12.0, -8.0, -4.0, 0.0, 4.0, 8.0, 12.0)
    scales: tuple[float, ...] = (0.9, 0.95, 1.0, 1.05, 1.1)
    mirrored: bool = True

    def __len__(self) -> int:
        return len(self.angles) * len(self.scales) * (1 + self.mirrored)


def other_reading(condition: torch.Tensor, seed: int, boundary: float = 1.0, smoothness: float = 6.0) -> torch.Tensor:
    """
    A condition as another reader, or another system, would have drawn it from the same scan.

    Every channel's boundary moves by a smooth random field of standard deviation ``boundary``, correlated over
    ``smoothness`` (the sigma of a Gaussian), and all of it by 1 to 2 in a random direction; all in pixels.

    Args:
        condition: X×H×W, 0 and 1. A channel of one value stays as it is.
        seed: of the draws.

    Returns:
        X×H×W uint8 of 0 and 1.
    """
    masks = np.asarray(condition) > 0
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.standard_normal(masks.shape[1:]), smoothness, mode="reflect")
    field *= boundary / field.std()
    length, angle = rng.uniform(1, 2), rng.uniform(0, 2 * np.pi)
    by = length * np.cos(angle), length * np.sin(angle)
    read = []
    for mask in masks:
        if mask.all() or not mask.any():
            read.append(mask)
            continue
        # distances are to the nearest pixel's centre, the boundary lies half a pixel before it
        inside = np.where(mask, distance_transform_edt(mask) - 0.5, 0.5 - distance_transform_edt(~mask))
        read.append(shift(inside + field, by, order=1, mode="nearest") > 0)
    return torch.from_numpy(np.stack(read).astype(np.uint8))


def nearest_release(
    known: torch.Tensor, released: torch.Tensor, search: Search | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """
    For every known mask the released condition of the highest Dice.

    Args:
        known, released: as for :func:`dice_matrix`.
        search: what else than the masks as they are is tried; the highest counts. None: nothing.

    Returns:
        K float64, that Dice, and K int64, which condition: the first of equals.
    """
    best = dice_matrix(known, released)
    if search is not None:
        centred = _similar(released)
        for mirrored in (False, True)[: 1 + search.mirrored]:
            for angle in search.angles:
                for scale in search.scales:
                    best = torch.maximum(best, dice_matrix(_similar(known, angle, scale, mirrored), centred))
    value, index = best.max(dim=1)
    return value.double().numpy(), index.numpy()


def identification_rates(
    named: Sequence[str], patients: Sequence[str], chance: Sequence[float] | np.ndarray, seed: int = 0
) -> dict[str, Any]:
    """
    How often the nearest released condition is the patient's own.

    Args:
        named: for every known mask the patient that the nearest condition belongs to.
        patients: the patient that the mask belongs to.
        chance: for every known mask the share of the patient's own among the conditions.
        seed: of the bootstrap.

    Returns:
        For JSON, under ``masks`` the rate over known masks, with a bootstrap interval over patients (None for fewer
        than two); under ``patients`` the rate of patients whom more of their masks' nearest conditions name than name
        any other, with Wilson's interval. Each with the chance level, of patients the mean of theirs, and numbers.

    Raises:
        ValueError: without known masks.
    """
    if not len(patients):
        raise ValueError("expected known masks of one or more patients, got none")
    names, true = np.asarray(named), np.asarray(patients)
    hits = np.asarray(names == true)
    people = np.unique(true)
    counts = np.array([np.sum(true == patient) for patient in people])
    sums = np.array([np.sum(hits[true == patient]) for patient in people])
    found = [_is_named_most(names[true == patient], patient) for patient in people]
    wilson = binomtest(int(sum(found)), len(found)).proportion_ci(CONFIDENCE, method="wilson")
    expected = [float(np.mean(np.asarray(chance)[true == patient])) for patient in people]
    return {
        "masks": {
            "rate": float(hits.mean()),
            "interval": _over_patients(sums, counts, seed),
            "chance": float(np.mean(chance)),
            "number": len(hits),
        },
        "patients": {
            "rate": float(np.mean(found)),
            "interval": [float(wilson.low), float(wilson.high)],
            "chance": float(np.mean(expected)),
            "number": len(people),
        },
    }


def _is_named_most(named: np.ndarray, patient: str) -> bool:
    names, votes = np.unique(named, return_counts=True)
    own = votes[names == patient].sum()
    return bool(own > votes[names != patient].max(initial=0))


def _over_patients(sums: np.ndarray, counts: np.ndarray, seed: int) -> list[float] | None:
    if len(sums) < 2:
        return None
    ends = bootstrap(
        (sums, counts),
        lambda of, by, axis=-1: of.sum(axis) / by.sum(axis),
        paired=True,
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return [float(ends.low), float(ends.high)]


def _similar(masks: torch.Tensor, angle: float = 0.0, scale: float = 1.0, mirrored: bool = False) -> torch.Tensor:
    """Masks B×X×H×W centred, then mirrored along H, turned by degrees and scaled: float32 of 0 and 1."""
    height, width = masks.shape[-2:]
    centres = torch.stack([_centroid(mask[-1]) for mask in masks])
    turn = np.deg2rad(angle)
    # from where in the input a pixel of the output is taken, in pixels, along W first as grid_sample has it
    back = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) / scale
    if mirrored:
        back = np.diag([1.0, -1.0]) @ back
    back = np.diag([2 / width, 2 / height]) @ back @ np.diag([width / 2, height / 2])
    theta = torch.zeros(len(masks), 2, 3)
    theta[:, :, :2] = torch.from_numpy(back).float()
    theta[:, 0, 2] = centres[:, 1] * 2 / width
    theta[:, 1, 2] = centres[:, 0] * 2 / height
    grid = F.affine_grid(theta, list(masks.shape), align_corners=False)
    return F.grid_sample(masks.float(), grid, mode="nearest", padding_mode="zeros", align_corners=False)


def _centroid(mask: torch.Tensor) -> torch.Tensor:
    """Along H and W, in pixels from the middle of the image; 0 of an empty mask."""
    places = torch.nonzero(mask).float()
    middle = (torch.tensor(mask.shape, dtype=torch.float32) - 1) / 2
    return places.mean(dim=0) - middle if len(places) else torch.zeros(2)
