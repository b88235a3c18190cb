import pytest
import torch

from bundle.networks import VGGFeatures

# Where torchvision's numbering of `features` has its convolutions; part of the format of its files.
CONVOLUTIONS = {
    16: [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28],
    19: [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34],
}
WIDTHS = {16: [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6, 19: [64] * 2 + [128] * 2 + [256] * 4 + [512] * 8}


def torchvision_like(depth):
    """A state dict with the names and shapes of torchvision's file, without its size: expanded zeros."""
    state, channels = {}, 3
    for index, width in zip(CONVOLUTIONS[depth], WIDTHS[depth], strict=True):
        state[f"features.{index}.weight"] = torch.full((1,), float(index)).expand(width, channels, 3, 3)
        state[f"features.{index}.bias"] = torch.full((width,), -float(index))
        channels = width
    return state | {"classifier.0.weight": torch.zeros(3, 3), "classifier.0.bias": torch.zeros(3)}


@pytest.mark.parametrize("depth", [16, 19])
def test_names_and_shapes_are_torchvisions(depth):
    last = "relu5_3" if depth == 16 else "relu5_4"
    with torch.device("meta"):
        own = VGGFeatures(depth, (last,)).state_dict()
    theirs = torchvision_like(depth)
    assert set(own) == {name for name in theirs if name.startswith("features.")}
    assert all(own[name].shape == theirs[name].shape for name in own)


def test_loads_a_whole_file_and_ignores_what_it_does_not_need(tmp_path):
    torch.save(torchvision_like(16), tmp_path / "vgg16.pth")
    network = VGGFeatures(16, ("relu2_1",)).load(tmp_path / "vgg16.pth")
    assert list(network.state_dict()) == [f"features.{i}.{name}" for i in (0, 2, 5) for name in ("weight", "bias")]
    assert network.features[5].bias[0].item() == -5


def test_files_of_other_networks_are_refused(tmp_path):
    path = tmp_path / "other.pth"
    torch.save(torchvision_like(19), path)
    with pytest.raises(ValueError, match=r"other.pth.*16 convolutions, not 13.*vgg16-397923af.pth"):
        VGGFeatures(16, ("relu2_1",)).load(path)
    torch.save({"conv1.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"other.pth.*'features.0.weight' is missing"):
        VGGFeatures(16, ("relu1_1",)).load(path)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match=r"other.pth: holds a list"):
        VGGFeatures(16, ("relu1_1",)).load(path)
    with pytest.raises(FileNotFoundError, match=r"nothing.pth"):
        VGGFeatures(16, ("relu1_1",)).load(tmp_path / "nothing.pth")


def test_pickled_objects_are_not_run(tmp_path):
    torch.save({"features.0.weight": object()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="cannot be read as weights"):
        VGGFeatures(16, ("relu1_1",)).load(tmp_path / "evil.pth")


def test_features_and_channels():
    network = VGGFeatures(16, ("relu1_2", "relu2_2"))
    image = torch.rand(2, 1, 16, 16) * 2 - 1
    grey = network(image)
    assert [tuple(feature.shape) for feature in grey] == [(2, 64, 16, 16), (2, 128, 8, 8)]
    colour = network(image.expand(-1, 3, -1, -1))
    torch.testing.assert_close(grey, colour)
    # Four modalities are four grey images.
    four = torch.rand(2, 4, 16, 16) * 2 - 1
    torch.testing.assert_close(network(four)[0].view(2, 4, 64, 16, 16)[:, 2], network(four[:, 2:3])[0])


def test_imagenet_normalisation():
    network = VGGFeatures(16, ("relu1_1",))
    with torch.no_grad():
        network.features[0].weight.zero_()
        network.features[0].weight[0, 0, 1, 1] = 1
        network.features[0].bias.zero_()
    # White is 1 in [0, 1]; the red channel of ImageNet has mean 0.485 and deviation 0.229.
    value = network(torch.ones(1, 3, 8, 8))[0][0, 0, 4, 4].item()
    assert value == pytest.approx((1 - 0.485) / 0.229)


def test_it_is_frozen():
    network = VGGFeatures(16, ("relu1_1",)).train()
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_bad_arguments():
    with pytest.raises(ValueError, match="16 or 19"):
        VGGFeatures(11)
    with pytest.raises(ValueError, match="relu1_1"):
        VGGFeatures(16, ("conv1_1",))
    with pytest.raises(ValueError, match="B×C×H×W"):
        VGGFeatures(16, ("relu1_1",))(torch.zeros(3, 8, 8))
