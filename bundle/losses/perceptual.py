"""The perceptual term: distance in the feature space of a frozen network."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from os import PathLike

import torch
import torch.nn.functional as F
from torch import nn

from bundle.networks.vgg import VGGFeatures

__all__ = ["PerceptualLoss"]

logger = logging.getLogger(__name__)

_DISTANCES: dict[str, Callable[..., torch.Tensor]] = {"l1": F.l1_loss, "l2": F.mse_loss}
_warned = False


class PerceptualLoss(nn.Module):
    """Mean distance between features of synthetic and real images, averaged over layers.

    Johnson et al. 2016, https://arxiv.org/abs/1603.08155, section 3.2, in the AsynDGAN authors' form: VGG-16 after
    relu1_2, relu2_2, relu3_3 and relu4_3, each layer's mean over all its elements, averaged over the four. Their
    2020 code squares the difference (``distance="l2"``) and keeps the absolute one, our default, as a comment.

    Weights are not shipped: give the path of a file from torchvision, for example
    https://download.pytorch.org/models/vgg16-397923af.pth. Without one the term is off: every call returns 0 and
    one warning is logged in the whole process. Features of random weights would be no harmless substitute.

    Args:
        weights_path: torchvision's weights for ``network``; None switches the term off.
        network: the feature network, VGG-16 by default; anything with ``load(path)`` that maps images to a list of
            features.
        distance: "l1" or "l2".
        layer_weights: one factor for each layer; None weighs all by 1 / number of layers.

    ``forward(images, real)``: both B×C×H×W in [-1, 1], floating → scalar, float32. Gradients flow to
    ``images`` only.

    Raises:
        FileNotFoundError, ValueError: see :meth:`VGGFeatures.load`; another distance; a wrong number of weights;
            images of different shape.
    """

    def __init__(
        self,
        weights_path: str | PathLike[str] | None = None,
        network: nn.Module | None = None,
        distance: str = "l1",
        layer_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if distance not in _DISTANCES:
            raise ValueError(f"distance: expected one of {', '.join(_DISTANCES)}, got {distance!r}")
        self.distance = distance
        self.layer_weights = None if layer_weights is None else [float(weight) for weight in layer_weights]
        self.network: nn.Module | None = None
        # An empty string is how a path is switched off from a command line.
        if weights_path is None or str(weights_path) == "":
            _warn_once()
            return
        self.network = VGGFeatures() if network is None else network
        self.network.load(weights_path)
        self.network.requires_grad_(False).eval()

    @property
    def active(self) -> bool:
        """Whether there are weights."""
        return self.network is not None

    def forward(self, images: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        if images.shape != real.shape:
            raise ValueError(f"expected images of one shape, got {tuple(images.shape)} and {tuple(real.shape)}")
        if self.network is None:
            return torch.zeros((), device=images.device)
        with torch.no_grad():
            wanted = self.network(real)
        found = self.network(images)
        weights = self.layer_weights or [1 / len(found)] * len(found)
        if len(weights) != len(found):
            raise ValueError(f"layer_weights: expected {len(found)}, one for each layer, got {len(weights)}")
        distance = _DISTANCES[self.distance]
        terms = [
            weight * distance(ours.float(), theirs.float())
            for weight, ours, theirs in zip(weights, found, wanted, strict=True)
        ]
        return torch.stack(terms).sum()


def _warn_once() -> None:
    global _warned
    if not _warned:
        _warned = True
        logger.warning(
            "THE PERCEPTUAL LOSS IS OFF: no weights_path for its feature network. To switch it on, download "
            "https://download.pytorch.org/models/vgg16-397923af.pth and give its path."
        )
