import doctest

import numpy as np
import pytest
import torch
from monai.metrics import PanopticQualityMetric, compute_panoptic_quality

from bundle.metrics import PanopticQuality, panoptic


def batch(*numbers):
    return torch.tensor([[[numbers]]])


def random_maps(rng):
    """Three times four by four blocks, partly erased and shifted: matches, misses and spurious objects."""
    truth = np.kron(rng.integers(0, 9, (6, 6)), np.ones((3, 3), dtype=int))
    erased = np.where(rng.random(truth.shape) < 0.85, truth, 0)
    pred = np.where(rng.random(truth.shape) < 0.1, rng.integers(0, 12, truth.shape), erased)
    return torch.from_numpy(pred), torch.from_numpy(truth)


def test_examples():
    result = doctest.testmod(panoptic, extraglobs={"torch": torch})
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("y_pred", "y", "pq", "sq", "rq"),
    [
        (batch(1, 1, 0, 2), batch(5, 5, 0, 3), 1, 1, 1),
        (batch(0, 0), batch(0, 0), 1, 1, 1),
        (batch(0, 0), batch(1, 1), 0, 0, 0),
        (batch(1, 1), batch(0, 0), 0, 0, 0),
        # IoU 3/4 and 2/3, one spurious, two missed: RQ = 2 / (2 + 1/2 + 1)
        (
            batch(1, 1, 1, 0, 2, 2, 2, 0, 3, 0, 0),
            batch(7, 7, 7, 7, 8, 8, 0, 0, 0, 4, 6),
            (3 / 4 + 2 / 3) / 3.5,
            (3 / 4 + 2 / 3) / 2,
            2 / 3.5,
        ),
        (batch(1, 0), batch(1, 1), 0, 0, 0),  # an IoU of 1/2 is no match
        (batch(1, 1, 1, 1, 1), batch(1, 1, 1, 2, 2), 3 / 5 / 1.5, 3 / 5, 1 / 1.5),  # merged: the larger one matches
    ],
)
def test_by_hand(y_pred, y, pq, sq, rq):
    for name, expected in (("pq", pq), ("sq", sq), ("rq", rq)):
        assert PanopticQuality(name)(y_pred, y).item() == pytest.approx(expected), name


def independently(pred, truth):
    """IoU of every pair of objects; those above 1/2 match."""
    masks = [[m == number for number in m[m > 0].unique()] for m in (pred, truth)]
    ious = [((p & t).sum() / (p | t).sum()).item() for p in masks[0] for t in masks[1]]
    matched = [iou for iou in ious if iou > 0.5]
    return sum(matched) / ((len(masks[0]) + len(masks[1])) / 2)


def test_against_every_pair_and_against_monais_own_maps():
    rng = np.random.default_rng(0)
    for _ in range(25):
        pred, truth = random_maps(rng)
        value = PanopticQuality()(pred[None, None], truth[None, None]).item()
        assert value == pytest.approx(independently(pred, truth), abs=1e-6)
        assert value == pytest.approx(compute_panoptic_quality(pred, truth).item(), abs=1e-5)


def test_against_monais_metric():
    pairs = [random_maps(np.random.default_rng(seed)) for seed in range(3)]
    y_pred, y = (torch.stack(maps)[:, None] for maps in zip(*pairs, strict=True))
    for name in ("pq", "sq", "rq"):
        monais, ours = PanopticQualityMetric(1, name, reduction="mean"), PanopticQuality(name)
        ours(y_pred, y)
        for case in range(3):
            given = slice(case, case + 1)
            monais.reset()
            monais(*(torch.cat([m[given], (m[given] > 0).to(m.dtype)], dim=1) for m in (y_pred, y)))
            assert ours.get_buffer()[case].item() == pytest.approx(monais.aggregate().item(), abs=1e-5)


def test_more_objects_than_go_at_once():
    count = 3 * panoptic.OBJECTS_AT_ONCE + 5
    truth = torch.arange(1, count + 1).repeat_interleave(3)
    pred = truth.clone()
    pred[::3] = 0  # 2 of 3 pixels of each
    pred[-3:] = 0  # and one missed
    value = PanopticQuality()(pred.reshape(1, 1, 1, -1), truth.reshape(1, 1, 1, -1)).item()
    assert value == pytest.approx(2 / 3 * (count - 1) / (count - 0.5), abs=1e-5)


def test_buffer_and_reduction():
    metric = PanopticQuality()
    y = batch(1, 1, 1, 1, 0, 2, 2)
    metric([batch(0, 3, 3, 3, 0, 0, 0)[0], y[0]], [y[0], y[0]])
    assert metric.get_buffer().tolist() == [[0.5], [1.0]]
    assert metric.get_buffer().dtype == torch.float32
    assert metric.aggregate().item() == pytest.approx(0.75)
    metric.reset()
    with pytest.raises(ValueError, match="nothing to aggregate"):
        metric.aggregate()


def test_bad_input():
    with pytest.raises(ValueError, match="metric_name"):
        PanopticQuality("dice")
    with pytest.raises(ValueError, match="B×1×X×Y"):
        PanopticQuality()(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4))
    with pytest.raises(ValueError, match="fractions"):
        PanopticQuality()(batch(1, 0.5), batch(1, 1))
    with pytest.raises(ValueError, match="got -2"):
        PanopticQuality()(batch(1, 1), batch(1, -2))
