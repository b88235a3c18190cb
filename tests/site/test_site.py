import re
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from small_sites import RandomSamples, adam, discriminator, sites

from bundle.losses import AdversarialLoss, DiscriminatorAugmentation, SiteLoss
from bundle.site import Critic, Site
from bundle.site.release import POLICIES, ReleaseGate
from bundle.site.store import SiteStore
from bundle.wire.messages import SyntheticBatch


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_the_image_gradient_is_that_of_the_updated_discriminator():
    """The step of the method written out by hand: update D_j first, then the gradient of L_j from the new D_j."""
    (site,) = sites({"A": 3}, l1_weight=10.0)
    info = site.open(1)
    fake = torch.tanh(torch.randn(2, 1, 8, 8))
    real = site.draw(1)["image"]
    twin = discriminator()
    twin.load_state_dict(site.critic.discriminator.state_dict())
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
    torch.testing.assert_close(weights(site.critic.discriminator), weights(twin))
    assert reply.losses == pytest.approx(
        {"discriminator": d_loss.item(), "adversarial": adversarial.item(), "l1": l1.item()}, rel=1e-5
    )


def test_what_the_generator_is_told_does_not_reach_the_discriminator():
    ends = []
    for l1_weight in (0.0, 1000.0):
        (site,) = sites({"A": 3}, l1_weight=l1_weight)
        for step in (1, 2, 3):
            site.step(SyntheticBatch("A", step, torch.full((2, 1, 8, 8), 0.1 * step)))
        assert all(p.requires_grad for p in site.critic.discriminator.parameters())
        ends.append(weights(site.critic.discriminator))
    assert torch.equal(*ends)


def test_what_the_discriminator_sees_is_augmented_each_time_it_looks():
    seen = []

    class Watched(DiscriminatorAugmentation):
        def forward(self, condition, image):
            seen.append(image.shape)
            return super().forward(condition, image)

    ends = []
    for strength in (0.0, 0.5, 0.5):
        (site,) = sites({"A": 3}, augmentation=Watched(brightness=strength, cutout=strength))
        reply = site.step(SyntheticBatch("A", 1, torch.zeros(2, 1, 8, 8)))
        ends.append((weights(site.critic.discriminator), reply.image_gradient))
    assert len(seen) == 3 * 3  # real, synthetic, and synthetic for the generator
    # drawn from (seed, site, step): a step that is done again is the same
    assert all(torch.equal(*pair) for pair in zip(ends[1], ends[2], strict=True))
    assert not torch.equal(ends[0][0], ends[1][0])
    # where a square was cut out, the discriminator has no opinion; the L1 term, which compares whole images, has
    (site,) = sites({"A": 3}, l1_weight=0.0, augmentation=DiscriminatorAugmentation(cutout=0.9))
    gradient = site.step(SyntheticBatch("A", 1, torch.zeros(2, 1, 8, 8))).image_gradient
    assert (gradient == 0).any()
    assert (gradient != 0).any()


@pytest.mark.parametrize("value", ["no", 0, None])
def test_whether_conditions_may_be_kept_is_true_or_false(value):
    with pytest.raises(ValueError, match="site A: keep_conditions: expected true or false, got"):
        sites({"A": 3}, keep_conditions=value)


def test_whether_conditions_may_be_kept_is_said_for_all_sites_or_for_each():
    assert [site.gate.keep_conditions for site in sites()] == [True, True]
    assert [site.gate.keep_conditions for site in sites(keep_conditions={"A": True, "B": False})] == [True, False]
    with pytest.raises(ValueError, match="keep_conditions is given for A, but the sites are A, B: nothing for B"):
        sites(keep_conditions={"A": True})


def test_conditions_come_one_step_ahead_and_belong_to_the_images():
    (site,) = sites({"A": 3})
    issued = site.open(1).conditions
    for step in (1, 2, 3):
        assert torch.equal(issued, site.draw(step)["condition"])
        issued = site.step(SyntheticBatch("A", step, torch.zeros(2, 1, 8, 8))).conditions
    # a site that forgot everything issues the same
    (fresh,) = sites({"A": 3})
    assert torch.equal(fresh.open(4).conditions, issued)


