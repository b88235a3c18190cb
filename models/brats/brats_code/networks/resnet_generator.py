"""The generator: condition in, image out."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Conv, split_args
from monai.networks.layers.utils import get_norm_layer
from torch import nn
from torch.nn.modules.conv import _ConvNd

from brats_code.networks.init import init_weights
from brats_code.networks.weight_norms import demodulate

__all__ = ["ResnetGenerator"]

Norm = str | tuple | list | None
"""MONAI's name of a normalisation, alone or with arguments; None for none."""


def _norm_layer(norm: Norm, spatial_dims: int, channels: int) -> nn.Module:
    return nn.Identity() if norm is None else get_norm_layer(norm, spatial_dims, channels)


class _ReflectionPad(nn.Module):
    """
    Reflection padding in the precision of its input. On the CPU autocast would have it in float32: the same values,
    and time for casting them to and fro. On CUDA its backward adds in no fixed order, and no two trainings would have
    the same bits: there it is put together from mirrored parts.
    """

    def __init__(self, width: int, spatial_dims: int) -> None:
        super().__init__()
        self.width = width
        self.widths = [width] * (2 * spatial_dims)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.is_cuda:
            return self.put_together(x)
        if not torch.jit.is_scripting():
            with torch.autocast(x.device.type, enabled=False):
                return nn.functional.pad(x, self.widths, mode="reflect")
        return nn.functional.pad(x, self.widths, mode="reflect")

    def put_together(self, x: torch.Tensor) -> torch.Tensor:
        for dim in range(2, x.dim()):
            before = x.narrow(dim, 1, self.width).flip([dim])
            after = x.narrow(dim, x.size(dim) - 1 - self.width, self.width).flip([dim])
            x = torch.cat([before, x, after], dim=dim)
        return x


