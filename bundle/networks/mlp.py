"""Networks of the toy: multilayer perceptrons over the channels of every pixel."""

from __future__ import annotations

import torch
from monai.networks.nets import FullyConnectedNet
from torch import nn

__all__ = ["MLPDiscriminator", "MLPGenerator"]


def _layers(inputs: int, outputs: int, channels: int, num_layers: int) -> FullyConnectedNet:
    """``num_layers`` hidden layers with leaky ReLU, and one without; torch's own initial weights."""
    if min(inputs, outputs, channels, num_layers) < 1:
        raise ValueError(
            f"expected channels and layers of at least 1, got {inputs}, {outputs} and {num_layers} × {channels}"
        )
    activation = ("leakyrelu", {"negative_slope": 0.2})
    return FullyConnectedNet(inputs, outputs, [channels] * num_layers, act=activation, adn_ordering="A")


def _pixels(network: nn.Module, image: torch.Tensor) -> torch.Tensor:
    """A network of vectors on every pixel of B×C×H×W."""
    pixels = image.movedim(1, -1)
    return network(pixels.flatten(0, -2)).unflatten(0, pixels.shape[:-1]).movedim(-1, 1)


def _check_scale(scale: float) -> float:
    if not scale > 0:
        raise ValueError(f"scale: expected a number above 0, got {scale}")
    return float(scale)


class MLPGenerator(nn.Module):
    """G(x, z) of the toy mixture (Chang et al. 2020, section 4.1): every pixel by itself, so 1×1 images are numbers.

    z is drawn anew at every call, standard normal, a value per channel and pixel, from torch's random stream: without
    it the generator could not spread within a component.

    Args:
        in_channels: channels of the condition.
        out_channels: channels of the image.
        noise_channels: channels of z; 0 for none.
        channels: width of the hidden layers.
        num_layers: hidden layers.
        scale: what an image value of 1 stands for in the data's own units, in which the layers compute: the image is
            tanh(output / scale), almost linear where the data are far from ±scale.

    Shapes: B×in_channels×H×W float → B×out_channels×H×W in [-1, 1].

    Raises:
        ValueError: arguments out of range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        noise_channels: int = 4,
        channels: int = 64,
        num_layers: int = 2,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        if noise_channels < 0:
            raise ValueError(f"noise_channels: expected 0 or more, got {noise_channels}")
        self.noise_channels = noise_channels
        self.scale = _check_scale(scale)
        self.layers = _layers(in_channels + noise_channels, out_channels, channels, num_layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.noise_channels > 0:
            noise = torch.randn(len(x), self.noise_channels, *x.shape[2:], dtype=x.dtype, device=x.device)
            x = torch.cat([x, noise], dim=1)
        return torch.tanh(_pixels(self.layers, x) / self.scale)


class MLPDiscriminator(nn.Module):
    """D_j(x, y) of the toy mixture: logits for every pixel by itself.

    Args:
        in_channels: channels of condition and image together.
        image_channels: how many of them, the last ones, are the image's.
        channels: width of the hidden layers.
        num_layers: hidden layers.
        scale: what an image value of 1 stands for in the data's own units: the image is multiplied by it, so that its
            spread is of the order of the condition's 0 and 1.

    Shapes: B×in_channels×H×W float → B×1×H×W.

    Raises:
        ValueError: arguments out of range.
    """

    def __init__(
        self, in_channels: int, image_channels: int = 1, channels: int = 64, num_layers: int = 2, scale: float = 1.0
    ) -> None:
        super().__init__()
        if not 1 <= image_channels <= in_channels:
            raise ValueError(f"image_channels: expected 1 to {in_channels}, got {image_channels}")
        self.image_channels = image_channels
        self.scale = _check_scale(scale)
        self.layers = _layers(in_channels, 1, channels, num_layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        condition, image = x.tensor_split([x.shape[1] - self.image_channels], dim=1)
        return _pixels(self.layers, torch.cat([condition, image * self.scale], dim=1))