def test_a_site_is_reproducible_from_its_checkpoint():
    def run(site, steps):
        return [site.step(SyntheticBatch("A", s, torch.full((2, 1, 8, 8), 0.1 * s))) for s in steps][-1]

    (whole,) = sites({"A": 3}, schedule=lambda done: 1.0 - 0.1 * done)
    last = run(whole, range(1, 7))
    (first,) = sites({"A": 3}, schedule=lambda done: 1.0 - 0.1 * done)
    run(first, range(1, 4))
    (second,) = sites({"A": 3}, schedule=lambda done: 1.0 - 0.1 * done)
    second.load_state_dict(first.state_dict())
    resumed = run(second, range(4, 7))
    assert torch.equal(resumed.image_gradient, last.image_gradient)
    assert torch.equal(weights(second.critic.discriminator), weights(whole.critic.discriminator))


def test_the_learning_rate_follows_the_steps_of_the_server():
    (site,) = sites({"A": 3}, schedule=lambda done: 0.5**done)
    for step in (1, 4):
        site.step(SyntheticBatch("A", step, torch.zeros(2, 1, 8, 8)))
        assert site.critic.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * 0.5 ** (step - 1))


def test_discriminators_differ_by_site_and_seed_and_not_by_who_else_takes_part():
    alone = {s.name: weights(s.critic.discriminator) for s in sites({"A": 3})}
    both = {s.name: weights(s.critic.discriminator) for s in sites({"A": 3, "B": 3})}
    assert torch.equal(alone["A"], both["A"])
    assert not torch.equal(both["A"], both["B"])
    assert not torch.equal(alone["A"], weights(sites({"A": 3}, seed=1)[0].critic.discriminator))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"site": "B"}, "is for site 'B', not 'A'"),
        ({"images": torch.zeros(2, 1, 4, 4)}, r"shape \(2, 1, 8, 8\), got torch.float32 \(2, 1, 4, 4\)"),
        ({"images": torch.zeros(2, 1, 8, 8, dtype=torch.float64)}, "expected torch.float32 .* got torch.float64"),
        ({"images": torch.full((2, 1, 8, 8), float("nan"))}, "from nan to nan"),
        ({"images": torch.full((2, 1, 8, 8), float("inf"))}, "from inf to inf"),
        ({"images": torch.full((2, 1, 8, 8), -1.01)}, r"from -1.01 to -1.01, expected \[-1, 1\]"),
        ({"images": [0.0]}, "got a list"),
        ({"step": 0}, "step is 0"),
        ({"step": True}, "step is True"),
    ],
)
def test_what_a_server_may_not_send_is_refused_without_touching_the_discriminator(change, message):
    (site,) = sites({"A": 3})
    before = weights(site.critic.discriminator)
    with pytest.raises(ValueError, match=message):
        site.step(SyntheticBatch(**{"site": "A", "step": 1, "images": torch.zeros(2, 1, 8, 8)} | change))
    assert torch.equal(weights(site.critic.discriminator), before)
    assert (site.trained, site.critic.optimizer.state) == (0, {})


def batch(step, value=0.1):
    return SyntheticBatch("A", step, torch.full((2, 1, 8, 8), value))


def train(site, steps):
    return [site.step(batch(step, 0.1 * (step % 7))) for step in steps]


def same(one, two):
    return (
        torch.equal(one.image_gradient, two.image_gradient)
        and torch.equal(one.conditions, two.conditions)
        and (one.site, one.step, one.losses) == (two.site, two.step, two.losses)
    )


def test_a_step_that_is_asked_for_again_is_answered_again_and_not_done_again():
    (site,) = sites({"A": 3})
    train(site, range(1, 3))
    reply, before = site.step(batch(3)), weights(site.critic.discriminator)
    # with other images it is no other reply: each would tell a little more of the same real images
    assert all(same(site.step(batch(3, value)), reply) for value in (0.1, -0.5))
    assert torch.equal(weights(site.critic.discriminator), before)
    # nor after a restart
    (other,) = sites({"A": 3})
    other.load_state_dict(deepcopy(site.state_dict()))
    assert other.open(3).trained == 3
    assert same(other.step(batch(3)), reply)
    assert same(other.step(batch(4)), site.step(batch(4)))
    with pytest.raises(ValueError, match="site A has done step 4: step 3 is past"):
        site.step(batch(3))


