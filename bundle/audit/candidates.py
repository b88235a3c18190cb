"""The slices of which an attack says whether a generator was trained with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

__all__ = ["Candidates", "gather"]


@dataclass(frozen=True, eq=False)
class Candidates:
    """
    N slices, each with what is known of it.

    Attributes:
        images: N×C×H×W float32 in [-1, 1].
        conditions: N×X×H×W uint8 of 0 and 1.
        holders: site of the training that holds the slice or, of a non-member, would: that of its hospital; the one
            site of Syn-All.
        sites: hospital of the slice.
        patients: SITE/PATIENT; hospitals name patients by themselves, and two may have a "1".
        member: N bool, whether it was trained with.
    """

    images: torch.Tensor
    conditions: torch.Tensor
    holders: tuple[str, ...]
    sites: tuple[str, ...]
    patients: tuple[str, ...]
    member: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def take(self, chosen: Sequence[int]) -> Candidates:
        """Some of them, by number."""
        holders, sites, patients = (tuple(of[i] for i in chosen) for of in (self.holders, self.sites, self.patients))
        images, conditions, member = (of[list(chosen)] for of in (self.images, self.conditions, self.member))
        return Candidates(images, conditions, holders, sites, patients, member)

    def spread(self, per_patient: int | None) -> Candidates:
        """At most so many of every patient, evenly spaced over those there are, in their order; None: all."""
        if per_patient is None:
            return self
        if per_patient < 1:
            raise ValueError(f"slices per patient: expected 1 or more, got {per_patient}")
        of: dict[str, list[int]] = {}
        for number, patient in enumerate(self.patients):
            of.setdefault(patient, []).append(number)
        places = {p: np.linspace(0, len(n) - 1, min(len(n), per_patient)).round().astype(int) for p, n in of.items()}
        return self.take(sorted(of[patient][place] for patient, chosen in places.items() for place in chosen))

    @staticmethod
    def joined(parts: Sequence[Candidates]) -> Candidates:
        """
        Raises:
            ValueError: naming the shapes, when images or conditions differ in theirs.
        """
        for name in ("images", "conditions"):
            shapes = {tuple(getattr(part, name).shape[1:]) for part in parts}
            if len(shapes) > 1:
                raise ValueError(f"{name} of candidates: expected one shape, got {sorted(shapes)}")
        return Candidates(
            torch.cat([part.images for part in parts]),
            torch.cat([part.conditions for part in parts]),
            tuple(text for part in parts for text in part.holders),
            tuple(text for part in parts for text in part.sites),
            tuple(text for part in parts for text in part.patients),
            np.concatenate([part.member for part in parts]),
        )


def gather(
    samples: Mapping[str, Any],
    items: Mapping[str, Sequence[Mapping]],
    member: bool,
    per_patient: int | None = None,
    condition: str = "condition",
) -> Candidates:
    """
    The samples of data sets, as they are without augmentation.

    Args:
        samples: by site of the training, a :class:`bundle.data.SampleDataset` with ``image`` and ``condition``.
        items: the items of the data list that it is made of, by the same names; their ``site`` and ``patient`` count.
        member: whether the generator was trained with them.
        per_patient: see :meth:`Candidates.spread`.
        condition: which array of a sample goes with its image: the condition, or the label of a segmenter.

    Raises:
        ValueError: for samples of different shapes.
    """
    parts = []
    for holder in sorted(samples):
        about = {item["case"]: item for item in items[holder]}
        found = [samples[holder][index] for index in range(len(samples[holder]))]
        for name in ("image", condition):
            shapes = {tuple(sample[name].shape) for sample in found}
            if len(shapes) > 1:
                raise ValueError(f"site {holder}: {name}: expected one shape, got {sorted(shapes)}")
        origins = [about[sample["case"]] for sample in found]
        part = Candidates(
            torch.stack([sample["image"] for sample in found]),
            torch.stack([sample[condition] for sample in found]),
            (holder,) * len(found),
            tuple(item["site"] for item in origins),
            tuple(f"{item['site']}/{item.get('patient', item['case'])}" for item in origins),
            np.full(len(found), member),
        )
        parts.append(part.spread(per_patient))
    return Candidates.joined(parts)
