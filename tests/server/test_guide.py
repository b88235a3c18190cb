"""A generator that sees the teacher's image of a condition: what it is given, in training and when it draws."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.transforms import Compose, RandFlipd
from patients import Patients, make
from test_paired_term import federation, train, weights

from bundle.engines import SeededBatch
from bundle.server import ConditionBank, DistributedGanTrainer, LocalFederation, TaughtImages, write_teacher_images


class Recorded(torch.nn.Module):
    """Of conditions X and an image, keeps what it was given."""

    def __init__(self, channels=2, guide=1):
        super().__init__()
        self.layer = torch.nn.Conv2d(channels + guide, 1, 1)
        self.seen = []

    def forward(self, x):
        self.seen.append(x.detach().clone())
        return torch.tanh(self.layer(x))


def guided(folder, fed, steps=1, weight=10.0, **kwargs):
    return train(folder, fed, steps, weight, Recorded(), guided=True, modalities=["flair"], **kwargs)


def test_it_sees_what_its_images_are_compared_with(tmp_path):
    trainer = guided(tmp_path, federation(), steps=6)
    seen = trainer.generator.seen
    assert len(seen) == 12
    for step in range(1, 7):
        of_site_b, of_site_a = seen[2 * step - 2 : 2 * step]
        conditions, guide = of_site_a[:, :2], of_site_a[:, 2:]
        made = torch.rand(guide.shape)
        assert torch.equal(trainer.paired.loss("A", step, conditions.to(torch.uint8), made), F.l1_loss(made, guide))
        assert guide.abs().max() > 0
        assert not of_site_b[:, 2:].any(), "B has no teacher"


@pytest.mark.parametrize("kept", [{"sites_per_step": 1}, {"staleness": 1}])
def test_conditions_that_were_issued_for_another_step_have_theirs(tmp_path, kept):
    waits = "sites_per_step" in kept
    sites = [make(Patients(name, 12), "out_of_fold", name=name, waits=waits) for name in ("A", "B")]
    trainer = guided(tmp_path, LocalFederation(sites), steps=8, **kept)
    assert len(trainer.generator.seen) >= 8
    assert all(image.any() for images in trainer.generator.seen for image in images[:, 2:])


def test_the_guide_does_not_hang_on_the_paired_term(tmp_path):
    first, second = (guided(tmp_path / str(weight), federation(), 3, weight) for weight in (0.0, 10.0))
    for one, other in zip(first.generator.seen, second.generator.seen, strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(weights(first), weights(second))


def test_a_training_without_any_teacher_ends_before_its_first_step(tmp_path):
    with pytest.raises(ValueError, match="generator_guide: no site has a teacher whose images G could see"):
        guided(tmp_path, federation("guarded"))


def test_what_guides_and_its_channels_have_to_be_named():
    fed = LocalFederation([make(Patients("A", 12), "out_of_fold")])
    network = Recorded()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="guided: expected paired"):
        DistributedGanTrainer("cpu", 1, 1, fed, network, optimizer, guided=True, modalities=["flair"])


def test_a_site_that_lacks_a_modality_is_refused():
    class Taught:
        pass

    fed = LocalFederation([make(Patients("A", 12), "out_of_fold")])
    network = Recorded(guide=2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    given = {"paired": Taught(), "guided": True, "modalities": ["flair", "t1"]}
    trainer = DistributedGanTrainer("cpu", 1, 1, fed, network, optimizer, **given)
    trainer.channels._own["A"] = [1]
    with pytest.raises(ValueError, match="generator_guide: site A lacks a modality"):
        trainer._guide(None, "A")


@pytest.fixture
def released(tmp_path):
    rng = np.random.default_rng(0)
    conditions = rng.integers(0, 2, (6, 2, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "conditions.npz", **{f"A/{number}": one for number, one in enumerate(conditions)})
    images = (conditions[:, :1] * 0.5 - 0.25).astype(np.float16)
    write_teacher_images(tmp_path / "teacher.npz", {"A": list(images)})
    return str(tmp_path / "conditions.npz"), str(tmp_path / "teacher.npz")


@pytest.mark.parametrize("flip", [0.0, 0.5, 1.0])
def test_where_it_draws_guide_and_label_map_are_moved_alike(released, flip):
    augmentation = Compose([RandFlipd(keys="image", prob=flip, spatial_axis=0)])
    given = {"copies": 3, "augmentation": augmentation, "transform_first": True}
    bank = ConditionBank(released[0], **given, guide=TaughtImages(*released))
    plain = ConditionBank(released[0], **given)
    for item, other in zip(bank, plain, strict=True):
        assert item["image"].dtype == other["image"].dtype == torch.uint8
        assert torch.equal(item["image"], other["image"])
        torch.testing.assert_close(item["guide"], item["image"][:1] * 0.5 - 0.25)
    batch = torch.utils.data.default_collate([bank[0], bank[5]])
    inputs, _ = SeededBatch(0, active=False)(batch)
    assert torch.equal(inputs, torch.cat([batch["image"].float(), batch["guide"]], dim=1))
    assert torch.equal(SeededBatch(0)(batch)[0], inputs)


def test_where_a_bent_map_leaves_the_frame_the_guide_is_background(released):
    class Away:
        def set_random_state(self, seed=None):
            return self

        def __call__(self, item):
            return item | {"image": torch.zeros_like(item["image"])}

    item = ConditionBank(released[0], augmentation=Away(), transform_first=True, guide=TaughtImages(*released))[0]
    assert not item["image"].any()
    assert torch.equal(item["guide"], torch.full((1, 8, 8), -1.0))


def test_of_a_site_without_a_teacher_it_is_drawn_as_it_was_trained(released, caplog):
    own = np.ones((1, 2, 8, 8), np.uint8)
    np.savez(released[0], **dict(np.load(released[0])), **{"B/0": own[0]})
    always = Compose([RandFlipd(keys="image", prob=1.0, spatial_axis=0)])
    bank = ConditionBank(released[0], augmentation=always, transform_first=True, guide=TaughtImages(*released))
    assert caplog.messages == ["site B has no teacher: images of its conditions are drawn without a guide"]
    items = {item["site"]: item for item in bank}
    assert items["A"]["guide"].any()
    assert torch.equal(items["B"]["guide"], torch.zeros(1, 8, 8))
    assert torch.equal(items["B"]["image"], torch.from_numpy(own[0]))


def test_a_bank_of_the_servers_own_is_refused(released, tmp_path):
    bank = tmp_path / "bank.npz"
    np.savez(bank, **{"public/0": np.ones((2, 8, 8), np.uint8)})
    with pytest.raises(ValueError, match="condition_bank: generator_guide has G draw where there is a teacher's image"):
        ConditionBank(released[0], bank=str(bank), guide=TaughtImages(*released))
