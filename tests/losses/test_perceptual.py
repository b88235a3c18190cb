import logging

import pytest
import torch

import bundle.losses.perceptual as room
from bundle.losses import PerceptualLoss
from bundle.networks import VGGFeatures

LAYERS = ("relu1_2", "relu2_1")


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "vgg.pth"
    state = VGGFeatures(16, LAYERS).state_dict()
    torch.save(state | {"classifier.0.weight": torch.zeros(2, 2)}, path)
    return path


def images(seed, channels=1):
    return torch.rand(2, channels, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_without_weights_it_is_off_and_says_so_once(monkeypatch, caplog):
    monkeypatch.setattr(room, "_warned", False)
    with caplog.at_level(logging.WARNING):
        losses = [PerceptualLoss(), PerceptualLoss(weights_path=None), PerceptualLoss(weights_path="")]
    assert [loss.active for loss in losses] == [False] * 3
    assert len(caplog.records) == 1
    assert "PERCEPTUAL LOSS IS OFF" in caplog.text
    assert losses[0](images(0), images(1)).item() == 0


def test_missing_and_wrong_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing.pth.*VGG-16"):
        PerceptualLoss(weights_path=tmp_path / "nothing.pth")
    wrong = tmp_path / "wrong.pth"
    wrong.write_bytes(b"not weights")
    with pytest.raises(ValueError, match=r"wrong.pth.*VGG-16"):
        PerceptualLoss(weights_path=wrong)


@pytest.mark.parametrize(("distance", "function"), [("l1", torch.abs), ("l2", torch.square)])
def test_value_is_the_mean_distance_of_features(weights, distance, function):
    network = VGGFeatures(16, LAYERS)
    loss = PerceptualLoss(weights_path=weights, network=network, distance=distance)
    a, b = images(0), images(1)
    expected = sum(function(x - y).mean() for x, y in zip(network(a), network(b), strict=True)) / 2
    torch.testing.assert_close(loss(a, b), expected)
    assert loss(a, a).item() == 0


def test_layer_weights(weights):
    terms = [
        PerceptualLoss(weights, VGGFeatures(16, LAYERS), layer_weights=chosen)(images(0), images(1))
        for chosen in ((1, 0), (0, 1), (2, 3))
    ]
    torch.testing.assert_close(2 * terms[0] + 3 * terms[1], terms[2])
    with pytest.raises(ValueError, match="layer_weights"):
        PerceptualLoss(weights, VGGFeatures(16, LAYERS), layer_weights=[1])(images(0), images(1))


def test_gradient_flows_to_the_synthetic_image_only(weights):
    loss = PerceptualLoss(weights_path=weights, network=VGGFeatures(16, LAYERS)).train()
    synthetic, image = images(0).requires_grad_(), images(1).requires_grad_()
    loss(synthetic, image).backward()
    assert synthetic.grad.abs().sum() > 0
    assert image.grad is None
    assert all(parameter.grad is None for parameter in loss.parameters())


def test_bad_arguments(weights):
    with pytest.raises(ValueError, match="distance"):
        PerceptualLoss(distance="l3")
    with pytest.raises(ValueError, match="one shape"):
        PerceptualLoss()(images(0), images(0)[:1])
