"""The paired term at the server: what it compares, what it adds to a step, and what it takes from a site."""

import logging

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from patients import Flip, Patients, fast, make, teacher
from small_sites import generator

from bundle.server import (
    ConditionCollector,
    DistributedGanTrainer,
    LocalFederation,
    PairedTerm,
    read_conditions,
    read_teacher_images,
    write_conditions,
    write_teacher_images,
)
from bundle.wire.guards import Violation, check_released
from bundle.wire.messages import ConditionBatch, ConditionRequest, TaughtBatch

STEPS = 8


def federation(policy="out_of_fold", other="guarded"):
    return LocalFederation([make(Patients("A", 12), policy), make(Patients("B", 8), other, name="B")])


def train(folder, fed, steps=STEPS, weight=10.0, network=None, augmentation=None, **kwargs):
    torch.manual_seed(0)
    network = generator() if network is None else network
    files = folder / "conditions.npz", folder / "teacher.npz"
    paired = PairedTerm(*files, weight, Flip() if augmentation is None else augmentation)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    collector = ConditionCollector(fed, str(files[0]), chunk=5, images_path=str(files[1]), image_channels=1)
    trainer = DistributedGanTrainer("cpu", 1, steps, fed, network, optimizer, paired=paired, **kwargs)
    collector.attach(trainer)
    trainer.run()
    return trainer


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.generator.parameters()])


def test_images_are_kept_beside_the_conditions_of_sites_that_have_a_teacher(tmp_path):
    train(tmp_path, federation(), 1)
    conditions, images = read_conditions(tmp_path / "conditions.npz"), read_teacher_images(tmp_path / "teacher.npz")
    assert {site: len(found) for site, found in conditions.items()} == {"A": 12, "B": 8}
    assert {site: len(found) for site, found in images.items()} == {"A": 12}
    site = make(Patients("A", 12), "out_of_fold")
    assert np.array_equal(np.stack(images["A"]), site.conditions(ConditionRequest("A", 0, 12)).images.numpy())


def test_every_condition_of_every_step_has_its_image(tmp_path):
    """A step's conditions are flipped as their draw says, and so are the images."""
    trainer = train(tmp_path, federation(), 1)
    images = np.stack(read_teacher_images(tmp_path / "teacher.npz")["A"]).astype(np.float32)
    site = make(Patients("A", 12), "out_of_fold")
    for step in range(1, 20):
        conditions = site.draw(step)["condition"]
        expected = []
        for index, condition in zip(site._indices(step), conditions, strict=True):
            image = torch.from_numpy(images[index])
            expected.append(image if torch.equal(condition, site.samples.condition[index]) else image.flip(-1))
        made = torch.rand(2, 1, 8, 8)
        loss = trainer.paired.loss("A", step, conditions, made)
        assert torch.equal(loss, F.l1_loss(made, torch.stack(expected)))
        assert trainer.paired.loss("B", step, conditions, made) is None


def test_a_step_adds_the_weighted_term_of_each_site_by_its_share(tmp_path):
    plain, paired = (train(tmp_path / name, federation(), 1, weight) for name, weight in (("a", 0.0), ("b", 3.0)))
    torch.manual_seed(0)
    network = generator()
    conditions = make(Patients("A", 12), "out_of_fold").draw(1)["condition"]
    loss = paired.paired.loss("A", 1, conditions, network(conditions.float()))
    gradients = torch.autograd.grad(12 / 20 * 3.0 * loss, list(network.parameters()))
    expected = weights(plain) - 0.1 * torch.cat([g.flatten() for g in gradients])
    torch.testing.assert_close(weights(paired), expected)
    assert paired.state.output[0]["losses"]["A"]["paired"] == pytest.approx(loss.item())
    assert set(paired.state.output[0]["losses"]["B"]) == {"adversarial", "discriminator"}
    assert "paired" not in plain.state.output[0]["losses"]["A"]
    assert (plain.paired.describe(), paired.paired.describe()) == ("", " + 3·L1 to a teacher")


def test_the_generator_comes_near_the_teacher(tmp_path):
    samples = Patients("A", 12)
    samples.image = samples.condition[:, :1].float() * 1.6 - 0.8
    found = []
    for steps in (1, 100):
        fed = LocalFederation([make(samples, "out_of_fold", teacher=teacher(60, optimizer=fast))])
        found.append(train(tmp_path / str(steps), fed, steps, 10.0).state.output[0]["losses"]["A"]["paired"])
    assert found[1] < 0.3 < 0.5 < found[0]


def test_without_a_teacher_nothing_changes(tmp_path):
    first, second = (train(tmp_path / n, federation("guarded"), 4, weight) for n, weight in (("a", 0.0), ("b", 10.0)))
    assert torch.equal(weights(first), weights(second))
    assert not (tmp_path / "b/teacher.npz").exists()


