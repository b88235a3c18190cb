"""A site's images, read out of the gradients that it returns."""

import math

import pytest
import torch

from bundle.audit.gradient_ascent import climb, lowest_loss
from bundle.audit.readout import Guess, bisect, l1_pull
from bundle.audit.readout_attacks import Effort
from bundle.audit.readout_audit import audit_loss
from bundle.audit.scores import MOST, Slice, dice_matrix, other_patients, psnr
from bundle.audit.simulated_site import Rehearsal
from bundle.audit.site_queries import Asker, Refused
from bundle.audit.targets import find_targets, starts
from bundle.losses import AdversarialLoss, SiteLoss
from bundle.site.release import ReleasePolicy
from tests.small_sites import RandomSamples, adam, discriminator, members

SIZE = 16


def make_site(
    l1_weight=0.0,
    network=discriminator,
    optimizer=adam,
    criterion="vanilla",
    policy="published",
    num_steps=None,
    **loss,
):
    samples = {"A": RandomSamples("A", 5, size=SIZE)}
    loss = SiteLoss(AdversarialLoss(criterion), l1_weight, **loss)
    rules = ReleasePolicy.make(policy)
    return members(samples, network, optimizer, loss, batch_size=2, policy=rules, num_steps=num_steps)[0]


class Linear(torch.nn.Module):
    """A discriminator that sums the image by a weight of its own for every pixel."""

    def __init__(self, weight=0.0):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((1, SIZE, SIZE), weight))

    def forward(self, x):
        return (x[:, -1:] * self.weight).sum(dim=(1, 2, 3), keepdim=True)


def ones(site):
    return torch.ones_like(find_targets(site, 2).images)


def test_a_query_sets_the_site_back_and_counts():
    site = make_site(1.0)
    asker = Asker(site, 3)
    assert torch.equal(asker.conditions, site.draw(3)["condition"])
    images = 0.3 * ones(site)
    first, other, again = asker.ask(images), asker.ask(-images), asker.ask(images)
    assert asker.queries == 3
    # the state before the step is the same every time: the same images bring the same answer, others another
    assert torch.equal(first.image_gradient, again.image_gradient)
    assert first.losses == again.losses
    assert not torch.equal(first.image_gradient, other.image_gradient)
    assert (site.trained, set(first.losses)) == (3, {"adversarial", "discriminator", "l1"})
    with pytest.raises(ValueError, match="at least 2"):
        Asker(site, 1)


def test_a_site_that_refuses_or_repeats_itself_ends_an_attack(monkeypatch):
    site = make_site(1.0)
    asker, high = Asker(site), ones(site)
    with pytest.raises(Refused, match="expected \\[-1, 1\\]"):
        asker.ask(2 * high)
    asker.ask(high)
    monkeypatch.setattr(site, "_go_to", lambda step: None)  # it does not go back
    with pytest.raises(Refused, match="as it answered those before"):
        asker.ask(-high)
    assert [guess.queries for guess in bisect(asker, -high, high, 8)] == [0]
    monkeypatch.setattr(site, "step", lambda batch: (_ for _ in ()).throw(ValueError("no")))
    (guess,) = climb(asker, high, 5, {"adversarial": 1})
    assert torch.equal(guess.images, high)
    assert guess.loss is None


def test_bisection_reads_the_images_out():
    site = make_site(10.0, generator_scale=0.1)
    images, asker = find_targets(site, 2).images, Asker(site)
    guesses = bisect(asker, -ones(site), ones(site), 8)
    assert [guess.queries for guess in guesses] == list(range(9))
    assert asker.queries == 8
    for bits, guess in enumerate(guesses):
        assert (guess.images - images).abs().max() <= 2.0**-bits + 1e-6
    # every grey level of 8 bits
    assert torch.equal(((guesses[8].images + 1) * 128).floor(), ((images + 1) * 128).floor())


def test_pairs_of_queries_see_through_an_adversarial_part_of_any_size():
    site = make_site(10.0, lambda: Linear(1.0), criterion="hinge")
    images, high = find_targets(site, 2).images, ones(site)
    pull = l1_pull(10.0, 1.0, images.numel())
    # a hinge and a linear discriminator: its slope whatever the image, many times what the L1 term pulls
    assert Asker(site).ask(-high).image_gradient.abs().min() > 20 * pull
    single, pairs = (bisect(Asker(site), -high, high, queries, by) for queries, by in ((8, None), (17, pull)))
    assert pairs[-1].queries == 16
    assert (pairs[-1].images - images).abs().max() <= 2.0**-8 + 1e-6
    assert max(psnr(single[-1].images, images)) < 10
    # or the server works the adversarial part out itself
    asker = Asker(site)
    rehearsed = bisect(asker, -high, high, 8, rehearsal=Rehearsal(site, asker))
    assert asker.queries == 8
    assert (rehearsed[-1].images - images).abs().max() <= 2.0**-8 + 1e-6


