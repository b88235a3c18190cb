"""Structural similarity of images in the range that generators draw in."""

from __future__ import annotations

import torch
from monai.metrics import SSIMMetric

__all__ = ["structural_similarity"]


def structural_similarity(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """
    SSIM of pairs of images, MONAI's with the constants of Wang et al. 2004 (https://doi.org/10.1109/TIP.2003.819861): a
    Gaussian window of 11 pixels, the mean over channels and places. Images are shifted to [0, 1] first, as SSIM's term
    of luminance needs values that are not negative.

    Args:
        x, y: images B×C×H×W in [-1, 1], floating, of at least 11 pixels a side.

    Returns:
        B, in [-1, 1]; 1 for equal images.

    Raises:
        ValueError: other shapes.
    """
    if x.shape != y.shape or x.ndim != 4 or min(x.shape[2:]) < 11:
        raise ValueError(
            f"expected pairs of images B×C×H×W of at least 11 pixels a side, got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    return SSIMMetric(spatial_dims=2, data_range=1.0)(y_pred=(x + 1) / 2, y=(y + 1) / 2).flatten()
