"""One vector of features for an image, from a layer of a frozen network."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["PooledFeatures"]


class PooledFeatures(nn.Module):
    """
    The spatial mean of the activations of a layer: what FID and its kin are measured on.

    Args:
        network: a network with weights; it is frozen and put into evaluation mode.
        layer: name of the layer as in ``named_modules``; None for the output of the network (of a list, the last).

    ``forward``: images B×C×H×W → B×F, float32. A network that takes the C channels of an image for C images
    (:class:`bundle.networks.VGGFeatures`) has C times its features.

    Raises:
        ValueError: a layer that the network does not have.
    """

    def __init__(self, network: nn.Module, layer: str | None = None) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval()
        self._found: Any = None
        if layer is not None:
            modules = dict(network.named_modules())
            if layer not in modules:
                raise ValueError(f"layer: {type(network).__name__} has no layer {layer!r}")
            modules[layer].register_forward_hook(self._keep)
        self.layer = layer

    def _keep(self, module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        self._found = output

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        output = self.network(images)
        features = output if self.layer is None else self._found
        self._found = None
        features = features[-1] if isinstance(features, list | tuple) else features
        return features.flatten(2).mean(dim=2).reshape(len(images), -1).float()

    def train(self, mode: bool = True) -> PooledFeatures:
        """Stay in evaluation mode: the network is a ruler."""
        return super().train(False)
