"""What the paper claims of one step, in numbers: Σ_j π_j ∂L_j/∂ŷ, pulled back to G, is the gradient of the objective of
the mixture of the sites' data.

The batch of every site is the whole of its data, so that the mean over a batch is the expectation over x ~ s_j, and the
equality holds up to the rounding of floats.
"""

import pytest
import torch
import torch.nn.functional as F
from ignite.engine import Events
from small_sites import Drawn, members

from bundle.losses import AdversarialLoss, SiteLoss
from bundle.networks import MLPDiscriminator, MLPGenerator
from bundle.seeding import derive_seed, forked_rng, seeded
from bundle.server import DistributedGanTrainer, LocalFederation

SEED = 5
EQUAL = {"1": [40, 0, 0], "2": [0, 40, 0], "3": [0, 0, 40]}
UNEQUAL = {"1": [120, 0, 0], "2": [0, 15, 0], "3": [0, 0, 3]}
# sites that share components: s_j is no point
OVERLAPPING = {"1": [30, 50, 0], "2": [0, 9, 3], "3": [4, 4, 40]}


class Minimax(AdversarialLoss):
    """The generator's side as equation 1 has it: log(1 − D)."""

    def generator(self, fake_logits):
        return -F.softplus(fake_logits).mean()


# of a logit, summed by hand below: log(1 − σ(l)) = −log(1 + e^l), −log σ(l) = log(1 + e^−l)
OBJECTIVES = {
    "non-saturating": (AdversarialLoss(), lambda logits: torch.log1p(torch.exp(-logits))),
    "minimax": (Minimax(), lambda logits: -torch.log1p(torch.exp(logits))),
}


class Draws(Drawn):
    """Draws of the toy mixture with components in given numbers, scaled to [-1, 1]."""

    def __init__(self, site, counts):
        random = torch.Generator().manual_seed(int(site))
        component = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
        values = torch.tensor([-3.0, 1.0, 3.0])[component] + torch.randn(len(component), generator=random)
        self.condition = F.one_hot(component, 3).to(torch.uint8).reshape(-1, 3, 1, 1)
        self.image = (values / 15).reshape(-1, 1, 1, 1)

    def __len__(self):
        return len(self.image)

    def __getitem__(self, key):
        return {"condition": self.condition[key[0]], "image": self.image[key[0]]}


def make_federation(counts, criterion):
    samples = {site: Draws(site, numbers) for site, numbers in counts.items()}
    sites = members(
        samples,
        lambda: MLPDiscriminator(4, channels=16, scale=15.0),
        lambda parameters: torch.optim.Adam(parameters, lr=0.01),
        SiteLoss(criterion, l1_weight=0.0),
        batch_size={site: len(data) for site, data in samples.items()},
        seed=SEED,
    )
    return LocalFederation(sites)


def make_generator():
    return seeded(lambda: MLPGenerator(3, 1, noise_channels=2, channels=16, scale=15.0), SEED, "generator")


def flat(tensors):
    return torch.cat([tensor.detach().double().flatten() for tensor in tensors])


def gradient_of_a_step(federation, mixture):
    """What the third step of the trainer changed, with a plain optimiser of rate 1: minus the gradient it used."""
    network = make_generator()
    trainer = DistributedGanTrainer(
        "cpu", 1, 3, federation, network, torch.optim.SGD(network.parameters(), lr=1.0), mixture=mixture, seed=SEED
    )
    before = []
    trainer.add_event_handler(Events.ITERATION_STARTED, lambda engine: before.append(flat(network.parameters())))
    trainer.run()
    used = before[2] - flat(network.parameters())
    # the weights that it was used on
    torch.nn.utils.vector_to_parameters(before[2].float(), network.parameters())
    return network, trainer, used


def gradient_of_the_mixture(network, federation, conditions, objective):
    """Of the mean over the pooled samples, each judged by the discriminator of the site that it is of."""
    terms = []
    for site, condition in conditions.items():
        with forked_rng(derive_seed(SEED, "generator", site, 3)):
            synthetic = network(condition.float())
        discriminator = federation.site(site).critic.discriminator
        logits = discriminator(torch.cat([condition.float(), synthetic], dim=1)).flatten()
        terms += [objective(logit) for logit in logits]
    pooled = torch.stack(terms).double().sum() / len(terms)
    return flat(torch.autograd.grad(pooled, list(network.parameters())))


