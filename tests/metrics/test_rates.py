import pytest
import torch

from bundle.metrics import ConfusionRate, from_foreground_slices


def pair():
    y = torch.zeros(1, 1, 4, 4, 3)
    y[0, 0, :2, :2, 0] = 1  # 4 voxels in slice 0
    y[0, 0, 0, 0, 1] = 1  # 1 in slice 1, none in slice 2
    y_pred = torch.zeros_like(y)
    y_pred[0, 0, :2, :1, 0] = 1  # 2 right
    y_pred[0, 0, 3, :, 2] = 1  # 4 wrong
    return y_pred, y


@pytest.mark.parametrize(("name", "expected"), [("sensitivity", 2 / 5), ("specificity", 39 / 43)])
def test_rates_are_counted_by_hand(name, expected):
    metric = ConfusionRate(name)
    metric(*pair())
    metric(pair()[1], pair()[1])
    assert metric.get_buffer().flatten().tolist() == pytest.approx([expected, 1.0])
    assert metric.aggregate().item() == pytest.approx((expected + 1) / 2)


def test_slices_without_enough_reference_are_left_out():
    y_pred, y = pair()
    (predictions, references) = from_foreground_slices(["pred", "label"], 1)([{"pred": y_pred[0], "label": y[0]}] * 2)
    assert [p.shape for p in predictions] == [(1, 4, 4, 2)] * 2
    assert references[0].sum() == 5
    assert predictions[0].sum() == 2  # what was wrong in slice 2 does not count
    (_, references) = from_foreground_slices(["pred", "label"], 2)([{"pred": y_pred[0], "label": y[0]}])
    assert references[0].shape[-1] == 1
