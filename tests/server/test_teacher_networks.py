"""Weights of teachers that learned with noise: what the server takes, keeps and predicts by them."""

import logging
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from private_sites import POLICY, Patients, network_of, private_teacher
from small_sites import adam, discriminator, generator, members

from bundle.losses import AdversarialLoss, SiteLoss
from bundle.server import (
    ConditionCollector,
    DistributedGanTrainer,
    LocalFederation,
    PairedTerm,
    PublicConditions,
    TeacherNetworks,
    write_conditions,
)
from bundle.server.earlier import EarlierTraining
from bundle.site.release import ReleasePolicy
from bundle.wire.guards import MAX_TEACHER_BYTES, Violation, check_released
from bundle.wire.messages import ConditionRequest, TaughtWeights
from bundle.wire.weights import pack_weights

NONE = torch.empty(0, dtype=torch.uint8)
REQUEST = ConditionRequest("A", 0, 5)


def conv(out_channels=3, size=3):
    return torch.nn.Conv2d(2, out_channels, size, padding=size // 2)


def packed(network):
    return pack_weights(network.state_dict())


def federation(folder):
    """Of a site with a teacher and one without, by the same secrets."""
    sites = []
    for name in ("A", "B"):
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.secret").write_text("0" * 31 + "7\n", encoding="ascii")
        about = {"policy": ReleasePolicy.make(POLICY | {"teacher": name == "A"}), "num_steps": 4}
        about["ledger"] = lambda name: folder / f"{name}.jsonl"
        loss = SiteLoss(AdversarialLoss("hinge"), l1_weight=0.0)
        given = {"batch_size": 2, "private_teacher": private_teacher(), **about}
        sites += members({name: Patients(name, 24)}, discriminator, adam, loss, **given)
    return LocalFederation(sites)


def train(folder, fed, steps=2, weight=10.0):
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    network = generator()
    bank = folder / "bank.npz"
    masks = np.random.default_rng(0).integers(0, 2, (6, 2, 8, 8)).astype(np.uint8)
    write_conditions(bank, {"bank": list(masks)})
    teachers = TeacherNetworks(folder / "teachers", generator)
    paired = PairedTerm(folder / "c.npz", folder / "t.npz", weight, teachers=teachers)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    given = {"paired": paired, "public_conditions": PublicConditions(bank)}
    trainer = DistributedGanTrainer("cpu", 1, steps, fed, network, optimizer, **given)
    ConditionCollector(fed, str(folder / "c.npz"), images_path=str(folder / "t.npz"), teachers=teachers).attach(trainer)
    trainer.run()
    return trainer


def test_the_server_asks_once_and_has_r_of_its_own_conditions_from_then_on(tmp_path):
    fed = federation(tmp_path / "sites")
    trainer = train(tmp_path, fed)
    assert [path.name for path in (tmp_path / "teachers").iterdir()] == ["A.safetensors"]
    output = trainer.state.output[0]
    assert set(output["losses"]["A"]) == {"paired"}
    assert set(output["losses"]["B"]) == set(), "a site without a teacher is as it was"
    conditions, images = output["conditions"]["A"], output["images"]["A"]
    expected = F.l1_loss(images, network_of(fed.site("A").teacher)(conditions.float()))
    assert output["losses"]["A"]["paired"] == pytest.approx(expected.item())
    assert trainer.paired.describe() == " + 10·L1 to a teacher that learned with noise"
    # it goes on without asking
    again = federation(tmp_path / "others")
    again.site("A").conditions = None
    train(tmp_path, again)


def test_the_term_is_added_with_its_weight(tmp_path):
    plain, paired = (
        train(tmp_path / name, federation(tmp_path / f"sites {name}"), 1, weight)
        for name, weight in (("a", 0.0), ("b", 3.0))
    )
    assert "paired" not in plain.state.output[0]["losses"]["A"]
    assert plain.paired.describe() == ""
    torch.manual_seed(0)
    network = generator()
    conditions = paired.state.output[0]["conditions"]["A"]
    loss = paired.paired.loss("A", 1, conditions, network(conditions.float()))
    # both sites say that they have one sample
    gradients = torch.autograd.grad(1 / 2 * 3.0 * loss, list(network.parameters()))
    expected = flat(plain.generator.parameters()) - 0.1 * flat(gradients)
    torch.testing.assert_close(flat(paired.generator.parameters()), expected)


def flat(tensors):
    return torch.cat([one.detach().flatten() for one in tensors])


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        (packed(conv(3, 1)), "weights of another network: weight is float32 3×2×1×1, expected float32 3×2×3×3"),
        (packed(torch.nn.Sequential(conv())), "weights of another network: without 'bias'"),
        (torch.zeros(200, dtype=torch.uint8), "expected a safetensors file"),
        (torch.zeros(9000, dtype=torch.uint8), "weights of 9000 bytes, expected at most"),
        (packed(conv())[:-3], "expected a safetensors file"),
    ],
)
def test_weights_that_are_no_teachers_are_refused_and_leave_no_file(tmp_path, weights, text):
    teachers = TeacherNetworks(tmp_path, partial(conv, out_channels=3), 3)
    with pytest.raises(Violation, match=text):
        teachers.keep("A", weights)
    network = conv()
    network.weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(Violation, match="weight has numbers that are not finite"):
        teachers.keep("A", packed(network))
    assert not teachers.any()