def test_a_step_whose_answer_failed_is_not_done_twice():
    """Out of memory after the discriminator's update, say: opened for the same step, the site goes back before it."""
    (site,), (twin,) = sites({"A": 3}), sites({"A": 3})
    generator, site.critic.loss.generator = site.critic.loss.generator, None
    with pytest.raises(TypeError):
        site.step(batch(1))
    assert all(p.requires_grad for p in site.critic.discriminator.parameters())
    site.critic.loss.generator = generator
    with pytest.raises(ValueError, match="has done step 1"):
        site.step(batch(1))
    assert site.open(1).trained == 0
    assert same(site.step(batch(1)), twin.step(batch(1)))


def stored(folder, interval=2, **kwargs):
    return sites({"A": 3}, store=lambda name: SiteStore(folder / name, interval=interval), **kwargs)[0]


def kept(folder):
    """Step and length of the course of every checkpoint."""
    return sorted(tuple(int(number) for number in re.findall("[0-9]+", p.name)) for p in (folder / "A").iterdir())


def test_a_site_goes_back_to_its_own_checkpoint_of_the_step(tmp_path, caplog):
    caplog.set_level("INFO", "bundle")
    replies = train(stored(tmp_path), range(1, 8))
    assert kept(tmp_path) == [(2, 2), (4, 4), (6, 6)]
    for killed in (False, True):
        site = stored(tmp_path)
        if not killed:
            train(site, range(1, 8))
        caplog.clear()
        # the server was killed at step 7 and goes back to its checkpoint of step 4
        info = site.open(5)
        assert info.trained == 4
        assert f"was trained to step {0 if killed else 7} and goes on after step 4 with its checkpoint" in caplog.text
        assert torch.equal(info.conditions, site.draw(5)["condition"])
        assert all(same(a, b) for a, b in zip(train(site, range(5, 8)), replies[4:], strict=True))


def test_a_site_takes_the_newest_of_what_it_has(tmp_path, caplog):
    site = stored(tmp_path, interval=3)
    train(site, range(1, 6))
    assert site.open(6).trained == 5
    assert not caplog.records
    # away for a while: what it is in is newer than its checkpoint
    assert site.open(9).trained == 5
    assert "goes on after step 8 as it is" in caplog.text
    assert site.open(5).trained == 5  # it still knows its reply to step 5
    assert site.open(4).trained == 3
    # nothing as old as that: all over again
    assert site.open(2).trained == 0
    assert "initial weights" in caplog.text
    (fresh,) = sites({"A": 3})
    assert torch.equal(weights(site.critic.discriminator), weights(fresh.critic.discriminator))
    assert same(train(site, [2])[0], train(fresh, [2])[0])
    assert stored(tmp_path).open(9).trained == 3
    for step in (0, -1, 2**32 + 1, 2**62, 2**63 - 1):
        with pytest.raises(ValueError, match="counted from 1"):
            site.open(step)


def leap(site, step):
    """What a server can have a site do at any time: a step far away."""
    site.open(step)
    site.step(batch(step))


@pytest.mark.parametrize(
    "excursion",
    [
        pytest.param(lambda site: [leap(site, 10**6 + 2 * number) for number in range(8)], id="far steps"),
        pytest.param(lambda site: [leap(site, 14 + 3 * number) for number in range(8)], id="leaps"),
        pytest.param(lambda site: [leap(site, 12) for _ in range(8)], id="one step"),
        pytest.param(lambda site: [leap(site, 1 + number % 2) for number in range(8)], id="back to the first"),
        pytest.param(lambda site: [leap(site, step) for step in (2, 10**6, 4, 500, 1) * 3], id="all over"),
    ],
)
@pytest.mark.parametrize("restart", [False, True])
def test_no_excursion_makes_a_site_lose_what_it_has_learnt(tmp_path, excursion, restart):
    """The server goes elsewhere, as far and often as it likes; when it is back, all is as if nothing had been."""
    (whole,) = sites({"A": 3})
    replies = train(whole, range(1, 14))
    site = stored(tmp_path)
    train(site, range(1, 11))
    excursion(site)
    site = stored(tmp_path) if restart else site
    assert {(6, 6), (8, 8), (10, 10)} <= set(kept(tmp_path))
    assert len(kept(tmp_path)) <= 6
    assert site.open(11).trained == 10
    assert all(same(one, other) for one, other in zip(train(site, range(11, 14)), replies[10:], strict=True))


