"""A discriminator that judges every pixel by the class that it is said to be of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets import UNet
from torch import nn

from bundle.transforms.condition import candidates, pixel_classes

__all__ = ["SegmentationDiscriminator"]


class SegmentationDiscriminator(nn.Module):
    """
    D as a segmentation network (Schönfeld, Sushko et al. 2021, OASIS, https://arxiv.org/abs/2012.04781).

    A U-Net that sees the image alone says of every pixel how likely it is of each class, or synthetic. D(x, y) is, for
    every pixel, log(p / (1 − p)) of the class that the condition x has there: high where the image looks real *and*
    like what was asked for. The vanilla loss on it is OASIS's cross-entropy for real pixels and for the generator.
    Synthetic pixels have −log(1 − p) in the place of −log p(synthetic): they may go to any class but the one they were
    drawn as.

    A discriminator of patches that sees x beside the image, as published, is free to ignore x; this one cannot.

    Args:
        condition_channels: channels of x. Classes are the first channel that is 1, and the background where none is.
        image_channels: channels of y.
        channels: of the U-Net, from the finest resolution on; each further one halves the resolution.
        norm: normalisation layers, as MONAI's UNet takes them; None for none.
        num_classes: channels of x that are classes, the first ones: a pixel that may be of several of them is judged by
            the probability of any. None where no pixel is of several.

    Shapes: B×(condition_channels + image_channels)×H×W float, x of 0 and 1 before y, to B×1×H×W float32.

    Raises:
        ValueError: for arguments out of range, other numbers of channels, or H or W that cannot be halved as often as
            there are steps between ``channels``.
    """

    def __init__(
        self,
        condition_channels: int,
        image_channels: int,
        channels: Sequence[int] = (32, 64, 128),
        norm: str | tuple | list | None = "INSTANCE",
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        if min(condition_channels, image_channels) < 1 or len(channels) < 2:
            raise ValueError(
                "expected at least one channel of condition and image and two of the network, got "
                f"{condition_channels}, {image_channels} and {list(channels)}"
            )
        self.condition_channels = condition_channels
        self.image_channels = image_channels
        self.num_classes = num_classes
        self.divisor = 2 ** (len(channels) - 1)
        self.network = UNet(
            spatial_dims=2,
            in_channels=image_channels,
            out_channels=condition_channels + 2,  # and background, and synthetic
            channels=list(channels),
            strides=[2] * (len(channels) - 1),
            num_res_units=1,
            norm=norm,
            act=("leakyrelu", {"negative_slope": 0.2}),
        )

    def forward(self, pair: torch.Tensor) -> torch.Tensor:
        expected = self.condition_channels + self.image_channels
        if pair.shape[1] != expected or any(size % self.divisor for size in pair.shape[2:]):
            raise ValueError(
                f"expected {expected} channels and sides divisible by {self.divisor}, got shape {tuple(pair.shape)}"
            )
        condition, image = pair.split([self.condition_channels, self.image_channels], dim=1)
        scores = self.network(image).float()
        several = candidates(condition, self.num_classes)
        if several is not None:
            several = torch.nn.functional.pad(several, (0, 0, 0, 0, 0, 1))  # and not synthetic
            inside = scores.masked_fill(~several, -torch.inf).logsumexp(dim=1, keepdim=True)
            return inside - scores.masked_fill(several, -torch.inf).logsumexp(dim=1, keepdim=True)
        classes = pixel_classes(condition)
        rest = scores.scatter(1, classes, -torch.inf).logsumexp(dim=1, keepdim=True)
        return scores.gather(1, classes) - rest
