"""The frozen ResNet-50 of ImageNet and RadImageNet, for features of images."""

from __future__ import annotations

from os import PathLike

import torch
from monai.networks.nets import resnet50
from torch import nn

from bundle.networks.weights import read_weights

__all__ = ["ResNetFeatures"]

_EXPECTED = (
    "expected ResNet-50 weights: torchvision's, such as resnet50-0676ba61.pth, or RadImageNet's ResNet50.pt for PyTorch"
)
# RadImageNet's file numbers the children of torchvision's network; those between have no weights
_CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


class ResNetFeatures(nn.Module):
    """
    Pooled features of ResNet-50 (He et al. 2016, https://arxiv.org/abs/1512.03385), MONAI's network in torchvision's
    form, frozen. Weights are random until :meth:`load` is called.

    ``forward``: images B×C×H×W in [-1, 1] → B×2048×1×1, before the classifier. Images are normalised as the weights
    were trained: with ImageNet's means and deviations for torchvision's, as they are for RadImageNet's (its example
    code has (pixel − 127.5)·2/255). 3 channels are taken as colour; 1 is repeated three times; any other number C is
    taken as C grey images, whose features are B·C.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = resnet50(
            pretrained=False,
            spatial_dims=2,
            n_input_channels=3,
            conv1_t_stride=2,
            bias_downsample=False,
            feed_forward=False,
        )
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()

    def load(self, path: str | PathLike[str]) -> ResNetFeatures:
        """
        Read torchvision's weights (names such as ``layer1.0.conv1.weight``; e.g. from
        https://download.pytorch.org/models/resnet50-0676ba61.pth) or RadImageNet's (Mei et al. 2022,
        https://doi.org/10.1148/ryai.210315; names such as ``backbone.4.0.conv1.weight``; to be asked for at
        https://github.com/BMEII-AI/RadImageNet). A classifier is ignored. Only tensors are read.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a file of another kind, or weights of another network.
        """
        state = read_weights(path, _EXPECTED)
        radiology = any(name.startswith("backbone.") for name in state)
        if radiology:
            state = {_torchvisions(name): tensor for name, tensor in state.items()}
        own = self.network.state_dict()
        for name, tensor in own.items():
            found = state.get(name)
            if not isinstance(found, torch.Tensor) or found.shape != tensor.shape:
                shape = tuple(found.shape) if isinstance(found, torch.Tensor) else "missing"
                raise ValueError(f"{path}: '{name}' is {shape}, not {tuple(tensor.shape)}; {_EXPECTED}")
        # ResNet-101 and -152 hold everything that ResNet-50 has
        if unknown := [name for name in state if name not in own and not name.startswith("fc.")]:
            raise ValueError(f"{path}: has '{unknown[0]}', which ResNet-50 has not; {_EXPECTED}")
        self.network.load_state_dict({name: state[name] for name in own})
        if radiology:
            self.mean.fill_(0.5)
            self.std.fill_(0.5)
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.ndim != 4:
            raise ValueError(f"expected images B×C×H×W, got shape {tuple(images.shape)}")
        if images.shape[1] != 3:
            images = images.flatten(0, 1).unsqueeze(1).expand(-1, 3, -1, -1)
        return self.network(((images + 1) / 2 - self.mean) / self.std)[:, :, None, None]

    def train(self, mode: bool = True) -> ResNetFeatures:
        """Stay in evaluation mode: the network is a ruler."""
        return super().train(False)


def _torchvisions(name: str) -> str:
    """``backbone.4.0.conv1.weight`` → ``layer1.0.conv1.weight``."""
    number, _, rest = name.removeprefix("backbone.").partition(".")
    return f"{_CHILDREN.get(number, number)}.{rest}"
