import pytest
import torch

from bundle.losses import AdversarialLoss
from bundle.networks import SegmentationDiscriminator


def make(seed=0, **kwargs):
    torch.manual_seed(seed)
    return SegmentationDiscriminator(2, 1, **{"channels": [8, 16, 16]} | kwargs)


def pairs(classes, size=8):
    """A noisy image, with all pixels of one class: 0 and 1 are channels, 2 is the background."""
    condition = torch.zeros(1, 2, size, size)
    condition[:, classes:] = 1
    return torch.cat([condition, torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(1))], dim=1)


def test_logits_are_the_log_odds_of_the_class_that_was_asked_for():
    network = make()
    with torch.no_grad():
        odds = torch.cat([network(pairs(classes)) for classes in (0, 1, 2)], dim=1)
        scores = network.network(pairs(0)[:, 2:])
    assert odds.shape == (1, 3, 8, 8)
    # four scores, for there is one of synthetic pixels, which nothing real is
    torch.testing.assert_close(odds.sigmoid(), scores.softmax(dim=1)[:, :3])
    torch.testing.assert_close(1 - odds.sigmoid().sum(dim=1), scores.softmax(dim=1)[:, 3])


def test_the_vanilla_loss_is_the_cross_entropy_of_the_class():
    network, loss = make(), AdversarialLoss()
    pair = pairs(0)
    pair[:, 0, :4] = 0  # half of it is of the second channel
    target = torch.tensor([1] * 4 + [0] * 4).view(1, 8, 1).expand(1, 8, 8)
    expected = torch.nn.functional.cross_entropy(network.network(pair[:, 2:]), target)
    torch.testing.assert_close(loss.generator(network(pair)), expected)


def test_it_learns_to_tell_an_image_of_another_class_from_one_of_its_own():
    network, loss = make(), AdversarialLoss()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    condition = torch.zeros(4, 2, 8, 8)
    condition[:, 1] = 1
    condition[:2, 0, :4] = 1
    condition[2:, 0, 2:6] = 1
    image = torch.where(condition[:, :1] > 0, 0.8, -0.8)
    for _ in range(60):
        optimizer.zero_grad()
        loss.discriminator(
            network(torch.cat([condition, image], 1)), network(torch.cat([condition, 0 * image], 1))
        ).backward()
        optimizer.step()
    with torch.no_grad():
        right, wrong = (network(torch.cat([condition, sign * image], 1)).mean().item() for sign in (1, -1))
    assert right > 1
    assert wrong < -1


def test_log_odds_are_summed_in_float32():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert make()(pairs(1)).dtype == torch.float32


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="expected 3 channels and sides divisible by 4, got shape"):
        make()(torch.zeros(1, 3, 8, 6))
    with pytest.raises(ValueError, match="expected 3 channels"):
        make()(torch.zeros(1, 4, 8, 8))
    with pytest.raises(ValueError, match="at least one channel"):
        make(channels=[8])
