import pytest
import torch
from monai.data import MetaTensor
from monai.networks.utils import one_hot

from bundle.transforms import ConditionFromLabeld, label_from_condition, pixel_classes


def item(spatial=(6, 5, 4), classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(classes + 1, (1, *spatial), generator=generator).to(torch.uint8)
    outline = torch.randint(2, (1, *spatial), generator=generator).to(torch.uint8)
    return {"label": MetaTensor(label, meta={"filename_or_obj": "P1_seg.nii.gz"}), "outline": outline}


@pytest.mark.parametrize("spatial", [(6, 5), (6, 5, 4)])
@pytest.mark.parametrize("classes", [1, 3])
def test_condition_against_monais_one_hot(spatial, classes):
    given = item(spatial, classes)
    condition = ConditionFromLabeld(num_classes=classes)(given)["condition"]
    assert condition.dtype == torch.uint8
    assert condition.shape == (classes + 1, *spatial)
    expected = one_hot(given["label"].as_tensor()[None], classes + 1)[0, 1:]
    assert torch.equal(condition.as_tensor()[:-1], expected.to(torch.uint8))
    union = (given["outline"] > 0) | (given["label"].as_tensor() > 0)
    assert torch.equal(condition.as_tensor()[-1:], union.to(torch.uint8))


@pytest.mark.parametrize("spatial", [(6, 5), (6, 5, 4)])
@pytest.mark.parametrize("outline_key", ["outline", None])
def test_round_trip(spatial, outline_key):
    given = item(spatial)
    out = ConditionFromLabeld(num_classes=3, outline_key=outline_key, output_key="x")(given)
    assert out["x"].shape[0] == 3 + (outline_key is not None)
    back = label_from_condition(out["x"].as_tensor(), 3)
    assert back.dtype == torch.uint8
    assert torch.equal(back, given["label"].as_tensor())
    batch = torch.stack([out["x"].as_tensor().float()] * 2)
    assert torch.equal(label_from_condition(batch, 3, channel_dim=1)[1], given["label"].as_tensor())


def test_round_trip_of_conditions():
    condition = ConditionFromLabeld(num_classes=3)(item())["condition"]
    label = label_from_condition(condition, 3)
    again = ConditionFromLabeld(num_classes=3)({"label": label, "outline": condition[-1:]})["condition"]
    assert torch.equal(again.as_tensor(), condition.as_tensor())


def test_bad_labels_are_named():
    with pytest.raises(ValueError, match=r"P1_seg.nii.gz.*expected class indices 0 to 2"):
        ConditionFromLabeld(num_classes=2)(item())
    with pytest.raises(ValueError, match=r"P1_seg.nii.gz.*shape"):
        ConditionFromLabeld(num_classes=3)(item() | {"outline": torch.ones(1, 6, 5)})
    with pytest.raises(ValueError, match=r"case P1: the item has no 'label'"):
        ConditionFromLabeld(num_classes=3)({"case": "P1"})


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (torch.ones(2, 4, 4), "at most one class"),
        (torch.full((2, 4, 4), 0.5), "0 or 1"),
        (torch.ones(5, 4, 4), "2 or 3 channels"),
    ],
)
def test_bad_conditions_are_named(condition, message):
    with pytest.raises(ValueError, match=message):
        label_from_condition(condition, 2)


def test_pixel_classes_are_those_of_the_label_map_with_the_outline_as_one_more():
    label = torch.tensor([[[0, 0, 1, 2, 2]]])
    item = {"label": label, "outline": torch.tensor([[[0, 1, 1, 0, 1]]])}
    x = ConditionFromLabeld(num_classes=2)(item)["condition"].as_tensor()
    assert pixel_classes(x[None]).tolist() == [[[[3, 2, 0, 1, 1]]]]
    assert pixel_classes(x[None].float()).dtype == torch.int64
