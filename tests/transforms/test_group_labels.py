import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Flipd, Invertd

from bundle.transforms import GroupLabelsd

REGIONS = {"core": [1], "oedema": [2], "enhancing": [4]}


def brats_label(spatial=(6, 5, 4), dtype=torch.int16):
    values = torch.tensor([0, 1, 2, 4])
    label = values[torch.randint(4, (1, *spatial), generator=torch.Generator().manual_seed(0))].to(dtype)
    return {"label": MetaTensor(label, meta={"filename_or_obj": "P1_seg.nii.gz"})}


@pytest.mark.parametrize("spatial", [(6, 5), (6, 5, 4)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64, torch.float32])
def test_groups(spatial, dtype):
    item = brats_label(spatial, dtype)
    label = item["label"].as_tensor()
    whole = GroupLabelsd(keys="label", groups={"whole tumour": [1, 2, 4]})(item)["label"]
    assert whole.dtype == torch.uint8
    assert torch.equal(whole.as_tensor() == 1, label > 0)
    regions = GroupLabelsd(keys="label", groups=REGIONS)(item)["label"].as_tensor()
    for index, value in enumerate((0, 1, 2, 4)):
        assert torch.equal(regions == index, label == value)


def test_unknown_value_names_file_and_values():
    item = brats_label()
    item["label"][0, 0, 0, 0] = 3
    with pytest.raises(ValueError, match=r"P1_seg.nii.gz.*'label'.*value\(s\) 3; expected 0.*core"):
        GroupLabelsd(keys="label", groups=REGIONS)(item)
    assert GroupLabelsd(keys="label", groups=REGIONS, ignore=[3])(item)["label"][0, 0, 0, 0] == 0


@pytest.mark.parametrize("value", [-1, 0.5, float("nan"), 1e9])
def test_strange_values(value):
    with pytest.raises(ValueError, match=r"case P1.*expected 0"):
        GroupLabelsd(keys="label", groups=REGIONS)({"label": torch.full((1, 2, 2), value), "case": "P1"})


def test_large_and_negative_values_can_be_named():
    # FreeSurfer numbers go beyond a thousand, some tools write -1 for "not looked at".
    label = torch.tensor([[[0, 2035, 70000, -1]]])
    out = GroupLabelsd(keys="label", groups={"a": [2035], "b": [70000]}, ignore=[-1])({"label": label})
    assert out["label"].flatten().tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize(
    ("groups", "ignore"), [({}, ()), ({"a": []}, ()), ({"a": [0]}, ()), ({"a": [1], "b": [1]}, ()), ({"a": [1]}, [1])]
)
def test_construction(groups, ignore):
    with pytest.raises(ValueError, match="groups"):
        GroupLabelsd(keys="label", groups=groups, ignore=ignore)


def test_inverse_is_exact_for_single_values():
    item = brats_label()
    transform = Compose([GroupLabelsd(keys="label", groups=REGIONS), Flipd(keys="label", spatial_axis=0)])
    back = transform.inverse(transform(item))["label"]
    assert back.dtype == torch.int16
    assert torch.equal(back.as_tensor(), item["label"].as_tensor())
    assert not back.applied_operations


def test_invertd_writes_predictions_in_the_data_sets_values():
    item = brats_label()
    transform = Compose([GroupLabelsd(keys="label", groups=REGIONS), Flipd(keys="label", spatial_axis=1)])
    out = transform(item)
    out["pred"] = MetaTensor(out["label"].as_tensor().float())
    inverted = Invertd(keys="pred", transform=transform, orig_keys="label")(out)
    assert torch.equal(inverted["pred"].as_tensor(), item["label"].as_tensor())
    # What was not to be inverted stays as it was.
    assert inverted["label"].max() == 3


def test_grouping_is_idempotent_after_a_round_trip():
    transform = GroupLabelsd(keys="label", groups={"whole tumour": [1, 2, 4]})
    once = transform(brats_label())
    again = transform(transform.inverse(once))
    assert np.array_equal(once["label"].numpy(), again["label"].numpy())


def test_ungroup_refuses_other_classes():
    with pytest.raises(ValueError, match="0 to 3"):
        GroupLabelsd(keys="label", groups=REGIONS).ungroup(torch.tensor([4]))
