"""DP-SGD at a site: what is clipped, what gets noise, who is drawn, and what is counted."""

import json
import math

import pytest
import torch
from monai.networks.nets import PatchDiscriminator
from private_sites import PARTS, POLICY, Patients, answers, private_site, public, recorded_draws, synthetic, train
from small_sites import discriminator

from bundle.losses import AdversarialLoss, SiteLoss
from bundle.site import Critic, SiteStore
from bundle.site.release import ReleaseRefused, verify
from bundle.site.release.secret import SecretStream, site_secret


@pytest.fixture
def ledger(tmp_path):
    (tmp_path / "A.secret").write_text("0" * 31 + "1\n", encoding="ascii")
    return lambda name: tmp_path / f"{name}.jsonl"


def entries(path, *kinds):
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["kind"] in kinds]


def gradients(site, batch, real=True):
    """Of D's loss on single samples, by Opacus' hooks."""
    from opacus.grad_sample import GradSampleModule

    wrapped = GradSampleModule(site.critic.discriminator, loss_reduction="sum")
    logits = wrapped(torch.cat([batch[0].float(), batch[1]], dim=1))
    halves = [site.critic.loss.judged(one[None], real, own[None]) for one, own in zip(logits, batch[0], strict=True)]
    sum(halves).backward()
    found = torch.cat([p.grad_sample.flatten(1) for p in site.critic.discriminator.parameters()], dim=1)
    wrapped.to_standard_module()
    return found


def clipped(found, norm):
    return found * (norm / found.norm(dim=1, keepdim=True)).clamp(max=1)


def applied(site, step=1, images=None):
    """The gradient that D's optimiser is given, all weights in a row, of the last update of a step."""
    site.step(synthetic(site.open(step), step, images))
    return torch.cat([p.grad.flatten() for p in site.critic.discriminator.parameters()])


@pytest.mark.parametrize("norm", [0.05, 100.0])
def test_an_update_is_the_mean_of_clipped_gradients_of_either_half(norm):
    site = private_site(updates=1, epsilon=math.inf, clip_norm=norm)
    seen, expected = recorded_draws(site), {}
    site.gate._records._secret = 5

    def before(*_):
        samples = [site.samples[one] for one in seen[0]]
        real = tuple(torch.stack([sample[key] for sample in samples]) for key in ("condition", "image"))
        fake = public(1), torch.full((2, 1, 8, 8), 0.1)
        # over those that are drawn on average, not those that were: how many they are is nobody's business
        expected["real"] = clipped(gradients(site, real), norm).sum(dim=0) / 4
        expected["fake"] = clipped(gradients(site, fake, real=False), norm).mean(dim=0)

    found = applied_after(site, before)
    torch.testing.assert_close(found, expected["real"] + expected["fake"], rtol=1e-4, atol=1e-6)


def applied_after(site, before):
    """As :func:`applied`; something is looked at when the gradient is known and D is not updated yet."""
    descend = site.critic.noised._descend

    def look(gradient):
        before()
        for parameter in site.critic.discriminator.parameters():
            parameter.grad = None
        descend(gradient)

    site.critic.noised._descend = look
    return applied(site)


def test_noise_of_the_right_size_comes_to_every_weight_and_only_once():
    """Left out, or on the synthetic half as well, it would not have this size."""
    left = []
    for number in range(20):
        site = private_site(updates=1, steps=1, epsilon=1.0, clip_norm=0.5)
        site.gate._records._secret = number
        sums = []
        clipped_sum = site.critic.noised.clipped_sum

        def keep(batches, loss, clipped_sum=clipped_sum, sums=sums):
            sums.append(clipped_sum(batches, loss))
            return sums[-1]

        site.critic.noised.clipped_sum = keep
        found = applied(site)
        assert len(sums) == 2
        left.append((found - sums[0] / 4 - sums[1] / 2) * 4 / (0.5 * site.gate.spending.noise))
    normal = torch.cat(left)
    assert normal.mean().abs() < 4 / len(normal) ** 0.5
    assert abs(normal.std() - 1) < 4 / (2 * len(normal)) ** 0.5
    assert not torch.equal(left[0], left[1])