def test_checkpoints_of_an_abandoned_course_go_when_the_next_is_longer(tmp_path):
    site = stored(tmp_path)
    train(site, range(1, 9))
    site.open(3)  # its server lost its own, and goes back to the first of the site's; some steps are gone for good
    assert site.trained == 0
    train(site, range(3, 9))
    assert set(kept(tmp_path)) == {(4, 4), (6, 6), (8, 8), (4, 2), (6, 4), (8, 6)}
    train(site, range(9, 15))
    assert kept(tmp_path) == [(10, 8), (12, 10), (14, 12)]


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "pickled object"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, caplog, damage):
    site = stored(tmp_path)
    train(site, range(1, 7))
    newest = tmp_path / "A" / "step_000000006_run_000000006.pt"
    content = bytearray(newest.read_bytes())
    if damage == "flipped":
        content[content.index(weights(site.critic.discriminator)[:8].numpy().tobytes())] ^= 1
    newest.write_bytes({"truncated": content[:-100], "empty": b""}.get(damage, content))
    if damage == "pickled object":
        torch.save({"state": Path}, newest)
    assert stored(tmp_path).open(8).trained == 4
    assert f"the checkpoint {newest} is damaged" in caplog.text
    assert "an older one has to do" in caplog.text


@pytest.mark.parametrize("other", [{"seed": 1}, {"name": "B"}, {"training": "another"}])
def test_checkpoints_of_another_run_are_refused_by_name(tmp_path, other):
    train(stored(tmp_path), range(1, 3))
    name = other.get("name", "A")
    (site,) = sites(
        {name: 3},
        seed=other.get("seed", 0),
        store=lambda _: SiteStore(tmp_path / "A", training=other.get("training", "")),
    )
    with pytest.raises(ValueError, match=r"step_000000002_run_000000002\.pt is of another training: \w+ .*, expected "):
        site.open(3)


def test_a_full_disk_at_a_site_does_not_stop_it(tmp_path, monkeypatch, caplog):
    site = stored(tmp_path)
    monkeypatch.setattr(site.store, "save", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    train(site, range(1, 4))
    assert site.trained == 3
    assert "could not keep its checkpoint of step 2: [Errno 28] No space left" in caplog.text


@pytest.mark.parametrize("arguments", [{"keep": 1}, {"interval": 0}])
def test_a_store_keeps_what_a_server_may_go_back_to(tmp_path, arguments):
    with pytest.raises(ValueError, match="at least 2 checkpoints"):
        SiteStore(tmp_path, **arguments)


def test_a_site_needs_as_many_samples_as_its_batch():
    with pytest.raises(ValueError, match=r"site A has 3 samples, fewer than its batch size 4"):
        sites({"A": 3}, batch_size=4)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        sites({"A": 3}, batch_size=0)
    with pytest.raises(ValueError, match="batch_size is given for A, but the sites are A, B: nothing for B"):
        sites({"A": 3, "B": 3}, batch_size={"A": 1})


def test_discriminators_that_return_all_their_layers_are_read_at_the_last():
    class Layers(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = discriminator()

        def forward(self, x):
            return [x.new_full((1,), float("nan")), self.net(x)]

    critic = Critic(Layers, adam, SiteLoss(AdversarialLoss()))
    site = Site("A", RandomSamples("A", 3), critic, ReleaseGate(POLICIES["published"], "A"))
    reply = site.step(SyntheticBatch("A", 1, torch.zeros(1, 1, 8, 8)))
    assert torch.isfinite(reply.image_gradient).all()
