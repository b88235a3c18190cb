"""Metrics on a part of a case."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

__all__ = ["from_foreground_slices"]


def from_foreground_slices(keys: Sequence[str], min_foreground: int) -> Callable[[list[dict]], tuple[list, ...]]:
    """
    Output transform of a metric's handler that keeps the slices with enough foreground in the reference.

    Chang et al. 2020 train and test on slices with at least 10 tumour pixels; scores on them leave out what a segmenter
    does where there is no tumour.

    Args:
        keys: arrays C×H×W×D of an engine's decollated output; the last is the reference, a binary mask.
        min_foreground: pixels of the reference above 0 that a slice needs.

    Returns:
        A function from the output to one list of C×H×W×D' arrays for each key.
    """

    def transform(output: list[dict]) -> tuple[list, ...]:
        chosen = []
        for item in output:
            reference = torch.as_tensor(item[keys[-1]])
            kept = (reference > 0).sum(dim=(0, 1, 2)) >= min_foreground
            chosen.append([item[key][..., kept] for key in keys])
        return tuple(list(arrays) for arrays in zip(*chosen, strict=True))

    return transform
