"""The yardstick computes what the project computes: from the same weights, the same losses and the same updates."""

import pytest
import torch
from monai.networks.nets import PatchDiscriminator
from small_sites import RandomSamples, members

from bundle.losses import AdversarialLoss, SiteLoss
from bundle.networks import ResnetGenerator
from bundle.server import DistributedGanTrainer, LocalFederation
from bundle.site.release import POLICIES
from scripts.textbook_step import TextbookStep, patch_discriminator, resnet_generator

LENGTHS = {"A": 3, "B": 5}


def adam(parameters):
    return torch.optim.Adam(parameters, lr=2e-4, betas=(0.5, 0.999))


def copy_weights(to, source):
    """By the order of the parameters: both write the same layers in the same order."""
    pairs = list(zip(to.parameters(), source.parameters(), strict=True))
    for into, own in pairs:
        assert into.shape == own.shape
        into.data.copy_(own.data)


def test_the_networks_have_the_published_sizes():
    generator = resnet_generator(3, 3)
    assert sum(p.numel() for p in generator.parameters()) == 11_378_179
    assert patch_discriminator(4)(torch.zeros(1, 4, 256, 256)).shape == (1, 1, 30, 30)


def test_a_step_has_the_projects_losses_and_updates():
    samples = {name: RandomSamples(name, length, size=32) for name, length in LENGTHS.items()}
    sites = members(
        samples,
        lambda: PatchDiscriminator(2, 4, 3, num_layers_d=2, norm="INSTANCE"),
        adam,
        SiteLoss(AdversarialLoss("vanilla"), l1_weight=100.0),
        policy=POLICIES["published"],
    )
    federation = LocalFederation(sites)
    generator = ResnetGenerator(2, 1, channels=4, num_blocks=2)
    theirs = resnet_generator(2, 1, width=4, blocks=2)
    copy_weights(theirs, generator)
    critics = [patch_discriminator(3, width=4, num_layers=2) for _ in sites]
    for critic, name in zip(critics, sorted(LENGTHS), strict=True):
        copy_weights(critic, federation.site(name).critic.discriminator)
    step = TextbookStep(theirs, critics, [3 / 8, 5 / 8])
    before = generator(samples["A"].condition.float())
    trainer = DistributedGanTrainer("cpu", 1, 3, federation, generator, adam(generator.parameters()))

    for number in (1, 2, 3):
        trainer.state.iteration = number
        batches = [samples[name].batch(0, name, number - 1, 1) for name in sorted(LENGTHS)]
        expected = step([(batch["condition"].float(), batch["image"]) for batch in batches])
        (found,) = trainer._iteration(trainer, None)
        for name, losses in zip(sorted(LENGTHS), expected, strict=True):
            assert found["losses"][name] == pytest.approx(losses, rel=1e-4)
    # not the weights: a bias before a norm has rounding errors for a gradient, and Adam makes steps of them
    condition = samples["A"].condition.float()
    assert not torch.allclose(generator(condition), before, atol=1e-3)
    torch.testing.assert_close(generator(condition), theirs(condition), rtol=0, atol=1e-4)
