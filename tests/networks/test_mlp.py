import pytest
import torch

from bundle.networks import MLPDiscriminator, MLPGenerator


def test_shapes_and_range():
    generator = MLPGenerator(3, 2, noise_channels=4, scale=0.01)
    images = generator(torch.rand(5, 3, 2, 6))
    assert images.shape == (5, 2, 2, 6)
    assert images.abs().max() <= 1
    assert images.abs().max() > 0.9, "with such a scale, outputs reach the ends"
    assert MLPDiscriminator(5, image_channels=2)(torch.rand(5, 5, 2, 6)).shape == (5, 1, 2, 6)


def test_pixels_do_not_see_each_other():
    discriminator = MLPDiscriminator(4)
    inputs = torch.rand(2, 4, 3, 3)
    changed = inputs.clone()
    changed[0, :, 1, 2] += 1
    same = discriminator(inputs) == discriminator(changed)
    assert same.sum() == 2 * 9 - 1
    assert not same[0, 0, 1, 2]


def test_noise_spreads_what_one_condition_gives_and_comes_from_the_seed():
    condition = torch.zeros(200, 3, 1, 1)
    condition[:, 1] = 1
    with_noise, without = MLPGenerator(3, 1, noise_channels=2), MLPGenerator(3, 1, noise_channels=0)
    assert with_noise(condition).std() > 0
    assert without(condition).unique().numel() == 1
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(with_noise(condition))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_the_scale_is_a_change_of_units():
    """A discriminator of numbers in other units, and a generator of small numbers, are the same networks."""
    torch.manual_seed(0)
    discriminator, plain = MLPDiscriminator(4, scale=15.0), MLPDiscriminator(4)
    plain.load_state_dict(discriminator.state_dict())
    inputs = torch.rand(6, 4, 1, 1)
    in_units = torch.cat([inputs[:, :3], 15 * inputs[:, 3:]], dim=1)
    torch.testing.assert_close(discriminator(inputs), plain(in_units))
    generator = MLPGenerator(3, 1, noise_channels=0, scale=15.0)
    layers = generator.layers(inputs[:, :3, 0, 0])
    torch.testing.assert_close(15 * torch.atanh(generator(inputs[:, :3]).flatten(1)), layers, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLPGenerator(3, 1, noise_channels=-1), "noise_channels"),
        (lambda: MLPGenerator(3, 1, num_layers=0), "at least 1"),
        (lambda: MLPGenerator(3, 1, scale=0), "scale"),
        (lambda: MLPDiscriminator(3, image_channels=4), "image_channels: expected 1 to 3"),
        (lambda: MLPDiscriminator(3, scale=-1), "scale"),
    ],
)
def test_arguments_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()
