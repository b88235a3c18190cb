"""A teacher that learns by DP-SGD: what it costs, that its weights leave once, and what they depend on."""

import json
import math
from functools import partial

import pytest
import torch
from private_sites import PARTS, Patients, answers, network_of, private_site, private_teacher, train
from small_sites import adam, discriminator

from bundle.networks import ConvRegressor, ResnetGenerator
from bundle.site import SiteStore
from bundle.site.noised_updates import NOT_ALLOWED
from bundle.site.release import PolicyError, ReleasePolicy, ReleaseRefused, summarize, verify
from bundle.site.release.needs import noise_in_bounds
from bundle.site.release.sampled import sampled_epsilon, sampled_noise
from bundle.site.release.teacher_release import release_teacher
from bundle.wire import Codec
from bundle.wire.messages import ConditionRequest, TaughtWeights

STEPS = 5


def taught_site(samples=None, **changes):
    return private_site(samples, teacher=True, **changes)


def asked(site, start=0):
    return site.conditions(ConditionRequest("A", start, start + 4))


def weights(site):
    return asked(site).weights.numpy().tobytes()


@pytest.fixture
def ledger(tmp_path):
    (tmp_path / "A.secret").write_text("0" * 31 + "1\n", encoding="ascii")
    return lambda name: tmp_path / f"{name}.jsonl"


def entries(path, *kinds):
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["kind"] in kinds]


def with_secret(site, secret=3):
    """Where there is no ledger: all that it draws is of this one."""
    site.gate._records._secret = secret
    return site


# what leaves


def test_weights_leave_in_the_place_of_conditions_and_the_ledger_says_which(ledger, tmp_path):
    site = taught_site(ledger=ledger)
    message = asked(site, 7)
    assert type(message) is TaughtWeights
    assert (message.start, message.conditions.numel()) == (7, 0)
    assert torch.equal(
        Codec(from_sites="int8", compression="zstd").decode(Codec().encode(message)).weights, message.weights
    )
    site.gate.close()
    (update, release) = entries(tmp_path / "A.jsonl", "update", "teacher")
    assert (update["of"], update["updates"], update["first"], update["training"]) == ("teacher", STEPS, 0, "seed 0")
    assert "step" not in update
    (part,) = release["parts"]
    assert part == {
        "what": "weights of a teacher",
        "shape": [message.weights.numel()],
        "dtype": "uint8",
        "bytes": message.weights.numel(),
    }
    assert (release["first"], release["epsilon"]) == (0, site.gate.epsilon)
    page = summarize(tmp_path / "A.jsonl")
    assert "a teacher's weights: yes" in page
    assert "1 release: weights of a teacher 1" in page
    assert verify(tmp_path / "A.jsonl").whole


