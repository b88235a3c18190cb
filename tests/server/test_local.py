from collections import Counter
from copy import deepcopy

import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, RandFlipd
from small_sites import federation, sites

from bundle.server import ConditionBank, ConditionCollector, LocalFederation, read_conditions, write_conditions
from bundle.wire import Codec
from bundle.wire.messages import ConditionRequest, SyntheticBatch


class Recorder(Codec):
    """A codec that keeps what crosses."""

    def __init__(self):
        self.messages, self.sizes = [], []

    def encode(self, message):
        data = super().encode(message)
        self.messages.append(message)
        self.sizes.append(len(data))
        return data


def batches(names, step=1):
    return {name: SyntheticBatch(name, step, torch.full((2, 1, 8, 8), 0.1 * len(name))) for name in names}


def test_every_message_is_encoded_and_counted():
    recorder = Recorder()
    local = LocalFederation(sites(), recorder)
    assert local.sites == ("A", "B")
    local.open(1)
    local.exchange(batches("AB"))
    assert [type(m).__name__ for m in recorder.messages] == ["SiteInfo"] * 2 + ["SyntheticBatch", "SiteReply"] * 2
    summary = local.ledger.summary()
    assert summary["bytes_to_sites"] + summary["bytes_from_sites"] == sum(recorder.sizes)
    assert summary["steps"] == 1


def test_no_real_image_crosses():
    recorder = Recorder()
    members = sites(l1_weight=0.0)
    local = LocalFederation(members, recorder)
    local.open(1)
    for step in range(1, 4):
        local.exchange(batches("AB", step))
    crossed = [v for m in recorder.messages for v in vars(m).values() if isinstance(v, torch.Tensor)]
    images = torch.cat([site.samples.image for site in members]).flatten(1)
    images = images - images.mean(1, keepdim=True)
    for tensor in (t.float().flatten(1) for t in crossed if t.shape[1:] == (1, 8, 8)):
        # equal up to an affine change of intensity would be a correlation of ±1
        centred = tensor - tensor.mean(1, keepdim=True)
        norms = centred.norm(dim=1)[:, None] * images.norm(dim=1)[None]
        correlation = (centred @ images.T / norms.clamp_min(1e-12)).abs()
        assert correlation.max() < 0.9


def test_a_site_that_is_left_out_is_not_asked():
    local = federation()
    outcome = local.exchange(batches("A"))
    assert (list(outcome.messages), outcome.failures) == (["A"], {})
    assert list(local.open(2, ["B"]).messages) == ["B"]
    assert list(local.open(2).messages) == ["A", "B"]


def test_checkpoints_are_for_the_same_sites():
    local = federation()
    local.exchange(batches("AB"))
    other = federation()
    # optimisers take tensors of a state as they are: a checkpoint is a copy
    other.load_state_dict(deepcopy(local.state_dict()))
    one, two = local.exchange(batches("AB", 2)).messages, other.exchange(batches("AB", 2)).messages
    assert all(torch.equal(one[s].image_gradient, two[s].image_gradient) for s in "AB")
    assert other.ledger.summary() == local.ledger.summary()
    with pytest.raises(ValueError, match=r"\['A', 'B'\], not \['A', 'C'\]"):
        federation(lengths={"A": 3, "C": 3}).load_state_dict(local.state_dict())


def test_sites_need_names_of_their_own():
    with pytest.raises(ValueError, match="different names"):
        LocalFederation([*sites({"A": 3}), *sites({"A": 3})])
    with pytest.raises(ValueError, match="different names"):
        LocalFederation([])


@pytest.mark.parametrize("chunk", [1, 3, 5, 64])
def test_the_bank_holds_every_condition_of_every_site_in_order(tmp_path, chunk):
    members = sites({"B": 5, "A": 3})
    path = tmp_path / "conditions.npz"
    ConditionCollector(LocalFederation(members), str(path), chunk=chunk)(None)
    bank = ConditionBank(str(path))
    assert [(item["site"], item["index"]) for item in bank] == [("A", i) for i in range(3)] + [
        ("B", i) for i in range(5)
    ]
    by_name = {site.name: site for site in members}
    for item in bank:
        assert torch.equal(item["image"], by_name[item["site"]].samples.condition[item["index"]])


