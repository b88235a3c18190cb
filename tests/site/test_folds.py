"""Critics in folds: nothing that answers for a patient's condition has seen that patient's images."""

import json
from collections import Counter

import pytest
import torch
from patients import FOLDED, Patients, answers, images, make, with_noise

from bundle.server import LocalFederation
from bundle.site import Folds
from bundle.site.release import ReleaseGate, ReleasePolicy, ReleaseRefused
from bundle.wire.fold_losses import of_all_folds
from bundle.wire.guards import Violation, check_reply
from bundle.wire.messages import SyntheticBatch

STEPS = 18


def of_patient(site, replies, patient):
    """All that left in answer to this patient's conditions: gradients, and the losses of the patient's fold."""
    found = []
    for reply in replies:
        indices = site._indices(reply.step)
        for place, index in enumerate(indices):
            if site.samples.origin(index)[0] == patient:
                order = list(dict.fromkeys(site.critic.folds.of_samples[i] for i in indices))
                number = 1 + order.index(site.critic.folds.of_samples[index])
                found.append((reply.image_gradient[place].numpy().tobytes(), reply.losses[f"adversarial.{number}"]))
    return found


@pytest.mark.parametrize("patient", ["p0", "p3", "p5"])
@pytest.mark.parametrize("updates", [None, 1, 6])
def test_what_answers_for_a_patient_has_not_seen_the_patient(patient, updates):
    samples = Patients("A", 12)
    plain, other = (make(one, updates=updates) for one in (samples, with_noise(samples, patient)))
    replies, others = answers(plain, 1, STEPS), answers(other, 1, STEPS)
    ours = of_patient(plain, replies, patient)
    assert len(ours) >= 4
    assert ours == of_patient(other, others, patient)
    # the images are not unused: they answer for others
    assert any(not torch.equal(a.image_gradient, b.image_gradient) for a, b in zip(replies, others, strict=True))


def test_under_guarded_a_patients_own_images_answer():
    """The counter-example: the same test fails without folds."""
    samples = Patients("A", 12)
    plain, other = (make(one, "guarded") for one in (samples, with_noise(samples, "p0")))
    differ = []
    for a, b in zip(answers(plain, 1, STEPS), answers(other, 1, STEPS), strict=True):
        for place, index in enumerate(plain._indices(a.step)):
            if samples.origin(index)[0] == "p0":
                differ.append(not torch.equal(a.image_gradient[place], b.image_gradient[place]))
    assert any(differ)


def test_a_critic_sees_other_folds_real_images_and_conditions_only():
    samples = Patients("A", 12)
    site = make(samples)
    site.critic.folds.of_samples  # noqa: B018, before anything is counted
    seen = Counter()
    for fold, critic in enumerate(site.critic.critics):
        update = critic.update

        def spied(real, synthetic, step, fold=fold, update=update):
            for condition in (*real[0], *synthetic[0]):
                # a draw may have been flipped
                found = [
                    i
                    for i in range(12)
                    if any(torch.equal(samples.condition[i].float(), c) for c in (condition, condition.flip(-1)))
                ]
                seen.update((fold, site.critic.folds.of_samples[i]) for i in found)
            return update(real, synthetic, step)

        critic.update = spied
    answers(site, 1, STEPS)
    assert {pair for pair in seen if pair[0] == pair[1]} == set()
    assert {pair[0] for pair in seen} == {0, 1, 2}