def test_where_nothing_pulls_to_the_image_bisection_gains_nothing():
    site = make_site(0.0)
    images, high = find_targets(site, 2).images, ones(site)
    guesses = bisect(Asker(site), -high, high, 8)
    assert max(psnr(guesses[-1].images, images)) < min(psnr(guesses[0].images, images))


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=1.0)


def test_the_update_alone_carries_the_image_where_the_discriminator_can_hold_it():
    """By plain gradient descent a linear discriminator's update is y - ŷ. Adam keeps no more of it than signs."""
    site = make_site(0.0, lambda: Linear(0.05), sgd, "hinge")
    site.batch_size = 1
    images, asker = find_targets(site, 1).images, Asker(site)
    guess = climb(asker, torch.zeros_like(images), 40, {"adversarial": 1}, 0.1, Rehearsal(site, asker))[-1]
    assert psnr(guess.images, images)[0] > 35
    plain = climb(Asker(site), torch.zeros_like(images), 40, {"adversarial": 1}, 0.1)[-1]
    assert psnr(plain.images, images)[0] < 30


def test_a_rehearsal_with_the_real_image_is_the_site_itself():
    site = make_site(0.0)
    images, asker = find_targets(site, 2).images, Asker(site)
    before = {key: value.clone() for key, value in site.critic.discriminator.state_dict().items()}
    played = Rehearsal(site, asker).gradient(images)
    assert all(torch.equal(before[key], value) for key, value in site.critic.discriminator.state_dict().items())
    assert torch.equal(played, asker.ask(images).image_gradient)


def test_the_lowest_loss_is_of_guesses_that_the_site_has_seen():
    site = make_site(10.0)
    guesses = climb(Asker(site), torch.zeros_like(ones(site)), 6, {"l1": 10.0})
    images = find_targets(site, 2).images
    assert [guess.queries for guess in guesses] == list(range(7))
    assert guesses[-1].loss is None
    for guess in guesses[:-1]:
        assert guess.loss == pytest.approx(10 * (guess.images - images).abs().mean().item(), rel=1e-5)
    assert lowest_loss(guesses) is min(guesses[:-1], key=lambda guess: guess.loss)
    nameless = [Guess(0, images), Guess(1, images)]
    assert lowest_loss(nameless) is nameless[-1]


def test_psnr_and_dice_of_known_images():
    image = torch.zeros(2, 1, SIZE, SIZE)
    assert psnr(torch.stack([image[0], image[1] + 0.2]), image) == pytest.approx([MOST, 20.0], abs=1e-4)
    condition = torch.zeros(2, 4, 4, dtype=torch.uint8)
    half = condition.clone()
    half[0, :2] = 1
    # one channel is empty in both, the other: 2 · 8 / (8 + 16)
    full = condition.clone()
    full[0] = 1
    assert dice_matrix(half[None], full[None]).item() == pytest.approx((2 * 8 / 24 + 1) / 2)
    assert dice_matrix(half[None], half[None]).item() == 1


def slice_of(case, value, filled):
    condition = torch.zeros(1, 4, 4, dtype=torch.uint8)
    condition[:, :filled] = 1
    return Slice(case, condition, torch.full((1, 4, 4), value))


def test_another_patients_slice_is_chosen_by_its_condition():
    slices = [slice_of("a", 0.0, 2), slice_of("b", 0.02, 4), slice_of("b", 0.2, 2), slice_of("c", 0.02, 1)]
    found, other = other_patients([slices[0], slices[3]], slices)
    # neither its own, which is equal, nor those that are nearer to the image
    assert (found.slice, found.dice) == (slices[2], 1.0)
    assert found.best == pytest.approx(40)
    assert found.mean == pytest.approx((40 + 20 + 40) / 3)
    assert other.slice == slices[0]
    with pytest.raises(ValueError, match="another case than a"):
        other_patients(slices[:1], slices[:1])


