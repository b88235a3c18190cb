"""Checks of decoded arrays: what their values may be."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from bundle.transforms.whole_numbers import whole_numbers


def channels_of(array: np.ndarray, names: Sequence[str]) -> Iterable[tuple[str, np.ndarray]]:
    """Name and array of every channel; several are in the last dimension."""
    if len(names) == 1:
        return [(names[0], array)]
    return [(name, array[..., place]) for place, name in enumerate(names)]


def digest_of(array: np.ndarray) -> bytes:
    """The same for the same voxels of the same type."""
    return hashlib.blake2b(array.tobytes(order="A")).digest()


def copies(digests: Mapping[str, bytes]) -> list[str]:
    """A sentence for every channel that is a copy of one before it, from digests by name of the channel."""
    first: dict[bytes, str] = {}
    return [
        f"{name} is a copy of {first[digest]}, expected a modality of its own (some data sets put one where another "
        "was not acquired)"
        for name, digest in digests.items()
        if first.setdefault(digest, name) != name
    ]


def check_finite(array: np.ndarray, path: str, case: str) -> list[str]:
    """One sentence if there are NaNs or infinities."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        said = "values that are not finite, expected finite numbers only (a background of NaN: set it to 0)"
        return [f"case {case}: {path} holds {said}"]
    return []


def check_varied(array: np.ndarray, name: str, path: str, case: str) -> list[str]:
    """A volume of one or two values is a mask, or nothing."""
    low, high = array.min(), array.max()
    if not ((array == low) | (array == high)).all():
        return []
    found = f"no other values than {low:.10g}" + (f" and {high:.10g}" if high > low else "")
    return [f"case {case}: {path} ({name}) holds {found}, expected an image whose intensities vary"]


def check_labels(array: np.ndarray, path: str, case: str, labels: list[int] | None) -> list[str]:
    """`labels` are the values that may occur; None for instances."""
    whole = whole_numbers(array)
    if labels is None:
        if whole is None or whole.min() < 0:
            return [f"case {case}: label {path} holds fractions or negative values, expected whole numbers from 0"]
        return [] if whole.any() else [f"case {case}: label {path} holds no object, expected at least one"]
    values = array if whole is None else whole
    outside = np.ones(values.shape, dtype=bool)
    for value in labels:
        outside &= values != value
    if not outside.any():
        return []
    found = ", ".join(f"{value:.10g}" for value in np.unique(values[outside])[:8])
    allowed = ", ".join(map(str, labels))
    hint = " (fractions come from resampling, or from a slope in the header)" if whole is None else ""
    return [f"case {case}: label {path} holds the values {found}, expected only {allowed}{hint}"]
