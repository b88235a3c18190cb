from copy import deepcopy

import numpy as np
import pytest
import torch
from small_sites import RandomSamples, sites

from bundle.audit.candidates import Candidates, gather
from bundle.audit.membership import (
    discriminator_scores,
    left_out_patients,
    nearest_distances,
    reconstruction_errors,
    shifted_errors,
)
from bundle.audit.membership_audit import Target, audit_membership, summarize
from bundle.audit.membership_queries import ADVERSARIAL, GRADIENT, ask, wall_scores
from bundle.site.release import ReleasePolicy

SIZE = 8


def smooth(count, generator):
    rough = torch.rand(count, 1, SIZE, SIZE, generator=generator) * 2 - 1
    return torch.nn.functional.avg_pool2d(rough, 3, 1, 1)


def candidates(patients=12, slices=4, seed=0):
    """Half of the patients are members; two sites; a slice is its patient's image and something of its own."""
    generator = torch.Generator().manual_seed(seed)
    count = patients * slices
    own = smooth(patients, generator).repeat_interleave(slices, 0)
    images = 0.5 * own + 0.5 * smooth(count, generator)
    conditions = torch.randint(0, 2, (count, 2, SIZE, SIZE), generator=generator, dtype=torch.uint8)
    of = np.repeat(np.arange(patients), slices)
    holders = tuple("AB"[p % 2] for p in of)
    return Candidates(images, conditions, holders, holders, tuple(f"{'AB'[p % 2]}/{p}" for p in of), of < patients // 2)


def memorised(found):
    """A generator that knows the members' images by their conditions, and for others draws grey."""
    known = {x.numpy().tobytes(): y for x, y, m in zip(found.conditions, found.images, found.member, strict=True) if m}
    grey = torch.zeros(1, SIZE, SIZE)
    return lambda x: torch.stack([known.get(one.to(torch.uint8).numpy().tobytes(), grey) for one in x])


def grey(x):
    return torch.zeros(len(x), 1, SIZE, SIZE)


def target(found, generate=grey, synthetic=None, released=None):
    trained = {site.name: site for site in sites()}
    untrained = {name: deepcopy(site.critic.discriminator) for name, site in trained.items()}
    return Target(generate, trained, synthetic, released, grey, untrained)


def test_a_generator_that_copies_is_caught_and_its_controls_are_not():
    found = candidates()
    copies = found.images[found.member]
    copies = copies + 0.02 * torch.randn(copies.shape, generator=torch.Generator().manual_seed(1))
    aim = target(found, memorised(found), copies, found.conditions[found.member])
    results = summarize(audit_membership(found, aim, wall_slices=1, shift=1))
    for name in ("nearest", "nearest, calibrated", "nearest at 32×32", "reconstruction", "released conditions"):
        assert results[name]["overall"]["auc"] > 0.99, name
        assert results[name]["overall"]["tpr"] > 0.9, name
        assert all(site["auc"] > 0.99 for site in results[name]["sites"].values())
    assert results["reconstruction, calibrated"]["overall"]["auc"] > 0.99
    for name in ("nearest", "reconstruction", "reconstruction, calibrated"):
        assert results[name]["control"] in results
        assert results[name]["excess"]["interval"][0] > 0.2, name
    for name in ("control, nearest real image of others", "control, untrained generator"):
        low, high = results[name]["overall"]["interval"]
        assert low < 0.5 < high, name
    assert results["wall, image gradient"]["overall"]["member_slices"] == 6  # one of every patient


def test_a_generator_that_knows_nobody_is_not_accused():
    found = candidates(patients=48)
    others = candidates(patients=48, seed=5)
    results = summarize(audit_membership(found, target(found, grey, others.images), wall_slices=1, shift=1))
    for name, result in results.items():
        low, high = result["overall"]["interval"]
        assert low < 0.5 < high, name
    for name in ("nearest", "reconstruction", "reconstruction, calibrated", "discriminator"):
        low, high = results[name]["excess"]["interval"]
        assert low <= 0 <= high, name
    assert "released conditions" not in results
    assert not any(name.startswith("nearest") for name in summarize(audit_membership(found, target(found), 1, shift=1)))


def test_the_nearest_distance_is_the_root_mean_square_to_the_nearest():
    images, references = torch.zeros(2, 1, 2, 2), torch.tensor([3.0, -1.0, 2.0]).reshape(3, 1, 1, 1).expand(3, 1, 2, 2)
    np.testing.assert_allclose(nearest_distances(images, references, block=2), [1, 1])
    # without the references of a patient
    found = nearest_distances(images, references, ["b", "a"], ["a", "b", "b"], block=2)
    np.testing.assert_allclose(found, [3, 1])
    with pytest.raises(ValueError, match="no reference of another patient"):
        nearest_distances(images, references, ["a", "b"], ["a", "a", "a"])
    with pytest.raises(ValueError, match="expected images of one shape"):
        nearest_distances(images, references[..., :1])


def test_every_candidate_has_references_of_equally_many_patients():
    found = candidates()
    left_out = left_out_patients(found, 0)
    outsiders = {p for p, m in zip(found.patients, found.member, strict=True) if not m}
    for patient, other, member, site in zip(found.patients, left_out, found.member, found.sites, strict=True):
        assert other in outsiders
        assert other.startswith(site) if member else other == patient
    # all slices of a patient have the same
    assert len(set(zip(found.patients, left_out, strict=True))) == len(set(found.patients))


def test_what_is_moved_is_moved_together():
    found = candidates()
    images = found.conditions[:, :1].float()
    copy = lambda x: x[:, :1].float()  # noqa: E731
    assert reconstruction_errors(images, found.conditions, copy).max() == 0
    assert shifted_errors(images, found.conditions, copy, 2).max() == 0
    assert shifted_errors(images, found.conditions, lambda x: images[: len(x)], 2, 100).min() > 0


def test_discriminators_are_asked_by_their_own_site():
    found = candidates()

    class Constant(torch.nn.Module):
        def __init__(self, value):
            super().__init__()
            self.value = value

        def forward(self, x):
            return [x, torch.full((len(x), 1, 2, 2), self.value) + x.mean(dim=(1, 2, 3), keepdim=True)]

    scores = discriminator_scores(found, {"A": Constant(10.0), "B": Constant(-10.0)}, batch_size=5)
    both = torch.cat([found.conditions.float(), found.images], 1).mean(dim=(1, 2, 3)).numpy()
    expected = both + np.where(np.array(found.holders) == "A", 10.0, -10.0)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    with pytest.raises(ValueError, match=r"no discriminator of site B: there are those of \['A'\]"):
        discriminator_scores(found, {"A": Constant(0.0)})


def test_a_question_through_the_wall_leaves_no_trace():
    found = candidates(patients=4, slices=1)
    asked = {site.name: site for site in sites()}
    for site in asked.values():
        ask(site, torch.zeros(1, SIZE, SIZE), found.conditions[0])
    before = {name: deepcopy(site.state_dict()) for name, site in asked.items()}
    scores = wall_scores(found, asked)
    for name, site in asked.items():
        assert site.trained == before[name]["trained"] == 1
        for key, value in site.critic.discriminator.state_dict().items():
            assert torch.equal(value, before[name]["discriminator"][key])
    # so the order of the questions is nothing
    turned = wall_scores(found.take([3, 2, 1, 0]), asked)
    for name in (ADVERSARIAL, GRADIENT):
        np.testing.assert_array_equal(scores[name], turned[name][::-1])
    reply = ask(asked[found.holders[0]], found.images[0], found.conditions[0])
    assert scores[ADVERSARIAL][0] == -reply.losses["adversarial"]
    assert scores[GRADIENT][0] == -torch.linalg.vector_norm(reply.image_gradient.double()).item()
    with pytest.raises(ValueError, match=r"no site B: there are \['A'\]"):
        wall_scores(found, {"A": asked["A"]})


@pytest.mark.parametrize("policy", ["guarded", "private"])
def test_every_question_is_a_servers_first_one(policy):
    found = candidates(patients=4, slices=3)
    rules = ReleasePolicy.make({"policy": policy, "max_releases": 40, "max_issues": 80})
    asked = {site.name: site for site in sites(l1_weight=0.0, policy=rules, num_steps=40)}
    scores = wall_scores(found, asked, 40)
    assert all(site.gate.releases == 1 for site in asked.values())
    assert {len(of) for of in scores.values()} == {12}
    assert (ADVERSARIAL in scores) == rules.scalar_losses


def test_candidates_say_whose_they_are():
    class Samples(RandomSamples):
        def __getitem__(self, index):
            return super().__getitem__(index) | {"case": f"case{index // 3}"}

    items = {"A": [{"case": f"case{i}", "site": "A", "patient": f"p{i // 2}"} for i in range(4)]}
    found = gather({"A": Samples("A", 12)}, items, True)
    assert found.patients == ("A/p0",) * 6 + ("A/p1",) * 6
    assert found.member.all()
    few = gather({"A": Samples("A", 12)}, items, True, per_patient=3)
    assert torch.equal(few.images, found.images[[0, 2, 5, 6, 8, 11]])
    with pytest.raises(ValueError, match=r"images of candidates: expected one shape, got \[\(1, 4, 4\), \(1, 8, 8\)\]"):
        Candidates.joined([found, gather({"A": Samples("A", 12, size=4)}, items, False)])


def test_an_audit_needs_both_kinds():
    found = candidates()
    with pytest.raises(ValueError, match="expected members and non-members"):
        audit_membership(found.take(np.flatnonzero(found.member).tolist()), target(found))
