"""What a site needs of its data, and how a policy has them deformed before anything leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

from bundle.seeding import Draw, derive_seed

__all__ = ["DeformedSamples", "Samples"]


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
        deformed = self._deform.set_random_state(seed=seed)(pair)
        plain = {key: torch.as_tensor(value).as_subclass(torch.Tensor) for key, value in deformed.items()}
        return sample | {key: value.to(pair[key].dtype) for key, value in plain.items()}
