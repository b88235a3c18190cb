from copy import deepcopy

import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, RandFlipd
from small_sites import federation, sites

from bundle.federation import Codec, ConditionBank, ConditionCollector, LocalFederation, read_conditions
from bundle.federation.messages import ConditionRequest, SyntheticBatch


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
    member.samples = [
        {"condition": torch.full((2, 3, size), place, dtype=torch.uint8)} for place, size in enumerate(sizes)
    ]
    path = tmp_path / "conditions.npz"
    ConditionCollector(LocalFederation([member]), str(path), chunk=4)(None)
    found = read_conditions(path)["A"]
    assert [condition.shape[2] for condition in found] == sizes
    assert [int(condition[0, 0, 0]) for condition in found] == list(range(12))  # 10 after 9, not after 1


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
    with pytest.raises(ValueError, match="copies=2 needs an augmentation"):
        ConditionBank(str(path), copies=2)
    with pytest.raises(FileNotFoundError, match=r"train\.yaml"):
        ConditionBank(str(tmp_path / "none.npz"))


def test_conditions_beyond_the_end_are_none():
    local = federation()
    assert len(local.conditions(ConditionRequest("A", 2, 10)).conditions) == 1
    assert len(local.conditions(ConditionRequest("A", 3, 10)).conditions) == 0
