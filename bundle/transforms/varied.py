"""Random transforms by a seed, on plain tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import RLock
from typing import Any

import torch
from monai.data import get_track_meta, set_track_meta
from monai.transforms import Compose

__all__ = ["tracking_metadata", "varied"]

# MONAI's switch is one for all threads: sites in one process would take each other's
_SWITCH = RLock()


@contextmanager
def tracking_metadata(tracked: bool) -> Iterator[None]:
    """Whether MONAI's transforms keep metadata (affine, history) beside arrays; in one thread at a time."""
    with _SWITCH:
        before = get_track_meta()
        set_track_meta(tracked)
        try:
            yield
        finally:
            set_track_meta(before)


def varied(transform: Compose, data: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """
    Random transforms of a sample that has been read: what they make of it is a function of it and of ``seed``.

    Without metadata, which nothing asks for once a sample is read, and which takes half of the time that MONAI's
    transforms of a small image take.

    Args:
        transform: random MONAI transforms, or another callable with ``set_random_state(seed=…)``.
        data: plain tensors by key, and whatever else the transforms pass on.
        seed: of all that is random in it.

    Returns:
        The same keys, tensors as plain ones.
    """
    with tracking_metadata(False):
        changed = transform.set_random_state(seed=seed)(dict(data))
    return {
        key: value.as_subclass(torch.Tensor) if isinstance(value, torch.Tensor) else value
        for key, value in changed.items()
    }