def test_they_depend_on_a_patient_through_the_updates_alone():
    """One who is never drawn may be anybody: every byte is the same. One who is drawn is seen."""
    ends, never, seen = [], 0, []
    for changed in (None, "never drawn", "drawn"):
        samples = Patients("A", 24)
        site = with_secret(taught_site(samples, private_teacher=private_teacher(2)))
        drawn = site.critic.patients.drawn
        site.critic.patients.drawn = lambda rate, source, drawn=drawn: seen.append(drawn(rate, source)) or seen[-1]
        if changed:
            patient = never if changed == "never drawn" else seen[0][0].index // 2
            samples.image[patient * 2 : patient * 2 + 2] = torch.rand(2, 1, 8, 8)
        ends.append(weights(site))
        never = min(set(range(12)) - {one.index // 2 for draws in seen for one in draws})
    assert ends[0] == ends[1] != ends[2]


def test_noise_of_the_right_size_comes_to_every_weight():
    """Left out, the optimiser would be given the clipped sum itself."""
    left = []
    for secret in range(10):
        site = with_secret(taught_site(private_teacher=private_teacher(3), clip_norm=0.5), secret)
        sums, given = [], []
        begun = site.teacher._begun

        def watched(begun=begun, sums=sums, given=given):
            made = begun()
            clipped_sum, descend = made.clipped_sum, made._descend
            made.clipped_sum = lambda *args: sums.append(clipped_sum(*args)) or sums[-1]
            made._descend = lambda gradient: given.append(gradient) or descend(gradient)
            return made

        site.teacher._begun = watched
        asked(site)
        assert len(sums) == len(given) == 3
        left += [
            (one - total / 4) * 4 / (0.5 * site.gate.spending.noise) for one, total in zip(given, sums, strict=True)
        ]
    normal = torch.cat(left)
    assert normal.mean().abs() < 4 / len(normal) ** 0.5
    assert abs(normal.std() - 1) < 4 / (2 * len(normal)) ** 0.5


def test_without_noise_there_are_other_weights_and_no_finite_epsilon():
    noised, free = (with_secret(taught_site(epsilon=epsilon)) for epsilon in (4.0, math.inf))
    assert weights(noised) != weights(free)
    assert noised.gate.epsilon < 4.0
    assert free.gate.epsilon == math.inf


def test_its_draws_are_not_those_of_the_critic():
    site = with_secret(taught_site())
    streams = site.critic.noised._stream, site.teacher._begun()._stream
    assert len({stream(what, 0, "weights")(16) for stream in streams for what in ("patients", "noise")}) == 4


def test_it_learns():
    """Without noise: what the pairs have in common."""
    samples = Patients("A", 24)
    samples.image = samples.condition[:, :1].float() * 1.6 - 0.8
    errors = []
    for steps in (1, 150):
        fast = private_teacher(steps, optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.02))
        site = taught_site(samples, epsilon=math.inf, private_teacher=fast, patients_per_update=12)
        asked(site)
        predicted = network_of(site.teacher)(samples.condition.float())
        errors.append((predicted - samples.image).abs().mean().item())
    assert errors[1] < 0.25 < 0.5 < errors[0]


# what it costs


def test_one_noise_for_all_updates_and_epsilon_comes_out_where_it_should(ledger, tmp_path):
    site = taught_site(ledger=ledger)
    asked(site)
    train(site, 6)
    lines = entries(tmp_path / "A.jsonl", "update")
    assert [line["updates"] for line in lines] == [STEPS] + [2] * 6
    assert len({line["noise_multiplier"] for line in lines}) == len({line["sampling_rate"] for line in lines}) == 1
    noise = lines[0]["noise_multiplier"]
    # by two ways: as planned, and as what was made adds up
    assert noise == sampled_noise(4.0, 1e-5, 4 / 12, STEPS + 6 * 2)
    assert site.gate.epsilon == pytest.approx(sampled_epsilon(noise, 4 / 12, STEPS + 6 * 2, 1e-5))
    assert 3.9 < site.gate.epsilon <= 4.0
    site.gate.num_steps = 7
    with pytest.raises(ReleaseRefused, match="privacy budget is spent"):
        train(site, 1, first=7)


def interrupted(site):
    """The third of its teacher's updates fails."""
    begun = site.teacher._begun

    def fails():
        made, calls = begun(), []
        descend = made._descend

        def third(gradient):
            calls.append(gradient)
            if len(calls) == 3:
                raise RuntimeError("out of memory")
            descend(gradient)

        made._descend = third
        return made

    site.teacher._begun = fails
    with pytest.raises(RuntimeError, match="out of memory"):
        asked(site)
    site.teacher._begun = begun


@pytest.mark.parametrize("where", ["in the same process", "in another"])
def test_an_interrupted_teacher_has_the_same_bytes_and_is_counted_once(ledger, tmp_path, where):
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "A.secret").write_text("0" * 31 + "1\n", encoding="ascii")
    whole = taught_site(ledger=lambda name: tmp_path / "whole" / f"{name}.jsonl")
    expected = weights(whole)
    site = taught_site(ledger=ledger)
    interrupted(site)
    assert not entries(tmp_path / "A.jsonl", "teacher")
    assert site.gate.epsilon == whole.gate.epsilon
    if where == "in another":
        site.gate.close()
        site = taught_site(ledger=ledger)
    assert weights(site) == expected
    assert site.gate.epsilon == whole.gate.epsilon
    train(site, 6)
    assert [line.get("of") for line in entries(tmp_path / "A.jsonl", "update")] == ["teacher"] + [None] * 6
    assert site.gate.epsilon <= 4.0


def test_a_trained_one_is_kept(ledger, tmp_path):
    where = {"ledger": ledger, "store": lambda name: SiteStore(tmp_path / "kept")}
    site = taught_site(**where)
    expected = weights(site)
    site.gate.close()
    again = taught_site(**where)
    again.teacher._train = None
    assert weights(again) == expected
    again.gate.close()


def test_weights_that_have_left_are_given_again_whatever_the_images_are_now(ledger, tmp_path):
    """That they would be others would be an answer about the patients who have changed, which no noise hides."""
    site = taught_site(ledger=ledger)
    expected = weights(site)
    site.gate.close()
    samples = Patients("A", 24)
    samples.image = -samples.image
    changed = taught_site(samples, ledger=ledger)
    changed.teacher._train = None
    assert weights(changed) == expected
    assert len(entries(tmp_path / "A.jsonl", "update")) == 1
    assert changed.gate.epsilon == site.gate.epsilon
    changed.gate.close()