def test_updates_are_given_in_turn_and_their_number_is_the_configs():
    for updates, expected in ((1, 3), (None, 9), (6, 18)):
        site = make(Patients("A", 12), updates=updates, batch_size=8)
        info = site.open(1)
        counts = Counter()
        for fold, critic in enumerate(site.critic.critics):
            update = critic.update
            critic.update = lambda *a, f=fold, u=update, c=counts: c.update([f]) or u(*a)
        nonce = info.nonce
        for step in (1, 2, 3):
            nonce = site.step(SyntheticBatch("A", step, images(step).repeat(4, 1, 1, 1), nonce)).nonce
        assert sum(counts.values()) == expected
        assert set(counts.values()) == {expected // 3}
    with pytest.raises(ValueError, match="discriminator_updates: expected at least 1"):
        make(Patients("A", 12), updates=0)


def test_with_one_critic_for_all_the_gradient_is_that_of_the_batch():
    site = make(Patients("A", 12), batch_size=4)
    site.critic.critics[:] = [site.critic.critics[0]] * 3
    site.critic.critics[0].augmentation = None
    batch, condition = images(0).repeat(2, 1, 1, 1), site.draw(1)["condition"].float()
    gradient, losses = site.critic.of(site._indices(1)).gradient(condition, batch, batch)
    expected, terms = site.critic.critics[0].gradient(condition, batch, batch)
    assert torch.allclose(gradient, expected, atol=1e-7)
    assert set(losses) <= {"adversarial.1", "adversarial.2", "adversarial.3"}
    assert terms["adversarial"] == pytest.approx(sum(losses.values()) / len(losses), abs=0.2)


def test_folds_are_balanced_and_a_patient_is_in_one():
    site = make(Patients("A", 16), {"policy": "guarded", "folds": 4})
    of = site.critic.folds.of_samples
    assert all(of[index] == of[index + 1] for index in range(0, 16, 2))
    assert Counter(of) == dict.fromkeys(range(4), 4)
    assert of != make(Patients("A", 16), {"policy": "guarded", "folds": 4}, secret=4).critic.folds.of_samples


@pytest.mark.parametrize(("patients", "expected"), [(2, 2), (3, 2), (4, 2), (5, 2), (6, 3), (20, 3)])
def test_few_patients_take_fewer_folds(patients, expected):
    site = make(Patients("A", 2 * patients))
    assert site.critic.folds.count == len(site.critic.critics) == expected
    assert set(site.critic.folds.of_samples) == set(range(expected))


def test_a_site_with_a_single_patient_is_refused(tmp_path):
    with pytest.raises(ReleaseRefused, match=r"the site has a single patient \(folds\); guarded does"):
        make(Patients("A", 2), ledger=lambda name: tmp_path / f"{name}.jsonl")
    assert "forbids" in (tmp_path / "A.jsonl").read_text(encoding="utf-8")


def test_folds_stay_for_the_life_of_a_ledger(tmp_path):
    def made(count, folds=2):
        return make(Patients("A", 2 * count), {**FOLDED, "folds": folds}, ledger=lambda name: tmp_path / "A.jsonl")

    def fold_of(site):
        try:
            site.open(1)
            return site.critic.folds.of_samples
        finally:
            site.gate.close()

    first = fold_of(made(6))
    assert fold_of(made(6)) == first
    (tmp_path / "A.secret").unlink()
    more = fold_of(made(8))
    assert more[:12] == first
    assert Counter(more) == {0: 8, 1: 8}
    with pytest.raises(ReleaseRefused, match="its ledger holds 2 folds of its patients, and they would be 3 now"):
        fold_of(made(8, folds=3))
    lines = [json.loads(line) for line in (tmp_path / "A.jsonl").read_text(encoding="utf-8").splitlines()]
    written = [line for line in lines if line["kind"] == "folds"]
    assert [len(line["patients"]) for line in written] == [6, 2]
    assert not any("p0" in str(line) for line in written)


def test_a_site_goes_on_where_it_was():
    whole = answers(make(Patients("A", 12)), 1, STEPS)
    first = make(Patients("A", 12))
    answers(first, 1, 4)
    second = make(Patients("A", 12))
    second.load_state_dict(first.state_dict())
    for a, b in zip(whole[4:], answers(second, 5, STEPS), strict=True):
        assert torch.equal(a.image_gradient, b.image_gradient)
        assert a.losses == b.losses


def test_a_checkpoint_of_other_folds_is_refused():
    first = make(Patients("A", 12))
    answers(first, 1, 2)
    with pytest.raises(ValueError, match="was made with other folds of its patients"):
        make(Patients("A", 12), secret=4).load_state_dict(first.state_dict())
    with pytest.raises(ValueError, match="other folds"):
        make(Patients("A", 12), "guarded").load_state_dict(first.state_dict())


def test_no_loss_of_a_reply_mixes_folds():
    site = make(Patients("A", 12))
    replies = answers(site, 1, STEPS)
    for reply in replies:
        folds = {site.critic.folds.of_samples[index] for index in site._indices(reply.step)}
        assert set(reply.losses) == {f"adversarial.{number}" for number in range(1, len(folds) + 1)}
        sent = SyntheticBatch("A", reply.step, images(reply.step))
        check_reply(reply, sent, reply.conditions)
    assert of_all_folds({"adversarial.1": 1.0, "adversarial.2": 3.0}) == {"adversarial": 2.0}
    assert of_all_folds({"adversarial": 1.0, "l1": 2.0}) == {"adversarial": 1.0, "l1": 2.0}
    assert of_all_folds({}) == {}
    with pytest.raises(Violation, match="'adversarial' among them"):
        check_reply(type(reply)(**vars(reply) | {"losses": {"adversarial.2": 1.0}}), sent, reply.conditions)


def test_a_federation_of_both_kinds_of_sites_trains_and_resumes():
    def made():
        return LocalFederation([make(Patients("A", 12))])

    one, other = made(), made()
    answers(one.site("A"), 1, 3)
    other.load_state_dict(one.state_dict())
    assert other.site("A").trained == 3


def test_folds_need_a_policy_that_has_some():
    gate = ReleaseGate(ReleasePolicy.make("guarded"), "A")
    with pytest.raises(ValueError, match="its release policy has no folds"):
        Folds(Patients("A", 4), gate)
