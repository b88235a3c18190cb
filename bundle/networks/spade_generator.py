"""A generator that sees the condition at every resolution, of MONAI's SPADE blocks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from monai.networks.nets.spade_network import SPADENetResBlock
from torch import nn

from bundle.networks.init import init_weights

__all__ = ["SpadeGenerator"]


class SpadeGenerator(nn.Module):
    """
    The generator of Park et al. 2019, *Semantic Image Synthesis with Spatially-Adaptive Normalization*
    (https://arxiv.org/abs/1903.07291), without its encoder of style: from the condition at the coarsest resolution on,
    residual blocks whose normalisation is scaled and shifted by the condition, and a doubling after each but the last.

    The blocks are MONAI's. Its ``SPADEDecoder`` is not taken as it is: it has one size of image, goes down to as many
    channels as the image has before its last doubling, and adds to the list of channels that it is given, so that a
    second network of the same declaration is another one.

    With ``noise_channels`` it is G(x, z), as :class:`bundle.networks.ResnetGenerator` is: z goes in beside the
    condition. Weights are drawn by :func:`bundle.networks.init_weights` from torch's global random stream.

    Args:
        in_channels: channels of the condition.
        out_channels: channels of the image.
        channels: of the blocks, from the coarsest resolution to that of the image; each differs from the one before.
        hidden_channels: of the layers that turn the condition into scales and shifts (published: 128).
        norm: MONAI's name of the normalisation that they act on.
        noise_channels: channels of z.

    Shapes: B×in_channels×H×W float → B×out_channels×H×W in [-1, 1], of the input's dtype or autocast's. H and W are
    multiples of 2**(len(channels) - 2), and at least twice that: a norm needs more than a pixel.

    Raises:
        ValueError: arguments out of range at construction; an input of another size in ``forward``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        channels: Sequence[int] = (128, 64, 32, 16),
        hidden_channels: int = 32,
        norm: str | tuple = "INSTANCE",
        noise_channels: int = 0,
    ) -> None:
        super().__init__()
        same = any(before == after for before, after in pairwise(channels))
        smallest = min(in_channels, out_channels, hidden_channels, 1 + noise_channels, *channels)
        if len(channels) < 2 or same or smallest < 1:
            raise ValueError(
                "expected two channels or more, each unlike the one before, and in_channels, out_channels, "
                f"hidden_channels >= 1, noise_channels >= 0, got {list(channels)}, {in_channels}, {out_channels}, "
                f"{hidden_channels}, {noise_channels}"
            )
        self.noise_channels = noise_channels
        self.divisor = 2 ** (len(channels) - 2)
        seen = in_channels + noise_channels
        self.first = nn.Conv2d(seen, channels[0], kernel_size=3, padding=1)
        self.blocks = nn.ModuleList(
            SPADENetResBlock(2, before, after, seen, spade_intermediate_channels=hidden_channels, norm=norm)
            for before, after in pairwise(channels)
        )
        self.last = nn.Conv2d(channels[-1], out_channels, kernel_size=3, padding=1)
        init_weights(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for size in x.shape[2:]:
            if size % self.divisor != 0 or size < 2 * self.divisor:
                raise ValueError(
                    f"expected spatial sizes that are multiples of {self.divisor} and at least {2 * self.divisor}, "
                    f"got {size}"
                )
        if self.noise_channels > 0:
            noise = torch.randn_like(x[:, :1].repeat_interleave(self.noise_channels, dim=1))
            x = torch.cat([x, noise], dim=1)
        size = [length // self.divisor for length in x.shape[2:]]
        image = self.first(F.interpolate(x, size=size, mode="nearest"))
        for number, block in enumerate(self.blocks):
            if number > 0:
                image = F.interpolate(image, scale_factor=2.0, mode="nearest")
            image = block(image, x)
        return torch.tanh(self.last(F.leaky_relu(image, 0.2)))
