"""Normalisations of weights in the place of feature maps: no statistic that a speck in an image could shift."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import register_parametrization

__all__ = ["demodulate", "spectrally_normalized"]


class _Demodulation(nn.Module):
    """The weights of every output channel, divided by their root of the sum of squares and multiplied by ``gain``."""

    def __init__(self, dims: list[int], gain: float) -> None:
        super().__init__()
        self.dims = dims
        self.gain = gain

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * (self.gain * torch.rsqrt(weight.square().sum(dim=self.dims, keepdim=True) + 1e-8))


def demodulate(conv: nn.Module, gain: float = 2**0.5) -> nn.Module:
    """
    Weight demodulation without styles (Karras et al. 2020, StyleGAN2, https://arxiv.org/abs/1912.04958, section 2.2):
    inputs of unit variance give outputs of variance gain², whatever the scale of the weights. Instance norm divides by
    what is in the image; this divides by what is expected, so that no speck pays for a scale.

    Args:
        conv: a convolution, transposed or not; changed in place.
        gain: √2 before a ReLU, which halves the second moment.

    Returns:
        The same convolution.

    Raises:
        TypeError: for a layer that is no convolution.
    """
    if not isinstance(conv, _ConvNd):
        raise TypeError(f"expected a convolution, got a {type(conv).__name__}")
    # a transposed one has the output's channels second
    output = 1 if isinstance(conv, _ConvTransposeNd) else 0
    dims = [dim for dim in range(conv.weight.ndim) if dim != output]
    register_parametrization(conv, "weight", _Demodulation(dims, gain))
    return conv


def spectrally_normalized(network: Callable[[], nn.Module], active: bool = True) -> Callable[[], nn.Module]:
    """
    Spectral normalisation (Miyato et al. 2018, https://arxiv.org/abs/1802.05957) of every convolution and linear layer.

    Args:
        network: makes a network; in a config a component with ``_mode_: callable``.
        active: false for ``network`` as it is.

    Returns:
        Makes the same network, normalised by :func:`torch.nn.utils.parametrizations.spectral_norm`: the largest
        singular value of every weight is 1, as far as a power iteration at every call in training knows it. Its state
        is in buffers.
    """
    return partial(_normalized, network=network) if active else network


def _normalized(network: Callable[[], nn.Module]) -> nn.Module:
    made = network()
    for layer in list(made.modules()):
        if isinstance(layer, (_ConvNd, nn.Linear)):
            spectral_norm(layer)
    return made
