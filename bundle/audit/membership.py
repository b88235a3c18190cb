"""
Membership inference: scores that are to be higher for slices that a generator was trained with.

The scores of members and of held-out patients are compared by :mod:`bundle.audit.roc`. The two are different
patients, and that alone tells them apart in part: a score counts by how far it exceeds that of a control, the same
attack with networks, or with references, that saw neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from bundle.audit.candidates import Candidates
from bundle.seeding import derive_seed

__all__ = [
    "box_average",
    "discriminator_scores",
    "left_out_patients",
    "nearest_distances",
    "reconstruction_errors",
    "shifted_errors",
]


def box_average(images: torch.Tensor, side: int = 32) -> torch.Tensor:
    """Images B×C×H×W averaged over boxes to B×C×side×side; the boxes overlap where ``side`` does not divide H or W."""
    return F.adaptive_avg_pool2d(images, side)


def nearest_distances(
    images: torch.Tensor,
    references: torch.Tensor,
    left_out: Sequence[str] | None = None,
    reference_patients: Sequence[str] | None = None,
    block: int = 256,
) -> np.ndarray:
    """
    The distance of every image to the nearest reference. Its negative, with synthetic images as references, is the
    attack on a released synthetic data set that needs no network (Chen et al. 2020, GAN-Leaks, full black box,
    https://arxiv.org/abs/1909.03935); the difference to the distance to real images of others calibrates it.

    Args:
        images, references: N×C×H×W and M×C×H×W.
        left_out: for every image a patient whose references do not count, with ``reference_patients``.
        reference_patients: the patient of every reference.
        block: references that are compared at once.

    Returns:
        N float64: the root mean square of the differences over pixels. By products, in float64: that of a copy is 0 up
        to about 1e-7 of the images' own size.

    Raises:
        ValueError: for images of another shape than the references, or an image for which no reference counts.
    """
    if images.shape[1:] != references.shape[1:]:
        raise ValueError(f"expected images of one shape, got {tuple(images.shape)} and {tuple(references.shape)}")
    ours = images.flatten(1).double()
    best = torch.full((len(ours),), torch.inf, dtype=torch.float64)
    own = None if left_out is None else np.asarray(left_out)
    of = None if left_out is None else np.asarray(reference_patients)
    for first in range(0, len(references), block):
        theirs = references[first : first + block].flatten(1).double()
        distances = torch.cdist(ours, theirs, compute_mode="use_mm_for_euclid_dist")
        if own is not None:
            distances[torch.from_numpy(own[:, None] == of[None, first : first + block])] = torch.inf
        best = torch.minimum(best, distances.min(dim=1).values)
    if not torch.isfinite(best).all():
        raise ValueError("an image has no reference of another patient to be compared with")
    return (best / ours.shape[1] ** 0.5).numpy()


def left_out_patients(candidates: Candidates, seed: int) -> list[str]:
    """
    For every candidate the held-out patient that is no reference for it: a held-out patient is not for himself, and for
    a member one of his site, drawn from (seed, patient), is left out as well. So every candidate has references of
    equally many patients, and how near the nearest of them is does not depend on membership by itself.

    Raises:
        ValueError: without any non-member.
    """
    found = sorted(
        {(s, p) for s, p, m in zip(candidates.sites, candidates.patients, candidates.member, strict=True) if not m}
    )
    if not found:
        raise ValueError("expected candidates that are no members, got none")
    outsiders = {patient for _, patient in found}
    left_out = []
    for site, patient in zip(candidates.sites, candidates.patients, strict=True):
        if patient not in outsiders:
            choice = [other for where, other in found if where == site] or sorted(outsiders)
            patient = choice[derive_seed(seed, "left out", patient) % len(choice)]
        left_out.append(patient)
    return left_out


def reconstruction_errors(
    images: torch.Tensor,
    conditions: torch.Tensor,
    generate: Callable[[torch.Tensor], torch.Tensor],
    batch_size: int = 16,
) -> np.ndarray:
    """
    What the server can compute of a candidate without any site: N float64, the mean of |G(x) − y| over pixels.

    Args:
        images: y, N×C×H×W in [-1, 1].
        conditions: x, N×X×H×W.
        generate: conditions B×X×H×W to images B×C×H×W.
        batch_size: B.
    """
    errors = []
    with torch.no_grad():
        for y, x in zip(images.split(batch_size), conditions.split(batch_size), strict=True):
            errors.append((generate(x).double() - y.double()).abs().mean(dim=(1, 2, 3)))
    return torch.cat(errors).numpy()


def shifted_errors(
    images: torch.Tensor,
    conditions: torch.Tensor,
    generate: Callable[[torch.Tensor], torch.Tensor],
    pixels: int = 4,
    batch_size: int = 16,
) -> np.ndarray:
    """
    As :func:`reconstruction_errors` of x and y moved by ``pixels`` along both axes, there and back, borders repeated,
    the mean of both: how hard a slice is to draw where G cannot have learnt it by heart. Less the error of x and y
    themselves it is the calibrated score. A training with ``crop_margin`` > 0 has shown such shifts to G.
    """
    errors = [
        reconstruction_errors(_moved(images, by), _moved(conditions, by), generate, batch_size)
        for by in (pixels, -pixels)
    ]
    return np.mean(errors, axis=0)


def discriminator_scores(
    candidates: Candidates, discriminators: Mapping[str, torch.nn.Module], batch_size: int = 16
) -> np.ndarray:
    """
    The mean logit of D_j(x, y), j the candidate's holder: what whoever has the site's checkpoint can compute, and an
    upper bound of what the wall lets through. D is put into evaluation mode and nothing is augmented.

    Args:
        candidates: the slices.
        discriminators: D_j by name of the holder, on the CPU; logits, or a list of layers with the logits last.
        batch_size: slices at once.

    Returns:
        N float64.

    Raises:
        ValueError: naming a holder without a discriminator.
    """
    if missing := sorted(set(candidates.holders) - set(discriminators)):
        raise ValueError(f"no discriminator of site {missing[0]}: there are those of {sorted(discriminators)}")
    scores = np.empty(len(candidates))
    for holder in sorted(set(candidates.holders)):
        network = discriminators[holder].eval()
        of = np.flatnonzero(np.asarray(candidates.holders) == holder)
        for chosen in np.split(of, range(batch_size, len(of), batch_size)):
            both = torch.cat([candidates.conditions[chosen].float(), candidates.images[chosen]], dim=1)
            with torch.no_grad():
                layers = network(both)
            logits = layers[-1] if isinstance(layers, list | tuple) else layers
            scores[chosen] = logits.double().flatten(1).mean(dim=1).numpy()
    return scores


def _moved(images: torch.Tensor, by: int) -> torch.Tensor:
    """N×C×H×W moved along both axes by a number of pixels, borders repeated, dtype kept."""
    height, width = images.shape[-2:]
    padded = F.pad(images.float(), (abs(by),) * 4, mode="replicate")
    start = abs(by) - by
    return padded[..., start : start + height, start : start + width].to(images.dtype)
