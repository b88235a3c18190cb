"""Samples as a policy has them deformed: one deformation each, and before anything else happens to them."""

import pytest
import torch
from monai.transforms import Compose, RandAffined
from small_sites import RandomSamples, adam, discriminator

from bundle.losses import AdversarialLoss, SiteLoss
from bundle.seeding import Draw, derive_seed
from bundle.site import Critic, Site
from bundle.site.release import ReleaseGate, ReleasePolicy
from bundle.site.samples import DeformedSamples

KEYS = ["condition", "image"]


def turning():
    modes = ["nearest", "bilinear"]
    return Compose([RandAffined(KEYS, prob=1.0, rotate_range=[(-2, 2)], mode=modes, padding_mode="border")])


def deformed(secret=1, samples=None):
    return DeformedSamples(RandomSamples("A", 4) if samples is None else samples, turning(), lambda: secret)


def test_every_sample_is_deformed_by_the_secret_and_its_origin():
    plain, found = RandomSamples("A", 4), deformed(secret=7)
    assert len(found) == 4
    for index in range(4):
        transform = turning().set_random_state(seed=derive_seed(7, "deformation", "patient", index))
        expected = transform(plain[index])
        for key in KEYS:
            torch.testing.assert_close(found[index][key], expected[key].as_tensor().to(plain[index][key].dtype))
        assert found.origin(index) == plain.origin(index)
    assert not torch.equal(found[0]["condition"], plain[0]["condition"])


def test_types_stay_those_of_the_samples():
    sample = deformed()[0]
    assert {key: (type(sample[key]), sample[key].dtype) for key in KEYS} == {
        "condition": (torch.Tensor, torch.uint8),
        "image": (torch.Tensor, torch.float32),
    }
    assert set(sample["condition"].unique().tolist()) <= {0, 1}


def test_there_is_one_deformation_of_each_whatever_is_drawn():
    found = deformed()
    for seed in (2, 4):  # draws of these samples are flipped by odd seeds
        assert torch.equal(found[Draw(1, seed)]["image"], found[1]["image"])
    assert torch.equal(found[Draw(1, 3)]["image"], found[1]["image"].flip(-1)), "deformed first, then augmented"
    batches = [found.batch(seed, "A", first, 8) for seed in (0, 1) for first in (0, 400)]
    seen = {image.numpy().tobytes() for batch in batches for image in batch["image"]}
    known = [found[index]["image"] for index in range(4)]
    assert seen <= {one.numpy().tobytes() for image in known for one in (image, image.flip(-1))}


def test_sites_with_other_secrets_deform_otherwise():
    assert torch.equal(deformed(secret=1)[0]["image"], deformed(secret=1)[0]["image"])
    assert not torch.equal(deformed(secret=1)[0]["image"], deformed(secret=2)[0]["image"])


def test_a_site_whose_policy_deforms_takes_no_other_samples():
    critic = Critic(discriminator, adam, SiteLoss(AdversarialLoss(), l1_weight=0))
    gate = ReleaseGate(ReleasePolicy.make({"policy": "guarded", "conditions": "deformed"}), "A")
    with pytest.raises(ValueError, match="site A: its release policy deforms conditions"):
        Site("A", RandomSamples("A", 4), critic, gate)
    Site("A", deformed(), critic, gate)
