"""Random weights in the formats in which ResNet-50 is published."""

import pytest
import torch

from bundle.networks import PooledFeatures, ResNetFeatures
from bundle.seeding import forked_rng

# torchvision's own figures: parameters of ResNet-50 without its classifier, and entries of its state dict
PARAMETERS, ENTRIES = 25_557_032 - 2048 * 1000 - 1000, 318


@pytest.fixture(scope="module")
def state():
    with forked_rng(3):
        return ResNetFeatures().network.state_dict()


@pytest.fixture
def images():
    return torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def radimagenets(state):
    numbers = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    split = {name: name.split(".", 1) for name in state}
    return {f"backbone.{numbers[first]}.{rest}": state[name] for name, (first, rest) in split.items()}


def test_the_network_is_torchvisions(state):
    network = ResNetFeatures().network
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS
    assert len(state) == ENTRIES
    assert {"layer1.0.downsample.0.weight", "layer4.2.bn3.running_var"} < state.keys()
    assert "layer1.0.downsample.0.bias" not in state
    # torchvision's strides: 2 at the first convolution, and at the 3×3 of a stage's first block
    assert network.conv1.stride == network.layer2[0].conv2.stride == (2, 2)
    assert network.layer2[0].conv1.stride == (1, 1)


def test_files_of_both_kinds(state, images, tmp_path):
    torch.save(state | {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}, tmp_path / "imagenet.pth")
    torch.save(radimagenets(state), tmp_path / "ResNet50.pt")
    natural, radiology = (ResNetFeatures().load(tmp_path / name) for name in ("imagenet.pth", "ResNet50.pt"))
    for name, tensor in state.items():
        assert torch.equal(natural.network.state_dict()[name], tensor)
        assert torch.equal(radiology.network.state_dict()[name], tensor)
    features = PooledFeatures(radiology)(images)
    assert features.shape == (2, 2048)
    # images go in as they are for RadImageNet, normalised for ImageNet
    torch.testing.assert_close(features, radiology.network(images.expand(-1, 3, -1, -1)))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = natural.network(((images + 1) / 2 - mean) / std)
    torch.testing.assert_close(PooledFeatures(natural)(images), expected)


def test_files_of_other_networks(state, tmp_path):
    path = tmp_path / "other.pth"
    torch.save(state | {"layer3.6.conv1.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"other\.pth: has 'layer3\.6\.conv1\.weight', which ResNet-50 has not"):
        ResNetFeatures().load(path)
    torch.save({"features.0.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"other\.pth: 'conv1\.weight' is missing.*RadImageNet's"):
        ResNetFeatures().load(path)
    with pytest.raises(FileNotFoundError, match=r"nothing\.pth: no such file"):
        ResNetFeatures().load(tmp_path / "nothing.pth")