def test_a_hostile_site_gets_a_strike_that_names_it_and_the_others_go_on(tmp_path, caplog):
    fed = federation(tmp_path / "sites")
    fed.site("A").conditions = lambda request: TaughtWeights("A", request.start, NONE, packed(conv()))
    with caplog.at_level(logging.WARNING):
        trainer = train(tmp_path, fed)
    assert trainer.state.sites["A"]["strikes"] == 1
    assert any("site A" in r.message and "weights of another network" in r.message for r in caplog.records)
    assert "paired" not in trainer.state.output[0]["losses"]["A"]


@pytest.mark.parametrize(
    ("batch", "text"),
    [
        (TaughtWeights("A", 0, torch.ones(1, 2, 8, 8, dtype=torch.uint8), NONE + 1), "weights with conditions"),
        (TaughtWeights("A", 0, NONE, NONE), "of 0 bytes"),
        (TaughtWeights("A", 0, NONE, torch.ones(3)), "expected the bytes"),
        (TaughtWeights("A", 0, NONE, torch.ones(3, 3, dtype=torch.uint8)), "expected the bytes"),
        (TaughtWeights("A", 0, NONE, torch.ones(MAX_TEACHER_BYTES + 1, dtype=torch.uint8)), "expected 1 to 16777216"),
        (TaughtWeights("A", 0, NONE, "weights"), "expected the bytes"),
        (TaughtWeights("A", 0, torch.zeros(0), torch.ones(3, dtype=torch.uint8)), "conditions: expected uint8"),
        (TaughtWeights("B", 0, NONE, torch.ones(3, dtype=torch.uint8)), "is of site 'B'"),
        (TaughtWeights("A", 5, NONE, torch.ones(3, dtype=torch.uint8)), "from 5 on"),
    ],
)
def test_what_no_message_of_weights_can_be(batch, text):
    check_released(TaughtWeights("A", 0, NONE, torch.ones(3, dtype=torch.uint8)), REQUEST)
    with pytest.raises(Violation, match=text):
        check_released(batch, REQUEST)


def test_r_of_a_site_that_lacks_modalities_has_their_channels_alone(tmp_path):
    teachers = TeacherNetworks(tmp_path, partial(conv, out_channels=3), 3)
    network = conv(2)
    teachers.keep("A", packed(network))
    masks = torch.ones(1, 2, 8, 8, dtype=torch.uint8)
    predicted = teachers.predict("A", masks, 2, torch.device("cpu"))
    assert torch.equal(predicted, network(masks.float()).clamp(-1, 1))
    assert not predicted.requires_grad
    with pytest.raises(ValueError, match=r"A\.safetensors: weights of another network.*images of 3 channels"):
        teachers.predict("A", masks, 3, torch.device("cpu"))
    # a definition that cannot be made for fewer channels takes those of all
    with pytest.raises(Violation, match="another network"):
        TeacherNetworks(tmp_path, conv, 3).keep("B", packed(network))


def test_an_r_that_predicts_no_numbers_has_no_term(tmp_path, caplog):
    """Finite weights may overflow."""

    def two():
        return torch.nn.Sequential(conv(2), conv(1))

    network = two()
    for parameter in network.parameters():
        parameter.data.fill_(3e38)
    network[1].weight.data[0, 1] *= -1
    teachers = TeacherNetworks(tmp_path / "teachers", two)
    teachers.keep("A", packed(network))
    term = PairedTerm(tmp_path / "c", tmp_path / "t", teachers=teachers)
    masks = torch.ones(2, 2, 8, 8, dtype=torch.uint8)
    with caplog.at_level(logging.WARNING):
        assert [term.loss("A", step, masks, torch.zeros(2, 1, 8, 8)) for step in (1, 2)] == [None, None]
    assert sum("the teacher of site A predicts is no image" in record.message for record in caplog.records) == 1


def test_what_is_to_be_forgotten_goes(tmp_path):
    gan = tmp_path / "gan"
    teachers = TeacherNetworks(gan / "teachers", conv, 1)
    for site in ("A", "B"):
        teachers.keep(site, packed(conv()))
    earlier = EarlierTraining.__new__(EarlierTraining)
    earlier.folder = tmp_path
    earlier.drop(["A"])
    assert ("A" in teachers, "B" in teachers) == (False, True)


def test_weights_for_other_channels_than_the_site_has_end_no_training(tmp_path, caplog):
    """When they come, nobody knows how many a site has; when the term is computed, the server does."""
    teachers = TeacherNetworks(tmp_path, partial(conv, out_channels=3), 3)
    teachers.keep("A", packed(conv(2)))
    term = PairedTerm(tmp_path / "none.npz", tmp_path / "no.npz", teachers=teachers)
    masks = torch.ones(1, 2, 8, 8, dtype=torch.uint8)
    with caplog.at_level(logging.WARNING):
        assert term.loss("A", 1, masks, torch.zeros(1, 3, 8, 8)) is None
    assert "no paired term for site A" in caplog.text
    assert term.loss("A", 1, masks, torch.zeros(1, 2, 8, 8)) is not None