@pytest.mark.parametrize("damage", ["gone", "another"])
def test_weights_that_have_left_and_are_lost_are_not_made_again(ledger, tmp_path, damage):
    site = taught_site(ledger=ledger)
    asked(site)
    site.gate.close()
    (kept,) = tmp_path.glob("A.teacher_*")
    kept.unlink() if damage == "gone" else kept.write_bytes(b"0" * 100)
    again = taught_site(ledger=ledger)
    again.teacher._train = None
    with pytest.raises(ReleaseRefused, match=r"A.teacher_0 has them no more") as caught:
        asked(again)
    assert caught.value.final
    assert str(tmp_path) not in caught.value.sent
    again.gate.close()


def test_other_weights_do_not_leave_by_the_same_updates():
    site = taught_site()
    first = asked(site).weights
    with pytest.raises(ReleaseRefused, match="other weights of its teacher have left than it has now"):
        release_teacher(site.gate, first.flip(0))


def test_what_is_left_of_epsilon_has_to_be_worth_it(ledger):
    """``max_noise`` bounds the noise of what is left, and not of a fresh ledger alone."""
    first = taught_site(ledger=ledger, max_noise=None)
    asked(first)
    train(first, 5)
    bound = noise_in_bounds(first.gate.spending.noise, first.critic.noised.size, first.policy.patients_per_update)
    first.gate.close()
    second = taught_site(ledger=ledger, seed=1, max_noise=1.5 * bound)
    with pytest.raises(ReleaseRefused, match=r"with what is left the noise would be .* clipping bounds: max_noise is"):
        asked(second)
    second.gate.close()


def test_the_server_hears_of_no_numbers_of_patients():
    mixing = private_teacher(network=lambda: torch.nn.Sequential(torch.nn.Conv2d(2, 1, 3), torch.nn.BatchNorm2d(1)))
    for changes in ({"private_teacher": mixing}, {"patients_per_update": 1000}, {"max_noise": 1e-6}):
        with pytest.raises(ReleaseRefused) as caught:
            taught_site(**changes)
        assert caught.value.sent == NOT_ALLOWED
        assert str(caught.value) != NOT_ALLOWED


def test_no_update_under_a_finite_epsilon_is_written_without_noise():
    site = taught_site()
    with pytest.raises(RuntimeError, match="without noise: no step was prepared"):
        site.gate.spending.update(1)


def test_another_training_counts_again(ledger, tmp_path):
    first = taught_site(ledger=ledger, epsilon=8.0)
    one = weights(first)
    before = first.gate.epsilon
    first.gate.close()
    second = taught_site(ledger=ledger, epsilon=8.0, seed=1)
    assert weights(second) != one
    assert second.gate.epsilon > before
    assert [line["first"] for line in entries(tmp_path / "A.jsonl", "update")] == [0, STEPS]
    train(second, 6)
    assert second.gate.epsilon <= 8.0


def test_what_epsilon_does_not_allow_is_refused_before_anything_is_computed(ledger, tmp_path):
    first = taught_site(ledger=ledger)
    asked(first)
    train(first, 6)
    first.gate.close()
    second = taught_site(ledger=ledger, seed=1)
    second.teacher._train = None
    with pytest.raises(ReleaseRefused, match="privacy budget is spent: epsilon 4 of 4") as refused:
        asked(second)
    assert refused.value.final
    assert len([line for line in entries(tmp_path / "A.jsonl", "update") if "of" in line]) == 1


@pytest.mark.parametrize("left", [True, False])
def test_an_owner_who_lowers_epsilon_keeps_in_what_has_not_left(ledger, left):
    site = taught_site(ledger=ledger)
    asked(site) if left else site.teacher.prepare()
    site.gate.close()
    lowered = taught_site(ledger=ledger, epsilon=0.5)
    if left:
        asked(lowered)
    else:
        with pytest.raises(ReleaseRefused, match="privacy budget is spent"):
            asked(lowered)
    lowered.gate.close()


def test_a_ledger_without_noise_lets_no_teacher_out(ledger):
    free = taught_site(ledger=ledger, epsilon=math.inf)
    asked(free)
    free.gate.close()
    site = taught_site(ledger=ledger)
    with pytest.raises(ReleaseRefused, match="released without noise"):
        asked(site)
    site.gate.close()


def test_a_site_without_a_teacher_answers_as_ever(ledger, tmp_path):
    site = private_site(ledger=ledger)
    assert site.teacher is None
    with pytest.raises(ReleaseRefused, match="lets no conditions out"):
        asked(site)
    train(site, 1)
    (update,) = entries(tmp_path / "A.jsonl", "update")
    assert update["noise_multiplier"] == sampled_noise(4.0, 1e-5, 4 / 12, 12)