def test_conditions_may_differ_in_shape_and_be_many(tmp_path):
    (member,) = sites({"A": 12}, batch_size=1)
    sizes = [4, 4, 6, 4, 4, 4, 5, 5, 5, 5, 5, 5]

    class Sized(list):
        def origin(self, index):
            return ("patient", index)

    member.samples = Sized(
        {"condition": (torch.arange(6 * size).reshape(2, 3, size) < place).byte()} for place, size in enumerate(sizes)
    )
    path = tmp_path / "conditions.npz"
    ConditionCollector(LocalFederation([member]), str(path), chunk=4)(None)
    found = read_conditions(path)["A"]
    assert [condition.shape[2] for condition in found] == sizes
    assert [int(condition.sum()) for condition in found] == list(range(12))  # 10 after 9, not after 1


def test_conditions_are_asked_for_once(tmp_path):
    path = tmp_path / "conditions.npz"
    local = federation()
    ConditionCollector(local, str(path))(None)
    sent = local.ledger.summary()["bytes_to_sites"]
    ConditionCollector(local, str(path))(None)
    assert local.ledger.summary()["bytes_to_sites"] == sent > 0


def test_copies_are_transformed_reproducibly(tmp_path):
    path = tmp_path / "conditions.npz"
    conditions = np.random.default_rng(0).integers(0, 2, (6, 2, 8, 8), dtype=np.uint8)
    np.savez(path, **{f"A/{number}": condition for number, condition in enumerate(conditions)})
    flip = Compose([RandFlipd(keys="image", prob=0.5, spatial_axis=0)])
    for first in (0, 1):  # a batch may begin with a copy or with an original
        whole = ConditionBank(str(path), copies=3, augmentation=flip)
        whole.data = whole.data[first:]
        assert len(next(iter(DataLoader(whole, batch_size=17)))["image"]) == 17
    bank, again = (ConditionBank(str(path), copies=3, augmentation=flip) for _ in range(2))
    assert len(bank) == 18
    flipped = 0
    for i in reversed(range(18)):
        assert torch.equal(torch.as_tensor(bank[i]["image"]), torch.as_tensor(again[i]["image"]))
        original = bank.conditions["A"][bank[i]["index"]]
        if bank[i]["copy"] == 0:
            np.testing.assert_array_equal(bank[i]["image"], original)
        else:
            flipped += not np.array_equal(bank[i]["image"], original)
    assert 0 < flipped < 12
    always = Compose([RandFlipd(keys="image", prob=1.0, spatial_axis=0)])
    bank = ConditionBank(str(path), copies=2, augmentation=always, transform_first=True)
    assert [item["copy"] for item in bank][:2] == [1, 2]  # copy 0 would be the condition as it is
    for item in bank:
        np.testing.assert_array_equal(item["image"], bank.conditions["A"][item["index"]][:, ::-1])
    with pytest.raises(ValueError, match="copies=2 needs an augmentation"):
        ConditionBank(str(path), copies=2)
    with pytest.raises(ValueError, match="transform_first needs an augmentation"):
        ConditionBank(str(path), transform_first=True)
    with pytest.raises(FileNotFoundError, match=r"train\.yaml"):
        ConditionBank(str(tmp_path / "none.npz"))


def flat(size, channels=2, number=3):
    """Conditions of which the n-th has n pixels."""
    return [
        (np.arange(channels * size * size).reshape(channels, size, size) < n).astype(np.uint8) for n in range(number)
    ]


@pytest.fixture
def files(tmp_path):
    """What the sites A and C released, and a bank of the server's own in two groups."""
    paths = tmp_path / "conditions.npz", tmp_path / "own" / "conditions.npz"
    write_conditions(paths[0], {"A": flat(8), "C": flat(8, number=2)})
    write_conditions(paths[1], {"x": flat(8, number=11), "A": flat(8, number=1)})
    return [str(path) for path in paths]


