import pytest
import torch
from small_sites import RandomSamples, adam, discriminator, sites

from bundle.federation import Site
from bundle.federation.messages import SyntheticBatch
from bundle.losses import AdversarialLoss, SiteLoss


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_the_image_gradient_is_that_of_the_updated_discriminator():
    """The step of the method written out by hand: update D_j first, then the gradient of L_j from the new D_j."""
    (site,) = sites({"A": 3}, l1_weight=10.0)
    info = site.open(1)
    fake = torch.tanh(torch.randn(2, 1, 8, 8))
    real = site._draw(1)["image"]
    twin = discriminator()
    twin.load_state_dict(site.discriminator.state_dict())
    optimizer = adam(twin.parameters())
    bce = torch.nn.functional.binary_cross_entropy_with_logits

    reply = site.step(SyntheticBatch("A", 1, fake))

    x = info.conditions.float()
    on_real, on_fake = twin(torch.cat([x, real], 1)), twin(torch.cat([x, fake], 1))
    d_loss = 0.5 * (bce(on_real, torch.ones_like(on_real)) + bce(on_fake, torch.zeros_like(on_fake)))
    d_loss.backward()
    optimizer.step()
    leaf = fake.clone().requires_grad_(True)
    logits = twin(torch.cat([x, leaf], 1))
    l1 = (leaf - real).abs().mean()
    adversarial = bce(logits, torch.ones_like(logits))
    (expected,) = torch.autograd.grad(adversarial + 10 * l1, leaf)

    torch.testing.assert_close(reply.image_gradient, expected)
    torch.testing.assert_close(weights(site.discriminator), weights(twin))
    assert reply.losses == pytest.approx(
        {"discriminator": d_loss.item(), "adversarial": adversarial.item(), "l1": l1.item()}, rel=1e-5
    )


def test_what_the_generator_is_told_does_not_reach_the_discriminator():
    ends = []
    for l1_weight in (0.0, 1000.0):
        (site,) = sites({"A": 3}, l1_weight=l1_weight)
        for step in (1, 2, 3):
            site.step(SyntheticBatch("A", step, torch.full((2, 1, 8, 8), 0.1 * step)))
        assert all(p.requires_grad for p in site.discriminator.parameters())
        ends.append(weights(site.discriminator))
    assert torch.equal(*ends)


def test_conditions_come_one_step_ahead_and_belong_to_the_images():
    (site,) = sites({"A": 3})
    issued = site.open(1).conditions
    for step in (1, 2, 3):
        assert torch.equal(issued, site._draw(step)["condition"])
        issued = site.step(SyntheticBatch("A", step, torch.zeros(2, 1, 8, 8))).conditions
    # a site that forgot everything issues the same
    (fresh,) = sites({"A": 3})
    assert torch.equal(fresh.open(4).conditions, issued)


def test_a_site_is_reproducible_from_its_checkpoint():
    def run(site, steps):
        return [site.step(SyntheticBatch("A", s, torch.full((2, 1, 8, 8), 0.1 * s))) for s in steps][-1]

    (whole,) = sites({"A": 3}, lr_schedule=lambda done: 1.0 - 0.1 * done)
    last = run(whole, range(1, 7))
    (first,) = sites({"A": 3}, lr_schedule=lambda done: 1.0 - 0.1 * done)
    run(first, range(1, 4))
    (second,) = sites({"A": 3}, lr_schedule=lambda done: 1.0 - 0.1 * done)
    second.load_state_dict(first.state_dict())
    resumed = run(second, range(4, 7))
    assert torch.equal(resumed.image_gradient, last.image_gradient)
    assert torch.equal(weights(second.discriminator), weights(whole.discriminator))


def test_the_learning_rate_follows_the_steps_of_the_server():
    (site,) = sites({"A": 3}, lr_schedule=lambda done: 0.5**done)
    for step in (1, 4):
        site.step(SyntheticBatch("A", step, torch.zeros(2, 1, 8, 8)))
        assert site.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * 0.5 ** (step - 1))


def test_discriminators_differ_by_site_and_seed_and_not_by_who_else_takes_part():
    alone = {s.name: weights(s.discriminator) for s in sites({"A": 3})}
    both = {s.name: weights(s.discriminator) for s in sites({"A": 3, "B": 3})}
    assert torch.equal(alone["A"], both["A"])
    assert not torch.equal(both["A"], both["B"])
    assert not torch.equal(alone["A"], weights(sites({"A": 3}, seed=1)[0].discriminator))


def test_foreign_and_misshapen_batches_are_refused():
    (site,) = sites({"A": 3})
    before = weights(site.discriminator)
    for batch in (SyntheticBatch("B", 1, torch.zeros(2, 1, 8, 8)), SyntheticBatch("A", 1, torch.zeros(2, 1, 4, 4))):
        with pytest.raises(ValueError, match=r"site A expected its own synthetic images of shape \(2, 1, 8, 8\)"):
            site.step(batch)
    assert torch.equal(weights(site.discriminator), before)


def test_a_site_needs_as_many_samples_as_its_batch():
    network = discriminator()
    with pytest.raises(ValueError, match=r"site A has 3 samples, fewer than its batch size 4"):
        Site("A", RandomSamples("A", 3), network, adam(network.parameters()), SiteLoss(AdversarialLoss()), batch_size=4)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        sites({"A": 3}, batch_size=0)
    with pytest.raises(ValueError, match=r"batch_size is given for \['A'\], but the sites are \['A', 'B'\]"):
        sites({"A": 3, "B": 3}, batch_size={"A": 1})


def test_discriminators_that_return_all_their_layers_are_read_at_the_last():
    class Layers(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = discriminator()

        def forward(self, x):
            return [x.new_full((1,), float("nan")), self.net(x)]

    network = Layers()
    site = Site("A", RandomSamples("A", 3), network, adam(network.parameters()), SiteLoss(AdversarialLoss()))
    reply = site.step(SyntheticBatch("A", 1, torch.zeros(1, 1, 8, 8)))
    assert torch.isfinite(reply.image_gradient).all()
