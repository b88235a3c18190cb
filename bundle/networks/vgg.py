"""The frozen feature network of the perceptual term."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

import torch
from torch import nn

from bundle.networks.weights import read_weights

__all__ = ["VGGFeatures"]

# Convolutions in the five stages; every stage ends in a pooling (Simonyan & Zisserman 2015, table 1, D and E).
_STAGES = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_WIDTHS = (64, 128, 256, 512, 512)
_FILES = {16: "vgg16-397923af.pth", 19: "vgg19-dcbb9e9d.pth"}


class VGGFeatures(nn.Module):
    """Features of VGG-16 or VGG-19 (Simonyan & Zisserman 2015, https://arxiv.org/abs/1409.1556), frozen.

    The names in ``state_dict`` are torchvision's (``features.0.weight`` ...), so that its files load; what is behind
    the last requested layer is not built. Weights are random until :meth:`load` is called.

    Args:
        depth: 16 or 19.
        layers: names of the activations to return, ``relu<stage>_<number>``, shallow first. The default is what the
            AsynDGAN authors' code takes from VGG-16.

    ``forward``: images B×C×H×W in [-1, 1] → a list of features, one tensor for each layer. They are shifted to
    [0, 1] and normalised by ImageNet's means and deviations. 3 channels are taken as colour; 1 is repeated three
    times; any other number C is taken as C grey images, one after the other, since modalities are no colours: the
    features then have B·C images.

    Raises:
        ValueError: another depth, an unknown layer, or images that are not B×C×H×W.
    """

    def __init__(self, depth: int = 16, layers: Sequence[str] = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")) -> None:
        super().__init__()
        if depth not in _STAGES:
            raise ValueError(f"depth: expected 16 or 19, got {depth}")
        names: dict[str, int] = {}
        built: list[nn.Module] = []
        channels = 3
        for stage, (count, width) in enumerate(zip(_STAGES[depth], _WIDTHS, strict=True), start=1):
            for number in range(1, count + 1):
                # Not in place: the activations are kept.
                built += [nn.Conv2d(channels, width, kernel_size=3, padding=1), nn.ReLU()]
                names[f"relu{stage}_{number}"] = len(built) - 1
                channels = width
            built.append(nn.MaxPool2d(2))
        unknown = [name for name in layers if name not in names]
        if unknown or not layers:
            raise ValueError(f"layers: expected some of {list(names)}, got {list(layers)}")
        self.depth = depth
        self.wanted = sorted(names[name] for name in layers)
        self.features = nn.Sequential(*built[: self.wanted[-1] + 1])
        # Not persistent: torchvision's files do not have them.
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()

    def load(self, path: str | PathLike[str]) -> VGGFeatures:
        """Read torchvision's weights, e.g. the file https://download.pytorch.org/models/vgg16-397923af.pth.

        The classifier and the layers that are not built are ignored. Only tensors are read, never pickled objects.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a file of another kind, or weights of another network.
        """
        expected = f"expected torchvision's VGG-{self.depth} weights, such as {_FILES[self.depth]}"
        state = read_weights(path, expected)
        own = self.state_dict()
        for name, tensor in own.items():
            found = state.get(name)
            if not isinstance(found, torch.Tensor) or found.shape != tensor.shape:
                shape = tuple(found.shape) if isinstance(found, torch.Tensor) else "missing"
                raise ValueError(f"{path}: '{name}' is {shape}, not {tuple(tensor.shape)}; {expected}")
        # VGG-19 holds everything that VGG-16 has up to its third stage, so names and shapes alone may fit both.
        convolutions = sum(name.startswith("features.") and name.endswith(".weight") for name in state)
        if convolutions not in (sum(_STAGES[self.depth]), len(own) // 2):
            raise ValueError(f"{path}: has {convolutions} convolutions, not {sum(_STAGES[self.depth])}; {expected}")
        self.load_state_dict({name: state[name] for name in own})
        return self

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        if images.ndim != 4:
            raise ValueError(f"expected images B×C×H×W, got shape {tuple(images.shape)}")
        if images.shape[1] != 3:
            images = images.flatten(0, 1).unsqueeze(1).expand(-1, 3, -1, -1)
        x = ((images + 1) / 2 - self.mean) / self.std
        found: list[torch.Tensor] = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.wanted:
                found.append(x)
        return found

    def train(self, mode: bool = True) -> VGGFeatures:
        """Stay in evaluation mode: the network is a ruler, whatever holds it is training."""
        return super().train(False)