class _ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), each convolution 3 wide, reflection-padded and normalised."""

    def __init__(self, channels: int, norm: Norm, dropout: float, bias: bool, spatial_dims: int) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        layers: list[nn.Module] = [
            _ReflectionPad(1, spatial_dims),
            conv(channels, channels, kernel_size=3, bias=bias),
            _norm_layer(norm, spatial_dims, channels),
            nn.ReLU(inplace=True),
        ]
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
        layers += [
            _ReflectionPad(1, spatial_dims),
            conv(channels, channels, kernel_size=3, bias=bias),
            _norm_layer(norm, spatial_dims, channels),
        ]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)


class ResnetGenerator(nn.Module):
    """ResNet generator of Johnson et al. 2016 (https://arxiv.org/abs/1603.08155), in the form that CycleGAN and
    pix2pix gave it (Zhu et al. 2017, https://arxiv.org/abs/1703.10593, appendix 7.2) and AsynDGAN uses.

    A 7-wide convolution, ``num_downsampling`` 3-wide ones of stride 2 that double the channels, ``num_blocks``
    residual blocks, transposed convolutions that undo the downsampling, a 7-wide convolution and tanh; reflection
    padding at both ends and in the blocks. With 3→3 channels and the defaults it has 11,378,179 parameters.

    With ``noise_channels`` it is G(x, z): z is drawn anew at every call, standard normal, a value per channel and
    pixel, from torch's random stream, and goes in beside the condition.

    With ``coordinates`` it sees where it is, too: a channel per spatial axis that runs from -1 to 1 (CoordConv, Liu et
    al. 2018, https://arxiv.org/abs/1807.03247). Convolutions alone cannot tell the middle of a large region of one
    class from another place in it, and instance normalisation takes its level away.

    Weights are drawn by :func:`init_weights` from torch's global random stream.

    Args:
        in_channels: channels of the condition.
        out_channels: channels of the image.
        channels: filters of the first convolution (published: 64).
        num_blocks: residual blocks (published: 9; 6 for images of 128² in the CycleGAN paper).
        norm: MONAI's name of a normalisation: "INSTANCE" (no affine parameters, the follow-up paper's and the
            default: batch statistics would mix sites), ("INSTANCE", {"affine": True}), "BATCH" (the 2020 code),
            ("GROUP", {"num_groups": 8}), ... or None for none. Convolutions have biases unless the norm is "BATCH", as
            in the published code.
        dropout: probability inside the blocks (the 2020 code: 0.5).
        num_downsampling: how often the resolution is halved.
        upsampling: how it is doubled again: "transposed" for transposed convolutions, as published, or "resize" for
            nearest-neighbour interpolation and a convolution, which leaves no checkerboard (Odena et al. 2016,
            https://doi.org/10.23915/distill.00003). The weights are of the same number.
        noise_channels: channels of z; published: 0.
        coordinates: whether the position is an input, for images that all lie alike; published: false.
        demodulation: whether the weights of all convolutions but the last are demodulated
            (:func:`brats_code.networks.demodulate`), in the place of a norm; published: false.
        spatial_dims: 2 or 3.

    Shapes: B×in_channels×H×W[×D] float → B×out_channels×H×W[×D] in (-1, 1), of the input's dtype or autocast's.
    H, W, D must be multiples of 2**num_downsampling, and at least twice that for reflection padding to have
    something to reflect.

    Raises:
        ValueError: arguments out of range at construction; an input of another size in ``forward``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        channels: int = 64,
        num_blocks: int = 9,
        norm: Norm = "INSTANCE",
        dropout: float = 0.0,
        num_downsampling: int = 2,
        upsampling: str = "transposed",
        noise_channels: int = 0,
        coordinates: bool = False,
        spatial_dims: int = 2,
        demodulation: bool = False,
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims: expected 2 or 3, got {spatial_dims}")
        if min(in_channels, out_channels, channels) < 1 or min(num_blocks, num_downsampling, noise_channels) < 0:
            raise ValueError(
                "expected in_channels, out_channels, channels >= 1 and num_blocks, num_downsampling, noise_channels "
                f">= 0, got {in_channels}, {out_channels}, {channels}, {num_blocks}, {num_downsampling}, "
                f"{noise_channels}"
            )
        if upsampling not in ("transposed", "resize"):
            raise ValueError(f"upsampling: expected 'transposed' or 'resize', got {upsampling!r}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout: expected a probability below 1, got {dropout}")
        self.in_channels = in_channels
        self.noise_channels = noise_channels
        self.coordinates = coordinates
        self.divisor = 2**num_downsampling
        # 2 pixels must be left where the blocks pad by 1, and 4 where the ends pad by 3.
        self.smallest = max(2 * self.divisor, 4)
        bias = norm is None or str(split_args(norm)[0]).lower() != "batch"
        conv, transposed = Conv[Conv.CONV, spatial_dims], Conv[Conv.CONVTRANS, spatial_dims]
        layers: list[nn.Module] = [
            _ReflectionPad(3, spatial_dims),
            conv(in_channels + noise_channels + spatial_dims * coordinates, channels, kernel_size=7, bias=bias),
            _norm_layer(norm, spatial_dims, channels),
            nn.ReLU(inplace=True),
        ]
        width = channels
        for _ in range(num_downsampling):
            layers += [
                conv(width, 2 * width, kernel_size=3, stride=2, padding=1, bias=bias),
                _norm_layer(norm, spatial_dims, 2 * width),
                nn.ReLU(inplace=True),
            ]
            width *= 2
        layers += [_ResidualBlock(width, norm, dropout, bias, spatial_dims) for _ in range(num_blocks)]
        for _ in range(num_downsampling):
            if upsampling == "transposed":
                # output_padding makes the size exactly double: without it one row and column would be missing.
                layers.append(
                    transposed(width, width // 2, kernel_size=3, stride=2, padding=1, output_padding=1, bias=bias)
                )
            else:
                layers += [
                    nn.Upsample(scale_factor=2, mode="nearest"),
                    _ReflectionPad(1, spatial_dims),
                    conv(width, width // 2, kernel_size=3, bias=bias),
                ]
            layers += [_norm_layer(norm, spatial_dims, width // 2), nn.ReLU(inplace=True)]
            width //= 2
        layers += [_ReflectionPad(3, spatial_dims), conv(width, out_channels, kernel_size=7), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        init_weights(self)
        if demodulation:
            # as in StyleGAN2, not the last: its scale is the image's
            for layer in [layer for layer in self.modules() if isinstance(layer, _ConvNd)][:-1]:
                demodulate(layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for size in x.shape[2:]:
            if size % self.divisor != 0 or size < self.smallest:
                raise ValueError(
                    f"expected spatial sizes that are multiples of {self.divisor} and at least {self.smallest}, "
                    f"got {size}"
                )
        if self.noise_channels > 0:
            noise = torch.randn_like(x[:, :1].repeat_interleave(self.noise_channels, dim=1))
            x = torch.cat([x, noise], dim=1)
        if self.coordinates:
            for axis in range(2, x.dim()):
                shape = [1] * x.dim()
                shape[axis] = x.shape[axis]
                place = torch.linspace(-1, 1, x.shape[axis], dtype=x.dtype, device=x.device).reshape(shape)
                x = torch.cat([x, place + torch.zeros_like(x[:, :1])], dim=1)
        return self.layers(x)
