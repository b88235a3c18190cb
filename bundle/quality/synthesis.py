"""Images of a generator, drawn from conditions that are at hand."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

__all__ = ["synthesize"]


@torch.no_grad()
def synthesize(
    conditions: torch.Tensor, network: nn.Module, inferer: Callable, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """
    Args:
        conditions: B×X×H×W, uint8 or floating.
        network: the generator, on ``device``.
        inferer: how it is called, as when the synthetic data set was written.
        device: where to.

    Returns:
        Images B×C×H×W in [-1, 1], float32, on the CPU.
    """
    return inferer(conditions.to(device, torch.float32), network).float().cpu()