def test_one_patient_moves_the_sum_by_one_bound_at_most():
    """Whatever his images are, numbers that are none among them."""
    samples = Patients("A", 24)
    site = private_site(samples, epsilon=math.inf, clip_norm=0.05, patients_per_update=12)
    drawn = site.critic.patients.drawn(1.0, SecretStream(1, "all"))
    noised, loss = site.critic.noised, site.critic.loss_of(real=True)
    with_him = noised.clipped_sum(noised.batches(drawn), loss)
    without = noised.clipped_sum(noised.batches(drawn[1:]), loss)
    assert 0 < (with_him - without).norm() <= 0.05
    for value in (1e20, math.inf, math.nan):
        samples.image[:2] = value
        changed = noised.clipped_sum(noised.batches(drawn), loss)
        assert (changed - without).norm() <= 0.05


def test_patients_are_drawn_by_the_secret_and_not_by_the_seed_of_the_run(ledger, tmp_path):
    """Whoever knows the run's seed knows nothing of who is drawn: without that there is no amplification."""
    seen = []
    for secret, seed in ((1, 0), (2, 0), (1, 0)):
        site = private_site(epsilon=math.inf, seed=seed)
        site.gate._records._secret = secret
        # the same weights everywhere: those of the start are of the secret, too
        torch.manual_seed(0)
        site.critic.discriminator.load_state_dict(discriminator().state_dict())
        draws = recorded_draws(site)
        train(site, 5)
        seen.append([[one.index // 2 for one in drawn] for drawn in draws])
    assert seen[0] != seen[1], "another secret, the same seed"
    assert seen[0] == seen[2]
    counts = [len(drawn) for drawn in seen[0] + seen[1]]
    assert len(set(counts)) > 2, "Poisson: their number is random"
    assert all(len(set(drawn)) == len(drawn) for drawn in seen[0]), "a patient is drawn once for an update"
    assert all(drawn[0].seed != drawn[-1].seed for drawn in draws if len(drawn) > 1)


def test_both_slices_of_a_patient_are_drawn_in_the_long_run_and_he_as_often_as_was_said():
    site = private_site()
    times = 400
    drawn = [site.critic.patients.drawn(0.25, SecretStream(5, number)) for number in range(times)]
    each = torch.bincount(torch.tensor([one.index for draws in drawn for one in draws]), minlength=24)
    assert each.sum() == pytest.approx(times * 12 * 0.25, rel=0.1)
    assert each.min() > 0.5 * times * 0.125
    assert [len(one) for one in (site.critic.patients.drawn(1.0, SecretStream(5, "all")),)] == [12]


def test_what_leaves_depends_on_a_patient_through_the_updates_alone(ledger, tmp_path):
    """A patient who is never drawn may be anybody: every bit that leaves is the same."""
    ends, never = [], 0
    for changed in (False, True):
        samples = Patients("A", 24)
        site = private_site(samples, epsilon=math.inf, steps=3, updates=1, scalar_losses=True)
        site.gate._records._secret = 3
        torch.manual_seed(0)
        site.critic.discriminator.load_state_dict(discriminator().state_dict())
        seen = recorded_draws(site)
        if changed:
            samples.image[never * 2 : never * 2 + 2] = torch.rand(2, 1, 8, 8)
        replies = train(site, 3)
        drawn = {one.index // 2 for draws in seen for one in draws}
        never = min(set(range(12)) - drawn)
        ends.append((seen, [(reply.image_gradient, reply.losses) for reply in replies]))
    assert ends[0][0] == ends[1][0]
    for (gradient, losses), (other, others) in zip(ends[0][1], ends[1][1], strict=True):
        assert torch.equal(gradient, other)
        assert losses == others
        assert set(losses) == {"adversarial"}, "D's own loss is of real images, and stays"


def test_a_second_reply_is_the_first_one_and_costs_nothing(ledger, tmp_path):
    site = private_site(ledger=ledger)
    info = site.open(1)
    first = site.step(synthetic(info, 1))
    spent = site.gate.epsilon
    again = site.step(synthetic(info, 1, torch.ones(2, 1, 8, 8)))
    assert torch.equal(first.image_gradient, again.image_gradient)
    assert site.gate.epsilon == spent
    assert len(entries(tmp_path / "A.jsonl", "update")) == 1
    assert len(entries(tmp_path / "A.jsonl", "repeated reply")) == 1


def test_the_ledger_says_what_was_spent_before_it_is_and_by_which_bound(ledger, tmp_path):
    site = private_site(ledger=ledger, steps=3)
    train(site, 3)
    lines = entries(tmp_path / "A.jsonl", "update", "reply")
    assert [line["kind"] for line in lines] == ["update", "reply"] * 3
    for line in lines[::2]:
        assert (line["mechanism"], line["updates"], line["sampling_rate"]) == ("dp_sgd", 2, 4 / 12)
        assert (line["bound"], line["noise_multiplier"]) == ("Rényi, sampled Gaussian", site.gate.spending.noise)
    assert all("noise_multiplier" not in line for line in lines[1::2])
    told = [line["epsilon"] for line in lines[1::2]]
    assert told == sorted(told)
    assert 3.9 < told[-1] <= 4.0
    assert verify(tmp_path / "A.jsonl").whole


def test_a_spent_budget_ends_the_part():
    site = private_site(steps=3)
    train(site, 3)
    site.gate.num_steps = 4
    with pytest.raises(ReleaseRefused, match="privacy budget is spent: epsilon 4 of 4") as refused:
        train(site, 1, first=4)
    assert refused.value.final


def test_steps_done_twice_draw_others_get_other_noise_and_count(ledger, tmp_path):
    site = private_site(ledger=ledger, steps=4)
    seen = recorded_draws(site)
    (first,) = train(site, 1)
    train(site, 1, first=2)
    spent = site.gate.epsilon
    (again,) = train(site, 1)
    assert site.trained == 1
    assert site.gate.epsilon > spent
    assert seen[:2] != seen[4:]
    assert not torch.equal(first.image_gradient, again.image_gradient)
    train(site, 3, first=2)
    assert site.gate.epsilon <= 4.0
    noise = [line["noise_multiplier"] for line in entries(tmp_path / "A.jsonl", "update")]
    assert noise[0] == noise[1] < noise[2], "what was done twice costs noise"
    assert noise[2:] == [noise[2]] * 4


def test_an_update_that_failed_counts(ledger, tmp_path):
    site = private_site(ledger=ledger)
    info = site.open(1)

    def fails(gradient):
        raise RuntimeError("out of memory")

    descend, site.critic.noised._descend = site.critic.noised._descend, fails
    with pytest.raises(RuntimeError, match="out of memory"):
        site.step(synthetic(info, 1))
    site.critic.noised._descend = descend
    assert site.gate.epsilon > 0
    assert [line["updates"] for line in entries(tmp_path / "A.jsonl", "update")] == [2]
    train(site, 6)
    assert site.gate.epsilon <= 4.0


def test_a_training_that_goes_on_has_the_bits_of_one_that_was_not_interrupted(tmp_path):
    whole, parts = (answers(tmp_path / name, stops) for name, stops in PARTS.items())
    assert all(torch.equal(one, other) for one, other in zip(whole, parts, strict=True))


@pytest.mark.parametrize("lost", ["A.jsonl", "A.secret"])
def test_a_checkpoint_without_its_ledger_is_not_gone_on_from(ledger, tmp_path, lost):
    where = {"ledger": ledger, "store": lambda site: SiteStore(tmp_path / "kept", interval=1)}
    site = private_site(**where)
    train(site, 2)
    site.gate.close()
    (tmp_path / lost).unlink()
    with pytest.raises(ValueError, match=r"made by updates that its ledger does not have.*bring back the ledger"):
        private_site(**where).open(3)


def test_a_checkpoint_that_was_made_without_noise_is_not_gone_on_from():
    site = private_site()
    state = private_site(epsilon=math.inf).state_dict()
    del state["private"]
    with pytest.raises(ValueError, match="epsilon would not cover it"):
        site.load_state_dict(state)


@pytest.mark.parametrize("other", [{"policy": "private", "epsilon": 4.0}, {"policy": "guarded"}])
def test_a_ledger_with_other_releases_is_refused_in_words(ledger, tmp_path, other):
    from small_sites import sites

    from bundle.site.release import ReleasePolicy
    from bundle.wire.messages import SyntheticBatch

    made = {"policy": ReleasePolicy.make(other), "l1_weight": 0.0, "ledger": ledger, "num_steps": 4}
    (site,) = sites({"A": 5}, **made)
    info = site.open(1)
    given = {"conditions": public(1)} if other["policy"] == "private" else {}
    site.step(SyntheticBatch("A", 1, torch.zeros(2, 1, 8, 8), info.nonce, **given))
    site.gate.close()
    words = "another mechanism than dp_sgd" if other["policy"] == "private" else "released without noise"
    with pytest.raises(ReleaseRefused, match=words) as refused:
        train(private_site(ledger=ledger), 1)
    assert refused.value.final


def test_gradients_with_noise_do_not_follow_updates_with_noise(ledger):
    from small_sites import sites

    from bundle.site.release import ReleasePolicy
    from bundle.wire.messages import SyntheticBatch

    site = private_site(ledger=ledger)
    train(site, 1)
    site.gate.close()
    policy = ReleasePolicy.make({"policy": "private", "epsilon": 4.0})
    (other,) = sites({"A": 5}, policy=policy, l1_weight=0.0, ledger=ledger, num_steps=4)
    info = other.open(1)
    with pytest.raises(ReleaseRefused, match="another mechanism than gradient_noise"):
        other.step(SyntheticBatch("A", 1, torch.zeros(2, 1, 8, 8), info.nonce, conditions=public(1)))


class OneHasMost(Patients):
    def origin(self, index):
        return f"patient {max(0, index - 12):02d}", index


class Spectral(torch.nn.Sequential):
    def __init__(self):
        super().__init__(torch.nn.utils.parametrizations.spectral_norm(torch.nn.Conv2d(3, 1, 3)))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"patients_per_update": 13}, r"a sampling rate above 1: 13 patients_per_update, and the site has 12$"),
        (
            {"epsilon": 0.5, "max_noise": 8.0},
            r"12 patients are too few for epsilon 0.5 in 12 updates: on the 149 weights of the discriminator the noise "
            r"would be .* clipping bounds, max_noise is 8; it takes some [0-9]+ patients, fewer updates",
        ),
        ({"epsilon": 0.5, "max_noise": 0.01}, "no number of patients is enough: draw more, or have a larger epsilon"),
        ({"samples": OneHasMost("A", 24)}, "one patient has 13 of its 24 samples: as one of 12 patients"),
        (
            {"network": lambda: torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))},
            "treats every sample by itself, and it has BatchNorm",
        ),
        ({"network": Spectral}, "treats every sample by itself, and it has parametrized weights"),
    ],
)
def test_what_cannot_be_is_refused_in_words_when_the_site_is_made(how, words):
    with pytest.raises(ReleaseRefused, match=words) as refused:
        private_site(**how)
    assert refused.value.final


