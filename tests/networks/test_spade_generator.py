"""The generator of SPADE blocks."""

import pytest
import torch

from bundle.networks import SpadeGenerator


@pytest.mark.parametrize("size", [(16, 24), (8, 8)])
@pytest.mark.parametrize("noise", [0, 2])
def test_images_are_as_large_as_their_conditions_and_in_range(size, noise):
    network = SpadeGenerator(3, 2, channels=(8, 6, 4), hidden_channels=4, noise_channels=noise).eval()
    assert network.divisor == 2
    image = network(torch.randint(0, 2, (2, 3, *size)).float())
    assert image.shape == (2, 2, *size)
    assert image.abs().max() <= 1
    image.sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())


def test_noise_is_all_that_differs_and_comes_from_torchs_stream():
    conditions = torch.ones(1, 2, 8, 8)
    network = SpadeGenerator(2, 1, channels=(4, 3), hidden_channels=4, noise_channels=1)
    torch.manual_seed(1)
    first, second = network(conditions), network(conditions)
    torch.manual_seed(1)
    assert torch.equal(network(conditions), first)
    assert not torch.equal(first, second)


def test_the_condition_is_seen_at_the_resolution_of_the_image():
    """One pixel of a condition that nearest interpolation to the coarsest resolution leaves out."""
    torch.manual_seed(0)
    network = SpadeGenerator(1, 1, channels=(4, 3, 2), hidden_channels=4).eval()
    conditions = torch.zeros(2, 1, 8, 8)
    conditions[1, 0, 3, 3] = 1
    images = network(conditions)
    assert not torch.equal(images[0], images[1])


def test_it_can_be_scripted():
    network = SpadeGenerator(2, 1, channels=(4, 3, 2), hidden_channels=4).eval()
    conditions = torch.randint(0, 2, (1, 2, 8, 12)).float()
    assert torch.equal(torch.jit.script(network)(conditions), network(conditions))


@pytest.mark.parametrize(
    "wrong", [{"channels": (4,)}, {"channels": (4, 0)}, {"channels": (4, 4)}, {"noise_channels": -1}]
)
def test_arguments_out_of_range(wrong):
    with pytest.raises(ValueError, match="expected two channels or more"):
        SpadeGenerator(2, 1, **wrong)


def test_another_size_is_refused():
    with pytest.raises(ValueError, match="multiples of 2 and at least 4, got 9"):
        SpadeGenerator(2, 1, channels=(4, 3, 2), hidden_channels=4)(torch.zeros(1, 2, 9, 8))
