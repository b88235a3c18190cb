"""Does the generator copy? Distances from synthetic images to training images, and between real patients."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from bundle.evaluation.crops import Crops
from bundle.files import atomic_path, write_json
from bundle.metrics import Neighbours, nearest_neighbours

__all__ = ["KINDS", "SIDES", "Search", "read_examples", "write_examples"]

KINDS = ("any patient", "other patients")
"""Which training images are a synthetic image's neighbours: all, or those of other patients than its label map's."""
SIDES = ("synthetic", "nearest", "other")
"""The images of an example: a synthetic one, the training image nearest to it, and the one of another patient that is
nearest to the latter."""
NEAR = 0.05
"""Quantile of the distances between real patients below which a synthetic image counts as near."""


class Search:
    """
    The nearest training images of every synthetic and of every real image.

    Args:
        synthetic, real: crops with features; the real ones are all that a generator was trained with.
    """

    def __init__(self, synthetic: Crops, real: Crops) -> None:
        self.synthetic, self.real = synthetic, real
        self.found: dict[str, Neighbours] = {
            "any patient": nearest_neighbours(synthetic.features, real.features),
            "other patients": nearest_neighbours(synthetic.features, real.features, synthetic.patient, real.patient),
            "real": nearest_neighbours(real.features, real.features, real.patient, real.patient),
        }

    def scores(self, sites: Collection[str]) -> dict[str, float]:
        """
        Of the images of some sites, with the training images of all sites for neighbours:

        ``neighbour_ratio/other patients``
            the median distance of synthetic images to the nearest training image of another patient, by that of real
            images to the nearest one of another patient: 1 where they are as far as patients are from each other;
        ``neighbour_ratio/any patient``
            the same without leaving out the patient of the synthetic image's own label map: less than the former by
            what the synthetic image has of that patient;
        ``neighbour_share``
            the share of synthetic images that are nearer to another patient's image than :data:`NEAR` of the real ones
            are: that quantile itself, where they are as far as patients are from each other;
        ``own_pair_share``
            the share of synthetic images whose nearest training image is the one that their label map is of.

        NaN with a single patient.
        """
        ours = torch.tensor([site in sites for site in self.synthetic.site], dtype=torch.bool)
        theirs = torch.tensor([site in sites for site in self.real.site], dtype=torch.bool)
        between = self.found["real"].distance[theirs]
        between, other = _finite(between), _finite(self.found["other patients"].distance[ours])
        own = torch.tensor([self._is_own_pair(place) for place in range(len(self.synthetic))])
        return {
            "neighbour_ratio/other patients": float(other.median() / between.median()),
            "neighbour_ratio/any patient": float(self.found["any patient"].distance[ours].median() / between.median()),
            "neighbour_share": float((other < between.quantile(NEAR)).double().mean()),
            "own_pair_share": float(own[ours].double().mean()),
        }

    def _is_own_pair(self, place: int) -> bool:
        mine = self.synthetic.source[place]
        nearest = self.real.source[int(self.found["any patient"].index[place])]
        return mine["pair"] == (nearest["key"], nearest["index"]) and mine["place"] == nearest["place"]

    def examples(self, kind: str, number: int) -> list[dict]:
        """
        The synthetic images that are most suspicious of being copies, at most one for each patient.

        Those are not the ones at the least distance: empty slices are near to each other, and two of different patients
        as much as any. It is those that are nearest to a training image in comparison to how near another patient's
        image is to that one (what Alaa et al. 2022, https://arxiv.org/abs/2102.08921, call authenticity).

        Args:
            kind: one of :data:`KINDS`.
            number: how many.

        Returns:
            Mappings, the most suspicious first: ``kind``; ``distance`` from the synthetic image to the training image;
            ``between``, that from the training image to the nearest one of another patient, None where there is none;
            and the sources of the three crops by :data:`SIDES`, ``other`` None where there is none.
        """
        distance, index = self.found[kind]
        between, other = (values[index] for values in self.found["real"])
        suspicion = torch.where(between.isfinite(), distance / between, distance)
        suspicion[index < 0] = torch.inf
        examples: list[dict] = []
        taken: set[str] = set()
        for place in torch.argsort(suspicion, stable=True).tolist():
            patient = self.synthetic.patient[place]
            if len(examples) == number or index[place] < 0:
                break
            if patient not in taken:
                taken.add(patient)
                has_other = bool(other[place] >= 0)
                examples.append(
                    {
                        "kind": kind,
                        "distance": float(distance[place]),
                        "between": float(between[place]) if has_other else None,
                        "synthetic": self.synthetic.source[place],
                        "nearest": self.real.source[int(index[place])],
                        "other": self.real.source[int(other[place])] if has_other else None,
                    }
                )
        return examples


def _finite(values: torch.Tensor) -> torch.Tensor:
    known = values[values.isfinite()]
    return known if len(known) else torch.tensor([torch.nan], dtype=values.dtype)


def write_examples(folder: Path, examples: Sequence[Mapping], crop: Callable[[Mapping], torch.Tensor]) -> None:
    """
    Keep examples for a panel: ``neighbours.npz`` with their images, then ``neighbours.json`` with what they are.

    Args:
        folder: where to.
        examples: of :meth:`Search.examples`.
        crop: the image C×H×W of a source.
    """
    images, kept = {}, []
    for number, example in enumerate(examples):
        about = {key: value for key, value in example.items() if key not in SIDES}
        for side in SIDES:
            source = example[side]
            about[side] = source and {key: source[key] for key in ("case", "slice", "place") if key in source}
            if source:
                images[f"{number}_{side}"] = crop(source).numpy().astype(np.float32)
        kept.append(about)
    with atomic_path(folder / "neighbours.npz") as temporary:
        np.savez_compressed(temporary, **images)
    write_json(folder / "neighbours.json", kept)


def read_examples(folder: str | Path) -> list[dict]:
    """What :func:`write_examples` kept, every side with its image, float32 C×H×W in [-1, 1], as ``image``."""
    examples = json.loads((Path(folder) / "neighbours.json").read_text(encoding="utf-8"))
    with np.load(Path(folder) / "neighbours.npz", allow_pickle=False) as images:
        for number, example in enumerate(examples):
            for side in SIDES:
                if example[side]:
                    example[side]["image"] = images[f"{number}_{side}"]
    return examples