def test_an_audit_says_what_an_attack_gains():
    site = make_site()
    targets = find_targets(site, 3)
    assert targets.steps[0] == 2
    # of the steps that come next, one with two samples that the first has not
    assert len({one.case for one in targets.slices}) == len(targets.slices) == 4
    slices = [Slice(str(i), site.samples[i]["condition"], site.samples[i]["image"]) for i in range(5)]
    begun = starts(targets, slices, lambda x: 0.5 * torch.ones(len(x), 1, SIZE, SIZE), 3)
    assert begun.reference == [
        max(pair)
        for pair in zip(
            begun.report["synthetic image"]["psnr_each"],
            begun.report["other patient, condition fits best"]["psnr_each"],
            strict=True,
        )
    ]
    losses = {weight: SiteLoss(AdversarialLoss(), weight) for weight in (0.0, 100.0)}
    effort = Effort(queries=6, climbs=3, matches=2, iterations=2)
    adversarial, _ = audit_loss(site, losses[0.0], targets, begun, 3, effort)
    assert set(adversarial["methods"]) == {
        "gradient matching, 1 query",
        "gradient matching, 2 queries",
        "climb from the synthetic image",
        "climb from grey",
        "climb from another patient",
        "climb from the synthetic image, the update alone",
    }
    recognised = adversarial["recognition"]
    assert max(recognised["the real images"]) < 1e-4
    for name in ("the first of them", "another patient", "grey"):
        assert min(recognised[name]) > 0.005, name
    paired, pictures = audit_loss(site, losses[100.0], targets, begun, 3, effort)
    curve = paired["methods"]["bisection, rehearsed"]["curve"]
    assert [point["queries"] for point in curve] == list(range(7))
    assert paired["methods"]["bisection in pairs"]["answered"] == [12, 12]
    assert pictures["after 6"].shape == (3, 1, SIZE, SIZE)
    assert paired["own"]["psnr_each"] == curve[-1]["psnr_each"] == psnr(pictures["after 6"], targets.images[:3])
    assert paired["gain"]["own"] == pytest.approx(
        sum(a - b for a, b in zip(curve[-1]["psnr_each"], begun.reference, strict=True)) / 3
    )
    assert paired["gain"]["oracle"] > 20 > adversarial["gain"]["oracle"]
    assert not paired["reached"]
    assert adversarial["oracle"]["psnr"] >= adversarial["own"]["psnr"]


def audited(site, effort, loss=None, num_steps=None):
    targets = find_targets(site, 2)
    slices = [Slice(str(i), site.samples[i]["condition"], site.samples[i]["image"]) for i in range(5)]
    begun = starts(targets, slices, None, 2)
    return audit_loss(site, loss or site.critic.loss, targets, begun, 2, effort, num_steps)


def test_a_loss_that_the_policy_forbids_is_told_and_not_attacked():
    result, pictures = audited(make_site(policy="guarded"), Effort(), SiteLoss(AdversarialLoss(), 10.0))
    assert "guarded, returns no gradient of l1" in result["refused"]
    assert (set(result), pictures) == ({"loss", "refused"}, {})


def test_an_attack_ends_where_the_site_refuses_and_the_next_finds_it_as_new():
    site = make_site(policy={"policy": "guarded", "max_releases": 6})
    result, _ = audited(site, Effort(climbs=9, matches=0))
    for method in result["methods"].values():
        assert method["answered"] == [6]
        assert "6 releases are used up" in method["refused"][0]
        assert method["curve"][-1]["queries"] == 6


def test_a_site_without_conditions_is_asked_with_the_true_ones():
    free = {"policy": "private", "epsilon": math.inf, "clip_norm": 1e6, "secret_weights": False}
    plain, private = make_site(), make_site(policy=free)
    targets = find_targets(private, 2)
    with pytest.raises(ValueError, match="issues no conditions: expected known ones"):
        Asker(private)
    askers = Asker(plain), Asker(private, 2, targets.conditions)
    assert torch.equal(askers[0].conditions, askers[1].conditions)
    answers = [asker.ask(0.3 * ones(plain)) for asker in askers]
    assert torch.equal(answers[0].image_gradient, answers[1].image_gradient)
    assert answers[1].losses == {}
    played = Rehearsal(private, askers[1]).gradient(targets.images)
    assert torch.equal(played, askers[1].ask(targets.images).image_gradient)


def test_noise_hides_what_is_followed():
    site = make_site(policy="private", num_steps=40)
    result, _ = audited(site, Effort(climbs=8, iterations=20), num_steps=40)
    for name, method in result["methods"].items():
        assert method["curve"][-1]["psnr"] < method["curve"][0]["psnr"] + 0.5, name
    assert result["methods"]["climb from grey"]["answered"] == [8]
    # it is the noise that is not explained, whoever the candidate
    (real,), (other,) = (result["recognition"][name] for name in ("the real images", "another patient"))
    assert real == pytest.approx(other, rel=0.05)


def test_around_a_good_guess_few_queries_do():
    site = make_site(10.0)
    images = find_targets(site, 2).images
    near = images + 0.2 * torch.sin(torch.arange(images.numel())).view_as(images)
    guesses = bisect(Asker(site), near - 0.5, near + 0.5, 4)
    assert [guess.queries for guess in guesses] == [0, 1, 2, 3, 4]
    for bits, guess in enumerate(guesses):
        assert (guess.images - images).abs().max() <= 0.5 * 2.0**-bits + 1e-6
        assert guess.images.abs().max() <= 1
