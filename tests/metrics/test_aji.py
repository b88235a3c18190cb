import doctest

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler, from_engine

from bundle.metrics import AggregatedJaccardIndex, aggregated_jaccard_index, aji, overlaps


def row(*numbers):
    return np.array([numbers])


@pytest.mark.parametrize("module", [aji, overlaps])
def test_examples(module):
    result = doctest.testmod(module, extraglobs={"torch": torch, "np": np})
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("pred", "truth", "expected"),
    [
        (row(1, 1, 0, 2), row(1, 1, 0, 2), 1),  # perfect
        (row(0, 0, 0), row(0, 0, 0), 1),
        (row(0, 0, 0), row(0, 3, 3), 0),
        (row(0, 3, 3), row(0, 0, 0), 0),
        (row(1, 0), row(0, 1), 0),  # apart
        (row(1, 1, 1, 2, 2), row(1, 1, 1, 1, 1), 3 / (5 + 2)),  # split: the smaller part is spurious
        (row(1, 1, 1, 1, 1), row(1, 1, 2, 2, 2), (2 + 3) / (5 + 5)),  # merged: taken twice
        (row(1, 1, 0, 0, 0), row(1, 1, 0, 2, 2), 2 / (2 + 2)),  # missed
        (row(1, 1, 0, 5, 5, 5), row(1, 1, 0, 0, 0, 0), 2 / (2 + 3)),  # spurious
        (row(0, 1, 1, 1), row(1, 1, 1, 0), 2 / 4),  # shifted
        # 1 of 2 and 2 of 4 are the same index; 2 of 4 shares more: 2 / (4 + 1), where the other makes 1 / (2 + 4)
        (row(8, 9, 9, 9, 9), row(1, 1, 1, 0, 0), 2 / (5 + 1)),
        (row(8, 9, 9, 9), row(1, 1, 0, 0), 1 / (2 + 3)),
    ],
)
def test_by_hand(pred, truth, expected):
    assert aggregated_jaccard_index(pred, truth) == pytest.approx(expected)


def test_of_equal_indices_the_larger_overlap_is_taken():
    # G has 4 pixels. With 8, 1 of 4 is shared; with 9, 2 of 8: the same index, 1/4.
    truth = row(1, 1, 1, 1, 0, 0, 0, 0)
    pred = row(8, 9, 9, 0, 9, 9, 9, 9)
    assert aggregated_jaccard_index(pred, truth) == pytest.approx(2 / (8 + 1))
    assert aggregated_jaccard_index(row(9, 8, 8, 0, 8, 8, 8, 8), truth) == pytest.approx(2 / (8 + 1))


@pytest.mark.parametrize(("first", "second"), [(5, 6), (6, 5), (500, 7)])
def test_of_equal_overlaps_the_first_in_the_array_is_taken(first, second):
    # G1 has 1 of 4 pixels with either; G2 takes the second with 2 of 3. If G1 took the second, the first were unused.
    pred = row(first, second, second, second, first, first)
    assert aggregated_jaccard_index(pred, row(1, 1, 2, 2, 0, 0)) == pytest.approx((1 + 2) / (4 + 3))


def random_maps(rng, shape=(14, 12)):
    """Objects that touch, with gaps in their numbers: blocks of a coarse random map, partly erased, and jittered."""
    truth = np.kron(rng.integers(0, 6, (7, 6)), np.ones((2, 2), dtype=int))
    pred = np.where(rng.random(shape) < 0.7, np.roll(truth, rng.integers(-1, 2, 2), (0, 1)), rng.integers(0, 7, shape))
    if rng.random() < 0.1:
        pred[:] = 0
    return pred, truth


def slowly(pred, truth):
    """Algorithm 1, word by word."""
    intersections = unions = 0
    used = set()
    for g in np.unique(truth[truth > 0]):
        reference = truth == g
        best = None
        for s in np.unique(pred[reference & (pred > 0)]):
            segmented = pred == s
            shared, joined = (reference & segmented).sum(), (reference | segmented).sum()
            place = np.flatnonzero(reference & segmented)[0]
            rank = (shared / joined, shared, -place)
            if best is None or rank > best[0]:
                best = (rank, s, shared, joined)
        if best is None:
            unions += reference.sum()
        else:
            used.add(best[1])
            intersections += best[2]
            unions += best[3]
    for s in np.unique(pred[pred > 0]):
        if s not in used:
            unions += (pred == s).sum()
    return intersections / unions if unions else 1.0


def test_against_the_algorithm_word_by_word():
    rng = np.random.default_rng(0)
    for _ in range(150):
        pred, truth = random_maps(rng)
        assert aggregated_jaccard_index(pred, truth) == pytest.approx(slowly(pred, truth))


def test_numbers_of_objects_do_not_matter():
    rng = np.random.default_rng(1)
    for _ in range(30):
        pred, truth = random_maps(rng)
        names = np.concatenate([[0], 1 + rng.permutation(2**40 // 7 * np.arange(1, 8))])
        assert aggregated_jaccard_index(names[pred], names[truth]) == aggregated_jaccard_index(pred, truth)


def test_metric_keeps_a_value_for_each_case():
    metric = AggregatedJaccardIndex()
    y = torch.tensor([[[[1, 1, 2, 2, 2]]], [[[0, 0, 0, 0, 0]]]])
    y_pred = torch.tensor([[[[1, 1, 1, 1, 1]]], [[[0, 0, 0, 0, 3]]]])
    assert metric(y_pred, y.float()).tolist() == [[0.5], [0.0]]
    metric([y[0].to(torch.uint8)], [y[0]])
    assert metric.get_buffer().tolist() == [[0.5], [0.0], [1.0]]
    assert metric.get_buffer().dtype == torch.float32
    assert metric.aggregate().item() == pytest.approx(0.5)
    assert metric.aggregate("none").shape == (3, 1)
    metric.reset()
    with pytest.raises(ValueError, match="nothing to aggregate"):
        metric.aggregate()


def test_handler_keeps_the_details():
    engine = Engine(lambda engine, batch: batch)
    handler = IgniteMetricHandler(
        metric_fn=AggregatedJaccardIndex(), output_transform=from_engine(["pred", "label"]), save_details=True
    )
    handler.attach(engine, "aji")
    one, merged = torch.tensor([[[1, 1, 2, 2, 2]]]), torch.tensor([[[1, 1, 1, 1, 1]]])
    engine.run([[{"pred": one, "label": one}, {"pred": merged, "label": one}]], max_epochs=1)
    assert engine.state.metrics["aji"] == pytest.approx(0.75)
    assert engine.state.metric_details["aji"].flatten().tolist() == [1, 0.5]


@pytest.mark.parametrize(
    ("pred", "truth", "message"),
    [
        (row(1, 2), row(1, 2, 3), "of one shape"),
        (row(1, 0.5), row(1, 2), "pred: expected whole numbers"),
        (row(1, 2), row(1, np.nan), "truth: expected whole numbers"),
        (row(1, 2), row(-1, 2), "truth: .*got -1"),
    ],
)
def test_bad_maps(pred, truth, message):
    with pytest.raises(ValueError, match=message):
        aggregated_jaccard_index(pred, truth)


@pytest.mark.parametrize("shape", [(1, 2, 4, 4), (1, 4, 4)])
def test_bad_batches(shape):
    maps = torch.zeros(shape, dtype=torch.int32)
    with pytest.raises(ValueError, match="B×1×X×Y"):
        AggregatedJaccardIndex()(maps, maps)
    with pytest.raises(ValueError, match="of one shape"):
        AggregatedJaccardIndex()(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 5))
