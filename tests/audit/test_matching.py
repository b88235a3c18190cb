"""Real images, found by what a simulated site would answer."""

import math
from copy import deepcopy

import pytest
import torch

from bundle.audit.differentiable_step import Simulation
from bundle.audit.gradient_matching import match
from bundle.audit.scores import psnr
from bundle.audit.site_queries import Asker
from bundle.audit.targets import find_targets
from bundle.losses import AdversarialLoss, DiscriminatorAugmentation, SiteLoss
from bundle.networks import SegmentationDiscriminator
from bundle.site.release import ReleasePolicy
from bundle.wire.messages import SyntheticBatch
from tests.small_sites import RandomSamples, adam, discriminator, members

SIZE = 8


class Linear(torch.nn.Module):
    """A discriminator that sums the image by a weight of its own for every pixel."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((1, SIZE, SIZE), 0.05))

    def forward(self, x):
        return (x[:, -1:] * self.weight).sum(dim=(1, 2, 3), keepdim=True)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=1.0)


def segmenting():
    return SegmentationDiscriminator(2, 1, channels=[4, 8])


def make_site(network=discriminator, optimizer=adam, policy="guarded", batch_size=2, class_weights=None, **kwargs):
    samples = {"A": RandomSamples("A", 5, size=SIZE)}
    loss = SiteLoss(AdversarialLoss(), 0.0, class_weights=class_weights)
    rules = ReleasePolicy.make(policy)
    return members(samples, network, optimizer, loss, batch_size=batch_size, policy=rules, num_steps=9, **kwargs)[0]


AUGMENTED = {"augmentation": DiscriminatorAugmentation(brightness=0.5, translation=0.2), "schedule": lambda s: 0.5}
BY_CLASS = {"network": segmenting, "class_weights": [9.0, 2.0, 1.0], "optimizer": sgd}
CLIPPED = {"policy": "private", "epsilon": math.inf, "clip_norm": 1e-3, "conditions": "real"}


@pytest.mark.parametrize(
    ("trained", "kwargs"),
    [
        (0, {}),
        (0, {"optimizer": sgd}),
        (0, BY_CLASS),
        (0, AUGMENTED | BY_CLASS),
        (0, AUGMENTED),
        (0, {"policy": CLIPPED}),
        (3, {"optimizer": sgd}),
        (3, {}),
    ],
)
def test_a_simulation_of_the_real_images_is_the_site(trained, kwargs):
    site = make_site(**kwargs)
    for step in range(1, trained + 1):
        site.step(SyntheticBatch("A", step, torch.zeros(2, 1, SIZE, SIZE), site.open(step).nonce))
    site._initial = deepcopy(site.state_dict())  # what a server can send it back to
    asker = Asker(site, trained + 2)
    images = torch.linspace(-1, 1, SIZE).expand(2, 1, SIZE, SIZE)
    simulation, expected = Simulation(site, asker), asker.ask(images).image_gradient
    real = find_targets(site, 2, trained + 2).images
    torch.testing.assert_close(simulation.gradient(real, images).detach(), expected, rtol=1e-3, atol=1e-8)
    assert not torch.allclose(simulation.gradient(-real, images), expected, rtol=1e-3, atol=1e-8)


def test_matching_recovers_the_image_where_the_update_carries_it():
    site = make_site(Linear, sgd, batch_size=1)
    image, asker = find_targets(site, 1).images, Asker(site)
    start, grey = torch.full_like(image, 0.9), torch.zeros_like(image)
    begun, found = match(asker, Simulation(site, asker), [start, grey], iterations=150, rate=0.1)
    assert torch.equal(begun.images, grey)  # nearer than the other by what the site answers
    assert (begun.queries, found.queries, asker.queries) == (0, 1, 1)
    assert found.loss < 0.02 * begun.loss
    assert psnr(found.images, image)[0] > 35


def test_a_site_that_refuses_leaves_what_was_answered():
    site = make_site(policy={"policy": "guarded", "max_releases": 10})
    site.gate.policy = ReleasePolicy.make({"policy": "guarded", "max_releases": 2})
    asker = Asker(site)
    start = torch.zeros(2, 1, SIZE, SIZE)
    assert match(asker, Simulation(site, asker), [start], 5, 2)[-1].queries == 2
    assert "used up" in asker.refusal
    (alone,) = match(asker, Simulation(site, asker), [start], 5, 2)
    assert (alone.queries, alone.loss) == (0, None)


def test_an_optimiser_that_cannot_be_simulated_is_refused():
    site = make_site(optimizer=lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.9))
    with pytest.raises(ValueError, match="expected Adam, or SGD without momentum, got SGD"):
        Simulation(site, Asker(site))