def test_the_number_of_patients_that_it_takes_is_one_that_it_takes():
    with pytest.raises(ReleaseRefused) as refused:
        private_site(epsilon=1.0, max_noise=4.0)
    needed = int(str(refused.value).split("it takes some ")[1].split()[0])
    with pytest.raises(ReleaseRefused, match="too few"):
        private_site(Patients("A", 2 * (needed * 9 // 10)), epsilon=1.0, max_noise=4.0)
    private_site(Patients("A", 2 * needed), epsilon=1.0, max_noise=4.0)


def test_a_patch_discriminator_with_class_weights_and_augmentation_learns():
    from functools import partial

    from small_sites import adam

    from bundle.losses import DiscriminatorAugmentation
    from bundle.site import make_sites
    from bundle.site.release import ReleasePolicy, make_gates

    network = partial(
        PatchDiscriminator, spatial_dims=2, channels=4, in_channels=3, num_layers_d=1, norm="INSTANCE", bias=False
    )
    loss = SiteLoss(AdversarialLoss("hinge"), l1_weight=0.0, class_weights=[3.0, 1.0, 1.0])
    samples = {"A": Patients("A", 24)}
    critic = partial(Critic, network, adam, loss, augmentation=DiscriminatorAugmentation(0.1, 0.1, 0.1, 0.2))
    gates = make_gates(samples, policy=ReleasePolicy.make(POLICY), num_steps=2)
    (site,) = make_sites(samples, critic=critic, gates=gates, batch_size=2)
    assert all(torch.isfinite(reply.image_gradient).all() for reply in train(site, 2))


def test_bytes_of_the_secret_are_of_what_they_are_for():
    one = SecretStream(1, "noise", 3)
    first, second = one(100), one(100)
    assert first != second
    assert SecretStream(1, "noise", 3)(100) == first
    others = [SecretStream(2, "noise", 3), SecretStream(1, "noise", 4), SecretStream(1, "patients", 3)]
    assert len({first, *(other(100) for other in others)}) == 4
    assert site_secret(None) != site_secret(None)
