"""Images of a generator, drawn from conditions that are at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

__all__ = ["synthesize"]


@torch.no_grad()
def synthesize(
    conditions: torch.Tensor,
    network: nn.Module,
    inferer: Callable,
    seeds: Sequence[int] | None = None,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """
    Args:
        conditions: B×X×H×W, uint8 or floating.
        network: the generator, on ``device``.
        inferer: how it is called, as when the synthetic data set was written: a :class:`bundle.engines.SeededInferer`
            where there are seeds.
        seeds: of the noise, one for each condition; None for torch's random stream.
        device: where to.

    Returns:
        Images B×C×H×W in [-1, 1], float32, on the CPU.
    """
    given = {} if seeds is None else {"seeds": seeds}
    return inferer(conditions.to(device, torch.float32), network, **given).float().cpu()
