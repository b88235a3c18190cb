"""Distances between two sets of images, from their features: Fréchet distance (FID) and maximum mean discrepancy."""

from __future__ import annotations

import torch

__all__ = ["frechet_distance", "mean_discrepancy"]


def frechet_distance(x: torch.Tensor, y: torch.Tensor) -> float:
    """
    The Fréchet distance between two Gaussians fitted to features: FID, on whatever features are given.

    ``|μ_x − μ_y|² + tr(Σ_x + Σ_y − 2 (Σ_x Σ_y)^½)`` (Heusel et al. 2017, https://arxiv.org/abs/1706.08500, equation 6),
    with unbiased covariances. It is MONAI's figure (:func:`monai.metrics.fid.get_fid_score`), but for the trace of the
    root: with centred features X, Y as rows, divided by (number − 1)^½, it is the nuclear norm of X Yᵀ. That takes no
    root of a singular matrix, which Σ_x Σ_y is with fewer images than features, and no argument that SciPy 1.18 drops.

    The fewer images, the larger the figure: two sets of the same distribution are not 0 apart, and figures of different
    numbers of images do not compare.

    Args:
        x, y: features of two sets of images, N×F and M×F, floating.

    Raises:
        ValueError: fewer than two images, or features that do not fit.
    """
    x, y = _features(x, y)
    mean_x, mean_y = x.mean(dim=0), y.mean(dim=0)
    # R of X = QR stands for X: no more rows than features, however many images there are
    x, y = (torch.linalg.qr((z - z.mean(dim=0)) / (len(z) - 1) ** 0.5, mode="r").R for z in (x, y))
    root = torch.linalg.svdvals(x @ y.T).sum()
    distance = (mean_x - mean_y).square().sum() + x.square().sum() + y.square().sum() - 2 * root
    return float(distance.clamp(min=0))  # rounding alone is below


def mean_discrepancy(x: torch.Tensor, y: torch.Tensor) -> float:
    """
    The squared maximum mean discrepancy of features, unbiased, with the cubic kernel ``(a·b / F + 1)³``: KID.

    Gretton et al. 2012, JMLR 13, equation 3; the kernel is that of Bińkowski et al. 2018
    (https://arxiv.org/abs/1801.01401, section 4). MONAI's :class:`monai.metrics.MMDMetric` has the linear kernel, which
    sees nothing but the means, and takes sets of one size. Unbiased: two sets of the same distribution are 0 apart in
    the mean, however few they are, so the figure may be below 0.

    Args:
        x, y: features of two sets of images, N×F and M×F, floating, each of about unit size.

    Raises:
        ValueError: fewer than two images, or features that do not fit.
    """
    x, y = _features(x, y)

    def kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def within(a: torch.Tensor) -> torch.Tensor:
        values = kernel(a, a)
        return (values.sum() - values.diagonal().sum()) / (len(a) * (len(a) - 1))

    return float(within(x) + within(y) - 2 * kernel(x, y).mean())


def _features(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(
            f"expected the features of at least two images each, N×F and M×F, got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    return x.double(), y.double()
