"""Images painted on label maps at random: what label maps alone are worth, with no generator."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.networks.layers import GaussianFilter
from torch import nn

__all__ = ["LabelPainter"]

_SMALLEST_SIGMA = 0.1


class LabelPainter(nn.Module):
    """
    Paints every class of a condition in a random intensity with random noise, blurs the image and lays a smooth random
    field over it, as SynthSeg does (Billot et al. 2023, *Medical Image Analysis* 86, 102789, section 3.1). It has no
    weights, and has seen no image.

    What it draws comes from torch's random stream: :class:`bundle.engines.SeededInferer` seeds it.

    Args:
        in_channels: channels of the condition, each 0 or 1; a pixel belongs to the last of those that hold it once the
            largest is put first, so that an outline lies below the classes that it contains.
        out_channels: channels of the image; each has intensities of its own.
        background: intensity of pixels in no channel, in [-1, 1]; None for a random one.
        noise: largest standard deviation of the noise within a class, of the range [-1, 1].
        blur: largest standard deviation of the blur, in pixels.
        field: largest standard deviation of the smooth field's logarithm.

    Input B×X×H×W; output B×C×H×W float32 in [-1, 1].
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        background: float | None = -1.0,
        noise: float = 0.3,
        blur: float = 1.0,
        field: float = 0.3,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.background, self.noise, self.blur, self.field = background, noise, blur, field

    def forward(self, condition: torch.Tensor) -> torch.Tensor:
        return torch.stack([self._paint(item) for item in condition])

    def _paint(self, condition: torch.Tensor) -> torch.Tensor:
        classes = self._classes(condition > 0.5)
        image = torch.zeros(self.out_channels, *classes.shape, device=condition.device)
        for value in range(self.in_channels + 1):
            mean, spread = torch.rand(2, self.out_channels, 1, 1, device=condition.device).unbind()
            noise = torch.randn(image.shape, device=condition.device)
            image = torch.where(classes == value, 2 * mean - 1 + self.noise * spread * noise, image)
        sigma = max(self.blur * torch.rand(1).item(), _SMALLEST_SIGMA)
        image = GaussianFilter(2, sigma).to(image.device)(image[None])[0]
        image = (image + 1) * self._smooth_field(image) - 1
        if self.background is not None:
            image = torch.where(classes == 0, self.background, image)
        return image.clamp(-1, 1)

    def _classes(self, is_in: torch.Tensor) -> torch.Tensor:
        """H×W: 0 for the background, k+1 for channel k; smaller channels lie above larger ones."""
        classes = torch.zeros(is_in.shape[1:], dtype=torch.long, device=is_in.device)
        for channel in is_in.flatten(1).sum(dim=1).argsort(descending=True, stable=True).tolist():
            classes[is_in[channel]] = channel + 1
        return classes

    def _smooth_field(self, image: torch.Tensor) -> torch.Tensor:
        coarse = self.field * torch.rand(1).item() * torch.randn(1, 1, 4, 4, device=image.device)
        return F.interpolate(coarse, size=image.shape[1:], mode="bicubic", align_corners=True)[0].exp()