@pytest.mark.parametrize("kind", OBJECTIVES)
@pytest.mark.parametrize("counts", [EQUAL, UNEQUAL, OVERLAPPING], ids=["equal", "unequal", "overlapping"])
@pytest.mark.parametrize("mixture", ["proportional", "sum"])
def test_the_sum_of_the_sites_gradients_is_the_gradient_of_the_mixture(kind, counts, mixture):
    criterion, objective = OBJECTIVES[kind]
    federation = make_federation(counts, criterion)
    network, trainer, used = gradient_of_a_step(federation, mixture)
    expected = gradient_of_the_mixture(network, federation, trainer.state.output[0]["conditions"], objective)
    difference = (used - expected).norm() / expected.norm()
    cosine = torch.dot(used, expected) / (used.norm() * expected.norm())
    if mixture == "proportional":
        assert difference < 1e-4  # a step of 1 was taken in float32
    elif counts is EQUAL:
        # as many at each site: the direction is right, and the length that of three
        assert cosine > 1 - 1e-6
        assert used.norm() / expected.norm() == pytest.approx(3, rel=1e-4)
    else:
        assert difference > 0.5
        assert cosine < 0.99


class Best(torch.nn.Module):
    """The paper's optimum D(x, y) = p(y|x) / (p(y|x) + q(y|x)), as a logit, for the normal distributions below."""

    MEANS, DRAWN_MEANS, DRAWN_STD = (-3.0, 1.0, 3.0), (0.5, -1.0, 2.0), 1.3

    def __init__(self):
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(()))  # for the optimiser

    def forward(self, x):
        component, value = x[:, :3], 15 * x[:, -1:]
        real, drawn = (torch.einsum("bchw,c->bhw", component, torch.tensor(m)) for m in (self.MEANS, self.DRAWN_MEANS))
        log_p = torch.distributions.Normal(real[:, None], 1.0).log_prob(value)
        return log_p - torch.distributions.Normal(drawn[:, None], self.DRAWN_STD).log_prob(value) + 0 * self.nothing


class Affine(torch.nn.Module):
    """Normal numbers around a mean for each component; z is a condition's last channels, read as a binary number."""

    def __init__(self):
        super().__init__()
        self.mean = torch.nn.Parameter(torch.tensor(Best.DRAWN_MEANS))
        self.std = torch.nn.Parameter(torch.tensor(Best.DRAWN_STD))

    def forward(self, x):
        place = (torch.einsum("bchw,c->bhw", x[:, 3:], 2.0 ** torch.arange(6)) + 0.5) / 64
        noise = torch.distributions.Normal(0.0, 1.0).icdf(place)
        return (torch.einsum("bchw,c->bhw", x[:, :3], self.mean) + self.std * noise)[:, None] / 15


class NumberedDraws(Draws):
    """Whose conditions also hold the number of the sample, from which z is made: G is a function of them alone."""

    def __init__(self, site, counts):
        super().__init__(site, counts)
        bits = torch.arange(len(self)).reshape(-1, 1) // 2 ** torch.arange(6) % 2
        self.condition = torch.cat([self.condition, bits.to(torch.uint8).reshape(-1, 6, 1, 1)], dim=1)


def test_with_the_best_discriminators_it_is_the_gradient_of_one_place_that_holds_everything():
    """They are the same function at every site: at the optimum, sites that stay apart cost nothing."""
    apart = {site: NumberedDraws(site, counts) for site, counts in UNEQUAL.items()}
    pooled = NumberedDraws("1", [1, 0, 0])
    pooled.condition, pooled.image = (
        torch.cat([getattr(data, part) for data in apart.values()]) for part in ("condition", "image")
    )

    def gradient(samples, mixture="proportional"):
        network = Affine()
        sites = members(
            samples,
            Best,
            lambda parameters: torch.optim.SGD(parameters, lr=0.0),
            SiteLoss(AdversarialLoss(), l1_weight=0.0),
            batch_size={site: len(data) for site, data in samples.items()},
        )
        optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
        DistributedGanTrainer("cpu", 1, 1, LocalFederation(sites), network, optimizer, mixture=mixture).run()
        return flat(Affine().parameters()) - flat(network.parameters())

    expected = gradient({"all": pooled})
    assert expected.norm() > 0.1
    torch.testing.assert_close(gradient(apart), expected, rtol=1e-4, atol=1e-6)
    assert (gradient(apart, "sum") - expected).norm() > expected.norm()
