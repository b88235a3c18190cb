"""Normalised weights, and the words by which a config exchanges one part of a training for another."""

from copy import deepcopy

import pytest
import torch
from monai.networks.nets import PatchDiscriminator
from torch import nn

from bundle.networks import ResnetGenerator, demodulate, spectrally_normalized
from bundle.workflows import DistributedGANWorkflow


@pytest.mark.parametrize("conv", [nn.Conv2d(8, 16, 3, bias=False), nn.ConvTranspose2d(8, 16, 3, bias=False)])
def test_demodulated_weights_keep_the_variance(conv):
    torch.manual_seed(0)
    x = torch.randn(4, 8, 32, 32)
    demodulate(conv, gain=1.0)
    before = conv(x).detach()
    # at the border of a transposed one not all of its weights meet
    assert before[..., 2:-2, 2:-2].std() == pytest.approx(1, abs=0.05)
    with torch.no_grad():
        conv.parametrizations.weight.original.mul_(100)
    assert torch.allclose(conv(x), before, atol=1e-4)


def test_only_convolutions_are_demodulated():
    with pytest.raises(TypeError, match="expected a convolution, got a Linear"):
        demodulate(nn.Linear(2, 2))


def test_a_demodulated_generator_learns_copies_and_loads():
    torch.manual_seed(0)
    network = ResnetGenerator(2, 1, 8, 2, norm=None, demodulation=True, upsampling="resize")
    x = torch.randn(2, 2, 16, 16)
    image = network(x)
    assert 0.01 < image.std() < 1
    image.mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert not any(isinstance(layer, nn.InstanceNorm2d) for layer in network.modules())
    assert torch.equal(deepcopy(network)(x), image)
    other = ResnetGenerator(2, 1, 8, 2, norm=None, demodulation=True, upsampling="resize")
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(x), image)


def test_spectral_normalisation_bounds_every_layer():
    torch.manual_seed(0)
    network = spectrally_normalized(lambda: PatchDiscriminator(2, 8, 2, num_layers_d=2, norm=None, bias=True))()
    for _ in range(30):
        network(torch.randn(2, 2, 32, 32))
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            assert torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("changed", "key", "expected"),
    [
        ({"discriminator_norm": None, "discriminator_spectral": True}, "discriminator_def", "ParametrizedConv2d"),
        ({"discriminator_norm": ["GROUP", {"num_groups": 8}]}, "discriminator_def", "GroupNorm(8"),
        ({"discriminator_norm": ["GROUP", {"num_groups": 1}]}, "discriminator_def", "GroupNorm(1"),
        ({"discriminator_norm": None, "discriminator": "segmentation"}, "discriminator_def", "UNet"),
        ({"generator_norm": ["GROUP", {"num_groups": 8}]}, "generator_def", "GroupNorm(8"),
        ({"generator_norm": None, "generator_demodulation": True}, "generator_def", "_Demodulation"),
        ({"generator_norm": None}, "generator_def", "Identity"),
    ],
)
def test_a_part_is_exchanged_by_a_word(changed, key, expected):
    files = [f"configs/{name}.yaml" for name in ("train", "brats", "compact")]
    workflow = DistributedGANWorkflow(files, dataset_dir="none", run_dir="none", logging_file=False, **changed)
    network = workflow.parser.get_parsed_content(key)()
    assert expected in str(network)
    assert "InstanceNorm" not in str(network)
    channels = workflow.parser.get_parsed_content("condition_channels")
    output = network(torch.rand(2, channels + (key == "discriminator_def"), 64, 64).round())
    assert torch.isfinite(output[-1]).all()


def test_without_a_word_nothing_changes():
    files = [f"configs/{name}.yaml" for name in ("train", "brats", "compact")]
    workflow = DistributedGANWorkflow(files, dataset_dir="none", run_dir="none", logging_file=False)
    discriminator = workflow.parser.get_parsed_content("discriminator_def")()
    names = set(discriminator.state_dict())
    assert names == {"initial_conv.conv.weight", "initial_conv.conv.bias", "0.conv.weight"} | {
        "final_conv.conv.weight",
        "final_conv.conv.bias",
    }
