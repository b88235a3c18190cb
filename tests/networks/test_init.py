import pytest
import torch
from monai.networks.nets import PatchDiscriminator
from torch import nn

from bundle.networks import ResnetGenerator, init_weights


def drawn(network, kinds):
    return torch.cat([layer.weight.detach().flatten() for layer in network.modules() if isinstance(layer, kinds)])


@pytest.mark.parametrize("kind", [(nn.Conv2d,), (nn.ConvTranspose2d,), (nn.Linear,)])
def test_weights_are_normal(kind):
    torch.manual_seed(0)
    network = nn.Sequential(ResnetGenerator(3, 1, 32, 2), nn.Linear(100, 200))
    weights = drawn(init_weights(network), kind)
    error = 0.02 / len(weights) ** 0.5
    assert abs(weights.mean().item()) < 5 * error
    assert weights.std().item() == pytest.approx(0.02, abs=5 * error)
    # Of a normal distribution 68.3 % lie within one deviation; of a uniform one with the same deviation, 57.7 %.
    assert (weights.abs() < 0.02).float().mean().item() == pytest.approx(0.683, abs=0.02)


def test_generator_starts_that_way():
    torch.manual_seed(0)
    network = ResnetGenerator(3, 1, 32, 2)
    assert drawn(network, (nn.Conv2d, nn.ConvTranspose2d)).std().item() == pytest.approx(0.02, rel=0.02)
    biases = [layer.bias for layer in network.modules() if getattr(layer, "bias", None) is not None]
    assert biases
    assert all(bool((bias == 0).all()) for bias in biases)


def test_norms_and_biases():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 512, 3), nn.BatchNorm2d(512), nn.InstanceNorm2d(512), nn.GroupNorm(4, 512))
    assert init_weights(network, gain=0.1) is network
    for layer in (network[1], network[3]):
        assert layer.weight.mean().item() == pytest.approx(1, abs=0.03)
        assert layer.weight.std().item() == pytest.approx(0.1, rel=0.2)
        assert bool((layer.bias == 0).all())
    assert bool((network[0].bias == 0).all())
    assert network[2].weight is None


def test_a_generator_makes_it_independent_of_the_global_stream():
    network = PatchDiscriminator(spatial_dims=2, channels=4, in_channels=2)
    states = []
    for seed in (1, 1, 2):
        torch.rand(3)
        init_weights(network, generator=torch.Generator().manual_seed(seed))
        states.append(drawn(network, (nn.Conv2d,)).clone())
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_negative_gain():
    with pytest.raises(ValueError, match="gain"):
        init_weights(nn.Linear(1, 1), gain=-1)
