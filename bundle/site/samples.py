"""What a site needs of its data, and how a policy has them deformed, or others drawn, before anything leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch

from bundle.seeding import Draw, derive_seed
from bundle.shapes import ShapeModel, TooFewPatients, by_patient, draw_in_place
from bundle.transforms import varied
from bundle.transforms.condition import is_told_apart

__all__ = ["DeformedSamples", "DrawnSamples", "Samples", "outgoing"]


def outgoing(sample: Mapping) -> torch.Tensor:
    """The condition that leaves for a sample, or for a batch of them: its own, or the one drawn in its place."""
    return sample["drawn"] if "drawn" in sample else sample["condition"]


class Samples(Protocol):
    """Samples with ``condition`` X×H×W uint8 and ``image`` C×H×W float32, by index or drawn."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: int | Draw) -> dict: ...

    def batch(self, seed: int, name: str, first: int, count: int) -> dict[str, torch.Tensor]:
        """``count`` draws (:func:`bundle.seeding.draw`) from position ``first`` on, stacked."""

    def origin(self, index: int) -> tuple[str | int, ...]:
        """Patient, case and slice that a sample is of: the same whatever a training asks for."""


class PlainSamples(Samples, Protocol):
    """Samples that something may be done to before anything random happens to them."""

    def changed(self, change: Callable[[int, dict], dict]) -> Samples:
        """The same samples, each changed by a function of its index and of it."""


class DeformedSamples:
    """
    The same samples, every one of them deformed in one way, whatever the training, its seed and its steps are: with
    several, they could be averaged away. Condition and image are deformed together.

    Args:
        samples: the samples as they are.
        deform: random MONAI transforms of ``condition`` and ``image``, a callable with ``set_random_state(seed=…)``.
        secret: says the site's secret, from which, with the sample's origin, its deformation is drawn; it is asked
            when a sample is.
    """

    def __init__(self, samples: PlainSamples, deform: Any, secret: Callable[[], int]) -> None:
        self._deform = deform
        self._secret = secret
        self._origin = samples.origin
        self._samples = samples.changed(self._deformed)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, key: int | Draw) -> dict:
        return self._samples[key]

    def batch(self, seed: int, name: str, first: int, count: int) -> dict[str, torch.Tensor]:
        return self._samples.batch(seed, name, first, count)

    def origin(self, index: int) -> tuple[str | int, ...]:
        return self._origin(index)

    def _deformed(self, index: int, sample: dict) -> dict:
        pair = {key: sample[key] for key in ("condition", "image")}
        seed = derive_seed(self._secret(), "deformation", *self._origin(index))
        deformed = varied(self._deform, pair, seed)
        return sample | {key: value.to(pair[key].dtype) for key, value in deformed.items()}


class DrawnSamples:
    """
    The same samples, each with another condition beside its own, ``drawn``, which leaves in its place: drawn from the
    statistics of shapes over all patients of the site. It is one for each sample, whatever the training's seed and
    steps are, so what leaves tells no more of the statistics however often it is asked for. Trainings on other samples,
    of another image size or other slices, have other statistics, and other draws.

    Args:
        samples: the samples as they are.
        model: of shapes.
        least: patients of which there have to be statistics.
        secret: says the site's secret, from which, with the sample's origin, its condition is drawn; it is asked when a
            sample is.

    Raises:
        ValueError: there are fewer patients, or labels that do not tell classes apart; said before anything is drawn.
    """

    def __init__(self, samples: PlainSamples, model: ShapeModel, least: int, secret: Callable[[], int]) -> None:
        every = range(len(samples))
        if not all(is_told_apart(samples[i]["condition"], getattr(model, "num_classes", 1)) for i in every):
            raise ValueError("its labels do not tell classes apart (label_groups), and its release policy draws others")
        conditions = by_patient((samples[i]["condition"] for i in every), (samples.origin(i)[0] for i in every))
        try:
            self._statistics = model.fit(conditions, least)
        except TooFewPatients as error:
            raise TooFewPatients(f"its release policy draws conditions (min_patients: {least}): {error}") from error
        self._model = model
        self._secret = secret
        self._samples = samples
        self._drawn: dict[int, torch.Tensor] = {}
        self._others = samples.changed(self._replaced)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, key: int | Draw) -> dict:
        return self._samples[key] | {"drawn": self._others[key]["condition"]}

    def batch(self, seed: int, name: str, first: int, count: int) -> dict[str, torch.Tensor]:
        places = seed, name, first, count
        return self._samples.batch(*places) | {"drawn": self._others.batch(*places)["condition"]}

    def origin(self, index: int) -> tuple[str | int, ...]:
        return self._samples.origin(index)

    def _replaced(self, index: int, sample: dict) -> dict:
        if index not in self._drawn:
            seed = derive_seed(self._secret(), "drawn", *self.origin(index))
            self._drawn[index] = draw_in_place(self._model, self._statistics, seed, sample["condition"])
        return sample | {"condition": self._drawn[index].clone()}