def test_samples_that_are_varied_otherwise_have_no_term_and_the_log_says_so(tmp_path, caplog):
    class Other(Flip):
        def __call__(self, sample):
            return {key: value.flip(-2) for key, value in sample.items()}

    with caplog.at_level(logging.WARNING):
        trainer = train(tmp_path, federation(), 3, augmentation=Other())
    assert "paired" not in trainer.state.output[0]["losses"]["A"]
    assert sum("are not those that its teacher's images are of" in record.message for record in caplog.records) == 1


def test_a_training_resumes_with_the_same_bits(tmp_path):
    whole = train(tmp_path / "whole", federation(), STEPS)
    fed = federation()
    half = train(tmp_path / "halves", fed, 4)
    after = federation()
    after.load_state_dict(fed.state_dict())
    torch.manual_seed(0)
    network = generator()
    network.load_state_dict(half.generator.state_dict())
    folder = tmp_path / "halves"
    paired = PairedTerm(folder / "conditions.npz", folder / "teacher.npz", 10.0, Flip())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    trainer = DistributedGanTrainer("cpu", 1, STEPS, after, network, optimizer, paired=paired)
    trainer.state.iteration = 4
    trainer.state.max_epochs = 1
    for _ in range(4):
        trainer.state.iteration += 1
        trainer._step(trainer.state.iteration)
    assert torch.equal(weights(trainer), weights(whole))


MASKS = torch.ones(3, 2, 8, 8, dtype=torch.uint8)
IMAGES = torch.zeros(3, 1, 8, 8)


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (torch.zeros(2, 1, 8, 8), r"shape \(3, 1, 8, 8\), got torch.float32 \(2, 1, 8, 8\)"),
        (torch.zeros(3, 1, 8, 4), r"got torch.float32 \(3, 1, 8, 4\)"),
        (torch.zeros(3, 3, 8, 8), r"got torch.float32 \(3, 3, 8, 8\)"),
        (torch.zeros(3, 64), "teacher's images: expected"),
        (torch.empty(0), "teacher's images: expected"),
        (IMAGES.to(torch.uint8), "expected torch.float32"),
        (IMAGES.double(), "expected torch.float32"),
        (IMAGES + 1.01, r"from 1.01 to 1.01, expected \[-1, 1\]"),
        (IMAGES + torch.nan, "from nan"),
        (IMAGES - torch.inf, "from -inf"),
        ("images", "got a str"),
    ],
)
def test_what_is_no_image_of_a_teacher_is_refused(images, text):
    check_released(TaughtBatch("A", 0, MASKS, IMAGES), ConditionRequest("A", 0, 3), 1)
    with pytest.raises(Violation, match=text):
        check_released(TaughtBatch("A", 0, MASKS, images), ConditionRequest("A", 0, 3), 1)


def test_images_without_conditions_are_refused():
    with pytest.raises(Violation, match="teacher's images without conditions"):
        check_released(TaughtBatch("A", 0, MASKS[:0], IMAGES), ConditionRequest("A", 0, 3))
    with pytest.raises(Violation, match="expected 0 and 1"):
        check_released(TaughtBatch("A", 0, MASKS + 1, IMAGES), ConditionRequest("A", 0, 3))


def test_images_for_some_conditions_are_a_strike_and_leave_no_file(tmp_path):
    fed = federation(other="out_of_fold")
    honest = fed.site("A").conditions

    def some(request):
        batch = honest(request)
        return ConditionBatch(batch.site, batch.start, batch.conditions) if request.start else batch

    fed.site("A").conditions = some
    trainer = train(tmp_path, fed, 2)
    assert trainer.state.sites["A"]["strikes"] == 1
    assert set(read_teacher_images(tmp_path / "teacher.npz")) == {"B"}


def test_files_that_hold_something_else(tmp_path):
    path = tmp_path / "teacher.npz"
    for image, text in (
        (np.zeros((2, 2)), "A/0 is float16"),
        (np.full((1, 2, 2), 1.5), "beyond -1 and 1"),
        (np.full((1, 2, 2), np.nan), "beyond -1 and 1"),
    ):
        write_teacher_images(path, {"A": [image]})
        with pytest.raises(ValueError, match=text):
            read_teacher_images(path)
    path.write_bytes(b"no file")
    with pytest.raises(ValueError, match="expected NumPy's"):
        read_teacher_images(path)
    write_teacher_images(path, {"A": [np.zeros((1, 8, 8))] * 2})
    write_conditions(tmp_path / "c.npz", {"A": [np.zeros((2, 8, 8), np.uint8)] * 3})
    with pytest.raises(ValueError, match="the images of site A are not those of the conditions"):
        PairedTerm(tmp_path / "c.npz", path).loss("A", 1, MASKS, IMAGES)
    with pytest.raises(ValueError, match="paired_weight"):
        PairedTerm("c", "t", -1.0)
