"""The critic alone: no site, no server, no policy."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from small_sites import adam, discriminator

from bundle.losses import AdversarialLoss, DiscriminatorAugmentation, SiteLoss
from bundle.seeding import forked_rng, seeded
from bundle.site import Critic


def critic(l1_weight=10.0, network=discriminator, optimizer=adam, **kwargs):
    loss = SiteLoss(AdversarialLoss("least_squares"), l1_weight, generator_scale=0.1, discriminator_scale=0.05)
    return seeded(lambda: Critic(network, optimizer, loss, **kwargs), 0, "discriminator", "A")


@pytest.fixture
def drawn():
    """Condition, real and synthetic images."""
    generator = torch.Generator().manual_seed(1)
    condition = torch.randint(0, 2, (3, 2, 8, 8), generator=generator).float()
    real, images = (torch.rand(3, 1, 8, 8, generator=generator) * 2 - 1 for _ in range(2))
    return condition, real, images


def state(of):
    """Copies of all that a critic could change: weights, their gradients, the optimiser."""
    gradients = [None if p.grad is None else p.grad.clone() for p in of.discriminator.parameters()]
    return deepcopy(of.state_dict()), gradients


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_the_gradient_is_that_of_the_loss_written_out(drawn):
    condition, real, images = drawn
    found = critic()
    gradient, terms = found.gradient(condition, images, real)
    leaf = images.clone().requires_grad_(True)
    logits = found.discriminator(torch.cat([condition, leaf], 1))
    adversarial, l1 = ((logits - 1) ** 2).mean(), (leaf - real).abs().mean()
    (expected,) = torch.autograd.grad(0.1 * (adversarial + 10 * l1), leaf)
    torch.testing.assert_close(gradient, expected)
    assert terms == pytest.approx({"adversarial": adversarial.item(), "l1": l1.item()})
    assert not images.requires_grad


def test_neither_a_judgement_nor_a_gradient_changes_the_discriminator(drawn):
    condition, real, images = drawn
    found = critic(augmentation=DiscriminatorAugmentation(brightness=0.5))
    found.update((condition, real), (condition, images), 1)
    before = state(found)
    found.judge(condition, images)
    found.gradient(condition, images, real)
    assert same(state(found), before)
    assert all(parameter.requires_grad for parameter in found.discriminator.parameters())


def test_an_update_is_one_step_of_the_discriminator_and_changes_nothing_else(drawn):
    condition, real, images = drawn
    other = 1 - condition
    found = critic(optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.5))
    twin, given = deepcopy(found.discriminator), [tensor.clone() for tensor in (condition, real, other, images)]
    wanting = images.clone().requires_grad_(True)
    loss = found.update((condition, real), (other, wanting), 1)
    on_real, on_synthetic = twin(torch.cat([condition, real], 1)), twin(torch.cat([other, images], 1))
    expected = 0.05 * 0.5 * (F.mse_loss(on_real, torch.ones_like(on_real)) + on_synthetic.square().mean())
    slopes = torch.autograd.grad(expected, list(twin.parameters()))
    assert loss == pytest.approx(expected.item())
    for now, then, slope in zip(found.discriminator.parameters(), twin.parameters(), slopes, strict=True):
        torch.testing.assert_close(now.detach(), then.detach() - 0.5 * slope)
    assert all(map(torch.equal, (condition, real, other, images), given))
    assert wanting.grad is None


def test_the_schedule_says_the_rate_of_a_step(drawn):
    condition, real, images = drawn
    found = critic(schedule=lambda done: 0.5**done)
    for step in (1, 4, 2):
        found.update((condition, real), (condition, images), step)
        assert found.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * 0.5 ** (step - 1))


def test_all_that_the_discriminator_sees_is_augmented_by_the_random_stream(drawn):
    condition, _, images = drawn
    found = critic(augmentation=DiscriminatorAugmentation(translation=0.3))
    with forked_rng(5):
        logits, seen = found.judge(condition, images)
    with forked_rng(5):
        moved = found.augmentation(condition, images)
    assert torch.equal(seen, moved[0])
    assert torch.equal(logits, found.discriminator(torch.cat(moved, 1)))


def test_weights_are_those_of_the_seed_and_come_back_from_a_state(drawn):
    condition, real, images = drawn
    found, again = critic(), critic()
    assert same(found.state_dict(), again.state_dict())
    found.update((condition, real), (condition, images), 1)
    assert not same(found.state_dict(), again.state_dict())
    again.load_state_dict(deepcopy(found.state_dict()))
    for one in (found, again):
        one.update((condition, real), (condition, images), 2)
    assert same(found.state_dict(), again.state_dict())


def test_a_network_whose_weights_are_drawn_already_is_refused():
    with pytest.raises(ValueError, match="definition of the discriminator needs `_mode_: callable`"):
        critic(network=discriminator())