def test_what_is_written_is_read_in_its_order(files):
    for path in files:
        found = read_conditions(path)
        for conditions in found.values():
            assert [int(condition.sum()) for condition in conditions] == list(range(len(conditions)))
    assert {name: len(conditions) for name, conditions in found.items()} == {"A": 1, "x": 11}


def test_a_bank_stands_beside_what_sites_released_or_in_its_place(files):
    released, own = files
    sources = {"A": "released by site", "C": "released by site", "bank": "bank of the server"}
    for path, bank, expected in [
        (released, None, {"A": 3, "C": 2}),
        (released, own, {"A": 3, "C": 2, "bank": 12}),
        (None, own, {"bank": 12}),
        (released + ".none", own, {"bank": 12}),
    ]:
        found = ConditionBank(path, bank=bank, channels=2, batch_size=4)
        items = [found[place] for place in range(len(found))]
        assert Counter(item["site"] for item in items) == expected
        assert all(item["condition_source"] == sources[item["site"]] for item in items)
        assert len({(item["site"], item["index"], item["copy"]) for item in items}) == len(items)
        for item in items:
            np.testing.assert_array_equal(item["image"], found.conditions[item["site"]][item["index"]])
    assert sorted(int(condition.sum()) for condition in found.conditions["bank"]) == sorted([0, *range(11)])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"path": None}, FileNotFoundError, r"those of the sites are left out.*keep_conditions: true.*condition_bank"),
        ({"path": "none.npz"}, FileNotFoundError, r"none\.npz is missing.*keep_conditions: true.*condition_bank"),
        ({"bank": "none.npz"}, FileNotFoundError, r"condition_bank: no file none\.npz"),
        ({"channels": 3}, ValueError, "conditions of A: 2 channels, the generator takes 3"),
        ({"bank": {"x": flat(8, 1)}, "channels": 2}, ValueError, "conditions of bank: 1 channels"),
        ({"bank": {"x": flat(6)}, "batch_size": 2}, ValueError, "batch of 2: A 8×8, C 8×8, bank 6×6"),
        ({"bank": {}}, ValueError, "holds no conditions"),
        ({"path": {"bank": flat(8)}, "bank": {"x": flat(8)}}, ValueError, "a site is called 'bank'"),
        ({"bank": {"x": [np.full((2, 8, 8), 2, np.uint8)]}}, ValueError, "expected NumPy's .npz of arrays NAME/NUMBER"),
        ({"bank": {"x": [np.ones((2, 8, 8), np.float32)]}}, ValueError, "x/0 is float32"),
        ({"bank": {"x": [np.ones((8, 8), np.uint8)]}}, ValueError, r"x/0 is uint8 \(8, 8\)"),
    ],
)
def test_a_bank_that_cannot_be_used(files, tmp_path, arguments, error, message):
    def path(value, name):
        if isinstance(value, dict):
            write_conditions(tmp_path / name, value)
            return str(tmp_path / name)
        return value

    given = {key: path(value, f"given_{key}.npz") for key, value in arguments.items()}
    with pytest.raises(error, match=message):
        ConditionBank(**{"path": files[0]} | given)


@pytest.mark.parametrize("content", [b"", b"PK", b"not an archive"])
def test_a_bank_that_is_none(tmp_path, content):
    (tmp_path / "bank.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"bank\.npz: expected NumPy's"):
        ConditionBank(None, bank=str(tmp_path / "bank.npz"))
    np.savez(tmp_path / "bank.npz", conditions=flat(8)[1])
    with pytest.raises(ValueError, match=r"bank\.npz: expected NumPy's"):
        ConditionBank(None, bank=str(tmp_path / "bank.npz"))


def test_conditions_of_different_sizes_are_generated_one_by_one(tmp_path, files):
    write_conditions(tmp_path / "bank.npz", {"x": flat(6)})
    assert len(ConditionBank(files[0], bank=str(tmp_path / "bank.npz"))) == 8


def test_conditions_beyond_the_end_are_none():
    local = federation()
    assert len(local.conditions(ConditionRequest("A", 2, 10)).conditions) == 1
    assert len(local.conditions(ConditionRequest("A", 3, 10)).conditions) == 0
