"""Augmentation of what a discriminator sees, through which gradients pass."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["DiscriminatorAugmentation"]


class DiscriminatorAugmentation(nn.Module):
    """
    Differentiable augmentation of real and synthetic samples alike (Zhao et al. 2020, https://arxiv.org/abs/2006.10738).

    A discriminator with few real images learns them by heart. It overfits later when all that it sees, real and
    synthetic, when D is updated and when G is, is randomly transformed; the generator does not learn the
    transformations, for they are applied to its images as well. Every sample is transformed by draws of its own, from
    torch's random stream. What moves pixels moves condition and image together.

    Args:
        brightness: an image is shifted by up to this, of the range [-1, 1]; the paper has 0.5.
        contrast: its contrast is multiplied by up to 1 ± this; the paper has 0.5.
        translation: it is shifted by up to this share of its size, reflected at its borders; the paper has 0.125, and
            zeros beyond the borders.
        cutout: side, as a share of the image's, of a square that is set to 0 (image and condition); the paper has 0.5.

    Raises:
        ValueError: for a value out of range: brightness >= 0, the others in [0, 1).

    Shapes: condition B×X×H×W and image B×C×H×W, floating point, to the same. Images may leave [-1, 1].
    """

    def __init__(
        self, brightness: float = 0.0, contrast: float = 0.0, translation: float = 0.0, cutout: float = 0.0
    ) -> None:
        super().__init__()
        shares = {"contrast": contrast, "translation": translation, "cutout": cutout}
        if brightness < 0 or not all(0 <= share < 1 for share in shares.values()):
            raise ValueError(
                f"expected brightness >= 0 and the others in [0, 1), got brightness {brightness}, {shares}"
            )
        self.brightness = brightness
        self.contrast = contrast
        self.translation = translation
        self.cutout = cutout

    def forward(self, condition: torch.Tensor, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.brightness:
            image = image + self._between(image, self.brightness)
        if self.contrast:
            mean = image.mean(dim=(1, 2, 3), keepdim=True)
            image = (image - mean) * (1 + self._between(image, self.contrast)) + mean
        both = torch.cat([condition, image], dim=1)
        if self.translation:
            both = self._translated(both)
        if self.cutout:
            both = both * self._outside(both)
        return both.split([condition.shape[1], image.shape[1]], dim=1)

    @staticmethod
    def _between(like: torch.Tensor, limit: float) -> torch.Tensor:
        """A number of each sample, uniform in ± limit."""
        return (torch.rand(len(like), 1, 1, 1, device=like.device, dtype=like.dtype) * 2 - 1) * limit

    def _translated(self, both: torch.Tensor) -> torch.Tensor:
        height, width = both.shape[-2:]
        most = [int(self.translation * size) for size in (height, width)]
        padded = F.pad(both, (most[1], most[1], most[0], most[0]), mode="reflect")
        starts = [torch.randint(0, 2 * limit + 1, (len(both),)).tolist() for limit in most]
        return torch.stack(
            [sample[:, y : y + height, x : x + width] for sample, y, x in zip(padded, *starts, strict=True)]
        )

    def _outside(self, both: torch.Tensor) -> torch.Tensor:
        """1, and 0 in a square of each sample whose middle lies anywhere in the image."""
        mask = torch.ones_like(both[:, :1])
        height, width = both.shape[-2:]
        half = [self.cutout * size / 2 for size in (height, width)]
        middle = torch.rand(len(both), 2).tolist()
        for sample, (y, x) in zip(mask, middle, strict=True):
            top, left = y * height - half[0], x * width - half[1]
            rows = slice(max(0, round(top)), max(0, round(top + 2 * half[0])))
            sample[:, rows, max(0, round(left)) : max(0, round(left + 2 * half[1]))] = 0
        return mask