def test_a_training_that_goes_on_in_another_process_has_the_bits_of_one_that_was_not_interrupted(tmp_path):
    def ask(site):
        return [asked(site).weights]

    whole, parts = (answers(tmp_path / name, stops, ask, teacher=True) for name, stops in PARTS.items())
    assert torch.equal(whole[0], parts[0])
    del parts[4]  # asked for again
    assert all(torch.equal(one, other) for one, other in zip(whole, parts, strict=True))


# what cannot be


def test_the_network_that_is_too_large_is_named():
    small, large = (private_teacher(STEPS, lambda c=c: torch.nn.Conv2d(2, 1, c, padding=c // 2)) for c in (1, 15))
    found = sampled_noise(1.0, 1e-5, 4 / 12, STEPS + 12)
    of_d = noise_in_bounds(found, sum(p.numel() for p in discriminator().parameters()), 4)
    with pytest.raises(
        ReleaseRefused, match=r"in 17 updates: on the 451 weights of the teacher .* a smaller teacher"
    ) as r:
        taught_site(epsilon=1.0, max_noise=of_d * 1.01, private_teacher=large)
    assert "(private_teacher_channels)" in str(r.value)
    assert "fewer updates (num_steps, private_teacher_steps)" in str(r.value)
    taught_site(epsilon=1.0, max_noise=of_d * 1.01, private_teacher=small)
    # D alone would do: together with a teacher there are more updates, and more noise
    private_site(epsilon=1.0, max_noise=of_d * 0.99)
    with pytest.raises(ReleaseRefused, match="on the 149 weights of the discriminator"):
        taught_site(epsilon=1.0, max_noise=of_d * 0.99, private_teacher=small)


def test_what_no_teacher_can_be_is_refused_in_words():
    mixing = private_teacher(network=lambda: torch.nn.Sequential(torch.nn.Conv2d(2, 1, 3), torch.nn.BatchNorm2d(1)))
    with pytest.raises(ReleaseRefused, match="dp_sgd needs a teacher that treats every sample by itself"):
        taught_site(private_teacher=mixing)
    with pytest.raises(ValueError, match="expected private_teacher_steps of at least 1, got 0"):
        taught_site(private_teacher=private_teacher(0))
    with pytest.raises(ValueError, match=r"the training defines none \(private_teacher\)"):
        taught_site(private_teacher=None)
    smaller = taught_site(private_teacher=private_teacher(network=lambda: torch.nn.Conv2d(2, 1, 3)))
    with pytest.raises(RuntimeError, match=r"the teacher's image is \(1, 6, 6\) for one of \(1, 8, 8\)"):
        asked(smaller)
    broken = taught_site(epsilon=math.inf, private_teacher=private_teacher(1))
    trained = broken.teacher._begun().network
    next(trained.parameters()).data.fill_(math.nan)
    broken.teacher._train = lambda noised: trained
    with pytest.raises(RuntimeError, match="weights are not finite: see private_teacher_lr"):
        asked(broken)


def test_a_site_that_lacks_modalities_has_an_r_without_their_channels():
    network = partial(ConvRegressor, in_channels=2, out_channels=3)
    site = taught_site(private_teacher=private_teacher(1, network, lacking=2))
    assert site.teacher.size == 113
    asked(site)
    with pytest.raises(ValueError, match="lacks 3 of the modalities"):
        taught_site(private_teacher=private_teacher(1, network, lacking=3))


def test_policies():
    policy = ReleasePolicy.make({"policy": "private", "mechanism": "dp_sgd", "teacher": True, "num_samples": 5})
    assert "teacher True" in policy.describe()
    with pytest.raises(PolicyError, match="it has seen other folds; or mechanism: dp_sgd"):
        ReleasePolicy.make({"policy": "private", "teacher": True})


def test_a_network_with_instance_norm_and_a_position_learns_so():
    def network():
        return ResnetGenerator(2, 1, channels=3, num_blocks=0, upsampling="resize", coordinates=True)

    site = taught_site(Patients("A", 24, size=16), private_teacher=private_teacher(2, network, adam))
    assert asked(site).weights.numel() < 4 * site.teacher.size + 4096


def test_the_network_of_the_configs_is_of_few_weights_and_keeps_the_size():
    network = ConvRegressor(2, 1)
    assert sum(weight.numel() for weight in network.parameters()) == 113
    assert ConvRegressor(3, 2, 8, 5)(torch.rand(2, 3, 9, 7)).shape == (2, 2, 9, 7)
    for wrong in ({"channels": 0}, {"kernel_size": 2}):
        with pytest.raises(ValueError, match="an odd kernel_size"):
            ConvRegressor(2, 1, **wrong)
    site = taught_site(private_teacher=private_teacher(2, lambda: ConvRegressor(2, 1)))
    assert site.teacher.size == 113
    asked(site)
