"""Initial weights of generators and discriminators."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

__all__ = ["init_weights"]


def init_weights(module: nn.Module, gain: float = 0.02, generator: torch.Generator | None = None) -> nn.Module:
    """Draw weights as DCGAN and pix2pix do: convolutions and linear layers N(0, gain), norms N(1, gain), biases 0.

    Source: Radford et al. 2016, https://arxiv.org/abs/1511.06434, section 4; used by the AsynDGAN authors' code.

    Args:
        module: any network; changed in place. Layers of other kinds keep what they have.
        gain: the standard deviation, not negative.
        generator: the random stream to draw from; None takes torch's global one.

    Returns:
        the same module, so that a config can wrap a network in the call.

    Raises:
        ValueError: a negative gain.
    """
    if gain < 0:
        raise ValueError(f"gain: expected a standard deviation >= 0, got {gain}")
    for layer in module.modules():
        if isinstance(layer, (_ConvNd, nn.Linear)):
            mean = 0.0
        elif isinstance(layer, (_NormBase, nn.GroupNorm, nn.LayerNorm)):
            mean = 1.0
        else:
            continue
        # Norms without affine parameters have neither.
        if layer.weight is not None:
            nn.init.normal_(layer.weight, mean, gain, generator=generator)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return module
