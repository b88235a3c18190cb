"""A network of some hundred weights, from conditions to images."""

from __future__ import annotations

from torch import nn

__all__ = ["ConvRegressor"]


class ConvRegressor(nn.Sequential):
    """
    Two convolutions with a leaky ReLU between them, and tanh: what an image looks like around a pixel, from the label
    map around it. For training with noise, which lies on every weight: as few as serve (docs/lab/private_curve.md).

    There is no normalisation: it would take the level of a region away, which is what there is to be learned. Weights
    are drawn as torch does by default, from its global random stream.

    Args:
        in_channels: channels of the condition.
        out_channels: channels of the image.
        channels: between the convolutions.
        kernel_size: of both, odd.

    Shapes: B×in_channels×H×W float → B×out_channels×H×W in (-1, 1). With 2→1 channels and the defaults it has 113
    weights.

    Raises:
        ValueError: for channels below 1 or a kernel size that is not odd.
    """

    def __init__(self, in_channels: int, out_channels: int, channels: int = 4, kernel_size: int = 3) -> None:
        if min(in_channels, out_channels, channels) < 1 or kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                "expected in_channels, out_channels, channels of at least 1 and an odd kernel_size, got "
                f"{in_channels}, {out_channels}, {channels}, {kernel_size}"
            )
        super().__init__(
            nn.Conv2d(in_channels, channels, kernel_size, padding=kernel_size // 2),
            nn.LeakyReLU(0.2),
            nn.Conv2d(channels, out_channels, kernel_size, padding=kernel_size // 2),
            nn.Tanh(),
        )
