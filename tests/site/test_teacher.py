"""What a site's teacher predicts leaves beside its conditions, and knows nothing of their patients' images."""

import json

import pytest
import torch
from patients import Patients, answers, fast, make, teacher, with_noise

import bundle.site.site as room
from bundle.checkpoints import CheckpointError
from bundle.site import SiteStore
from bundle.site.release import PolicyError, ReleasePolicy, summarize
from bundle.wire import Codec
from bundle.wire.messages import ConditionBatch, ConditionRequest, TaughtBatch

POLICY = "out_of_fold"


def released(site, count=12):
    return site.conditions(ConditionRequest("A", 0, count))


@pytest.mark.parametrize("patient", ["p0", "p2", "p5"])
def test_what_is_predicted_for_a_patient_has_not_seen_the_patient(patient):
    samples = Patients("A", 12)
    ours, theirs = (released(make(one, POLICY)) for one in (samples, with_noise(samples, patient)))
    own = [index for index in range(12) if samples.origin(index)[0] == patient]
    assert ours.images[own].numpy().tobytes() == theirs.images[own].numpy().tobytes()
    assert Codec().encode(TaughtBatch("A", 0, ours.conditions[own], ours.images[own])) == Codec().encode(
        TaughtBatch("A", 0, theirs.conditions[own], theirs.images[own])
    )
    assert not torch.equal(ours.images, theirs.images), "they are what others are predicted by"


def test_a_teacher_learns_and_what_leaves_is_float16():
    samples = Patients("A", 12)
    samples.image = samples.condition[:, :1].float() * 1.6 - 0.8
    few, many = (released(make(samples, POLICY, teacher=teacher(steps, optimizer=fast))) for steps in (1, 100))
    errors = [(batch.images - samples.image).abs().mean().item() for batch in (few, many)]
    assert errors[1] < 0.2 < 0.5 < errors[0]
    assert torch.equal(many.images, many.images.half().float())
    assert many.images.abs().max() <= 1
    for codec in (Codec(), Codec(from_sites="int8", compression="zstd")):
        assert torch.equal(codec.decode(codec.encode(many)).images, many.images)


def test_the_ledger_counts_the_images(tmp_path):
    site = make(Patients("A", 12), POLICY, ledger=lambda name: tmp_path / f"{name}.jsonl")
    first = released(site, 5)
    site.gate.close()
    lines = [json.loads(line) for line in (tmp_path / "A.jsonl").read_text(encoding="utf-8").splitlines()]
    (part,) = (part for line in lines for part in line.get("parts", ()) if part["what"] == "teacher images")
    assert part == {"what": "teacher images", "shape": [5, 1, 8, 8], "dtype": "float16", "bytes": 2 * 5 * 64}
    assert "predicted by networks that have not seen the patient): 5" in summarize(tmp_path / "A.jsonl")
    # another training, of another seed, predicts the same again
    again = make(Patients("A", 12), POLICY, ledger=lambda name: tmp_path / f"{name}.jsonl", seed=5)
    assert torch.equal(released(again, 5).images, first.images)
    again.gate.close()


def test_a_trained_teacher_is_kept(tmp_path, monkeypatch):
    def made(secret=3):
        return make(Patients("A", 12), POLICY, secret, store=lambda name: SiteStore(tmp_path / name))

    first = released(made())
    assert len(list((tmp_path / "A").glob("teacher_*.pt"))) == 3
    damaged = tmp_path / "A" / "teacher_1.pt"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    trained = []
    site = made()
    train = site.teacher._train
    monkeypatch.setattr(site.teacher, "_train", lambda fold: trained.append(fold) or train(fold))
    assert torch.equal(released(site).images, first.images)
    assert trained == [1]
    with pytest.raises(CheckpointError, match="folds"):
        released(made(secret=4))


def test_large_images_come_in_several_messages(monkeypatch):
    monkeypatch.setattr(room, "MAX_TAUGHT_BYTES", 4 * 64 * 5)
    site = make(Patients("A", 12), POLICY)
    sizes = [len(site.conditions(ConditionRequest("A", start, 12)).images) for start in (0, 5, 10)]
    assert sizes == [5, 5, 2]
    assert type(site.conditions(ConditionRequest("A", 12, 20))) is ConditionBatch


def test_no_other_policy_has_images_leave():
    for policy in ("guarded", "published", {"policy": "guarded", "folds": 2}):
        assert type(released(make(Patients("A", 12), policy))) is ConditionBatch


def test_what_is_no_image_does_not_leave(tmp_path):
    for spoilt, text in ((lambda x: x * torch.nan, "not finite"), (lambda x: x[..., :4], r"\(1, 8, 4\)")):
        site = make(Patients("A", 12), POLICY, ledger=lambda name: tmp_path / f"{name}.jsonl")
        site.teacher._prediction_inferer = lambda x, network, spoilt=spoilt: spoilt(network(x))
        with pytest.raises(RuntimeError, match=text):
            released(site)
        site.gate.close()
    assert "teacher images" not in (tmp_path / "A.jsonl").read_text(encoding="utf-8")


def test_it_is_trained_before_the_first_leaves_and_not_by_steps():
    site = make(Patients("A", 12), POLICY)
    answers(site, 1, 2)
    assert site.teacher._trained == {}
    # and changes nothing of what the critics do
    other = make(Patients("A", 12), POLICY)
    released(other)
    first, second = (answers(one, 3, 4) if one is site else answers(one, 1, 4)[2:] for one in (site, other))
    assert all(torch.equal(a.image_gradient, b.image_gradient) for a, b in zip(first, second, strict=True))


def test_a_policy_with_a_teacher_needs_one_and_folds():
    with pytest.raises(ValueError, match=r"has a teacher, and the training defines none \(teacher\)"):
        make(Patients("A", 12), POLICY, teacher=None)
    with pytest.raises(ValueError, match="teacher_steps"):
        make(Patients("A", 12), POLICY, teacher=teacher(0))
    for value, text in (
        ({"policy": "guarded", "teacher": True}, "folds: expected a number where there is a teacher"),
        ({"policy": "out_of_fold", "num_samples": "rounded"}, "num_samples: expected exact where there is a teacher"),
        ({"policy": "out_of_fold", "teacher": "yes"}, "teacher: expected true or false"),
    ):
        with pytest.raises(PolicyError, match=text):
            ReleasePolicy.make(value)
