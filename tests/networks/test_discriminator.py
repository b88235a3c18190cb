import pytest
import torch
from monai.networks.nets import PatchDiscriminator

from bundle.networks import patch_discriminator

SIZES = {"spatial_dims": 2, "channels": 4, "in_channels": 3, "num_layers_d": 2}


def drawn(build, **arguments):
    torch.manual_seed(0)
    return build(**SIZES, **arguments)


def test_without_spectral_normalisation_it_is_monais():
    ours, theirs = drawn(patch_discriminator, norm="INSTANCE"), drawn(PatchDiscriminator, norm="INSTANCE")
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(ours(images)[-1], theirs(images)[-1])
    assert ours.state_dict().keys() == theirs.state_dict().keys()


def test_the_largest_singular_value_of_every_convolution_becomes_one():
    network, plain = drawn(patch_discriminator, norm=None, spectral_norm=True), drawn(PatchDiscriminator, norm=None)
    with torch.no_grad():
        for _ in range(200):
            network(torch.rand(1, 3, 32, 32))
    network.eval()
    layers = [name for name, module in plain.named_modules() if isinstance(module, torch.nn.Conv2d)]
    assert len(layers) == 4
    for name in layers:
        weight, before = network.get_submodule(name).weight.flatten(1), plain.get_submodule(name).weight.flatten(1)
        assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1, abs=1e-3)
        torch.testing.assert_close(weight, before / torch.linalg.matrix_norm(before, 2), rtol=1e-3, atol=1e-4)


def test_it_goes_on_from_a_checkpoint():
    network = drawn(patch_discriminator, norm=None, spectral_norm=True)
    images = torch.rand(2, 3, 32, 32)
    for _ in range(3):
        network(images)
    torch.manual_seed(1)
    other = patch_discriminator(**SIZES, norm=None, spectral_norm=True)
    other.load_state_dict(network.state_dict())
    for _ in range(2):
        assert torch.equal(network(images)[-1], other(images)[-1])


def test_no_other_argument():
    with pytest.raises(TypeError, match="spectral"):
        patch_discriminator(**SIZES, spectral=True)
