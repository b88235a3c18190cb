"""Conditions that are drawn in the place of a site's: one for each sample, and no sample's own."""

import numpy as np
import pytest
import torch
from small_sites import RandomSamples, adam, discriminator, members

from bundle.losses import AdversarialLoss, SiteLoss
from bundle.seeding import Draw
from bundle.shapes import Moments, ShapeStatistics, TooFewPatients
from bundle.site.release import ReleasePolicy, summarize
from bundle.site.samples import DrawnSamples
from bundle.wire.messages import ConditionRequest, SyntheticBatch


class Patients(RandomSamples):
    """Two samples of each patient."""

    def origin(self, index):
        return (f"patient {index // 2}", index)


class Pixels:
    """Draws every pixel by how often it is 1."""

    def fit(self, conditions, least):
        vectors = {patient: [one.ravel().astype(float) for one in own] for patient, own in conditions.items()}
        return ShapeStatistics("Pixels", {}, {"pixels": Moments.of(vectors, 1, least)})

    def draw(self, statistics, rng, size):
        mean = statistics.moments["pixels"].mean.reshape(2, size, size)
        return (rng.random(mean.shape) < mean).astype(np.uint8)


def drawn(secret=1, samples=None):
    return DrawnSamples(Patients("A", 10) if samples is None else samples, Pixels(), 5, lambda: secret)


def site(tmp_path, seed=0, samples=None, **policy):
    loss = SiteLoss(AdversarialLoss(), l1_weight=0.0)
    samples = Patients("A", 10) if samples is None else samples
    policy = ReleasePolicy.make({"policy": "guarded", "conditions": "drawn"} | policy)
    ledger = lambda name: tmp_path / f"{name}.jsonl"  # noqa: E731
    kept = {"batch_size": 2, "seed": seed, "ledger": ledger, "shapes": Pixels()}
    return members({"A": samples}, discriminator, adam, loss, policy=policy, **kept)[0]


def issued(own, count=10):
    own.open(1)
    return own.conditions(ConditionRequest("A", 0, count)).conditions


def test_every_sample_keeps_its_own_and_has_another_beside_it():
    plain, found = Patients("A", 10), drawn()
    for index in range(10):
        assert torch.equal(found[index]["condition"], plain[index]["condition"])
        assert torch.equal(found[index]["image"], plain[index]["image"])
        assert not torch.equal(found[index]["drawn"], plain[index]["condition"])
        assert found[index]["drawn"].dtype == torch.uint8
    assert len({found[index]["drawn"].numpy().tobytes() for index in range(10)}) == 10


def test_there_is_one_for_each_sample_whatever_is_asked():
    found, again = drawn(), drawn()
    for index in (3, 0, 7):
        assert torch.equal(found[index]["drawn"], again[index]["drawn"])
        assert torch.equal(found[Draw(index, 1)]["drawn"], found[index]["drawn"].flip(-1)), "drawn, then augmented"
    assert not torch.equal(drawn(secret=2)[0]["drawn"], found[0]["drawn"])
    assert set(found.batch(0, "A", 0, 4)) == {"condition", "image", "drawn"}


def test_few_patients_are_refused_before_anything_is_drawn(tmp_path):
    with pytest.raises(TooFewPatients, match=r"\(min_patients: 5\): expected at least 5 patients .* got 4"):
        drawn(samples=Patients("A", 8))
    with pytest.raises(ValueError, match=r"site A: its release policy draws conditions .* got 4"):
        site(tmp_path, samples=Patients("A", 8))
    assert site(tmp_path, samples=Patients("A", 8), min_patients=4).name == "A"


def test_a_task_without_a_shape_model_is_refused(tmp_path):
    loss = SiteLoss(AdversarialLoss(), l1_weight=0.0)
    with pytest.raises(ValueError, match=r"site A: .* the task has no shape_model"):
        members(
            {"A": Patients("A", 10)},
            discriminator,
            adam,
            loss,
            policy=ReleasePolicy.make({"policy": "guarded", "conditions": "drawn"}),
        )


def test_no_condition_of_a_sample_leaves_and_the_discriminator_learns_from_real_pairs(tmp_path):
    own, plain = site(tmp_path), Patients("A", 10)
    seen = []
    update = own.critic.update
    own.critic.update = lambda real, synthetic, step: seen.append((real, synthetic)) or update(real, synthetic, step)
    left = [own.conditions(ConditionRequest("A", 0, 10)).conditions]
    info = own.open(1)
    for step in range(1, 4):
        left.append(info.conditions)
        images = torch.zeros(2, 1, 8, 8)
        info = own.step(SyntheticBatch("A", step, images, info.nonce))
    real = {one.numpy().tobytes() for image in plain.condition for one in (image, image.flip(-1))}
    assert not {one.numpy().tobytes() for batch in left for one in batch} & real
    for (condition, _), (source, _) in seen:
        assert {one.to(torch.uint8).numpy().tobytes() for one in condition} <= real
        assert not {one.to(torch.uint8).numpy().tobytes() for one in source} & real
    assert "drawn" in str(summarize(tmp_path / "A.jsonl"))


def test_no_seed_of_a_training_draws_others(tmp_path):
    first = issued(site(tmp_path, seed=0))
    assert torch.equal(issued(site(tmp_path, seed=5)), first)
    assert not torch.equal(issued(site(tmp_path / "elsewhere")), first)


def test_with_another_secret_no_second_set_leaves(tmp_path):
    issued(site(tmp_path))
    (tmp_path / "A.secret").unlink()
    with pytest.raises(Exception, match="deformed or drawn"):
        issued(site(tmp_path))
