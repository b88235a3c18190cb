"""Weights as bytes: the same bits, and nothing that is not of the network."""

import pickle

import pytest
import torch
from torch import nn

from bundle.wire import Codec, Limits
from bundle.wire.guards import Violation, check_scores
from bundle.wire.messages import ScoreRequest, Scores
from bundle.wire.weights import check_weights, largest_packed, pack_weights, packed_digest, unpack_weights


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1, bias=False)).state_dict()


def test_every_bit_arrives_whatever_precision_images_have():
    weights = network()
    packed = pack_weights(weights)
    assert torch.equal(packed, pack_weights(dict(reversed(weights.items()))))
    assert packed.numel() <= largest_packed(weights)
    for codec in (Codec(), Codec("int8", "int8", "zstd")):
        request = codec.decode(codec.encode(ScoreRequest("A", packed)))
        assert packed_digest(request.weights) == packed_digest(packed)
        torch.testing.assert_close(unpack_weights(request.weights, network(1)), weights, rtol=0, atol=0)


def changed(**tensors):
    return {**network(), **tensors}


NAN = torch.full((4, 1, 3, 3), float("nan"))


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ({name: tensor for name, tensor in network().items() if name != "0.weight"}, "without '0.weight' .1 of its 8"),
        (changed(more=torch.ones(1)), "with 'more'"),
        (changed(**{"\x1b]0;" + "x" * 500: torch.ones(1)}), "weights of another network"),
        (changed(**{"0.weight": torch.ones(4, 1, 3, 1)}), "0.weight is float32 4×1×3×1, expected float32 4×1×3×3"),
        (changed(**{"0.weight": torch.ones(4, 1, 3, 3).double()}), "0.weight is float64"),
        (changed(**{"0.weight": NAN}), "0.weight has numbers that are not finite"),
        (changed(**{"1.num_batches_tracked": torch.ones(())}), "expected int64 of no dimension"),
    ],
)
def test_weights_of_another_network_are_refused(weights, reason):
    with pytest.raises(Violation, match=reason) as caught:
        check_weights(weights, network())
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()
    with pytest.raises(Violation):
        unpack_weights(pack_weights(weights), network())


def test_a_list_in_the_place_of_a_tensor_is_refused():
    with pytest.raises(Violation, match=r"0\.weight is a list, expected a tensor"):
        check_weights(changed(**{"0.weight": [1.0]}), network())


@pytest.mark.parametrize(
    "data",
    [b"", b"x" * 100, pickle.dumps({"a": 1}), (2**63).to_bytes(8, "little") + b"{}", b"\x02\0\0\0\0\0\0\0{}"],
)
def test_other_bytes_are_refused(data):
    packed = torch.frombuffer(bytearray(data or b"\0"), dtype=torch.uint8)
    with pytest.raises(Violation):
        unpack_weights(packed, network())


def test_more_bytes_than_the_network_has_are_refused_before_they_are_read():
    with pytest.raises(Violation, match="bytes, expected at most"):
        unpack_weights(torch.zeros(10**6, dtype=torch.uint8), network())
    with pytest.raises(Violation, match="expected the bytes"):
        unpack_weights(torch.zeros(4), network())
    limits = Limits(max_message_bytes=2**16).of_segmenter(2**12)
    big = Codec().encode(ScoreRequest("A", torch.zeros(2**20, dtype=torch.uint8) + 2))
    with pytest.raises(ValueError, match="expected a message of at most"):
        Codec().decode(big, limits)
    with pytest.raises(ValueError, match="max_message_bytes: the weights take up to"):
        Limits(max_message_bytes=2**16).of_segmenter(2**17)


def scores(**changed):
    said = {"counts": {"dice": 5}, "sums": {"dice": 2.5}, "squares": {"dice": 1.5}, "values": torch.empty(0)}
    return Scores(**{"site": "A", "weights": "ab", **said, **changed})


def test_scores_that_can_be():
    check_scores(scores(), "A", "ab", ["dice"])
    check_scores(
        scores(values=torch.full((1, 6), 0.5).index_fill_(1, torch.tensor(2), float("nan"))), "A", "ab", ["dice"]
    )
    check_scores(scores(counts={}, sums={}, squares={}), "A", "ab", ["dice"])


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"site": "B"}, "is of site 'B', not 'A'"),
        ({"weights": "cd"}, "scores of other weights"),
        ({"counts": {"age": 5}, "sums": {"age": 1.0}, "squares": {"age": 1.0}}, "an unknown metric: 'age', expected"),
        ({"sums": {}}, "not of the same metrics"),
        ({"counts": {"dice": 0}}, "count is 0"),
        ({"counts": {"dice": True}}, "count is True"),
        ({"sums": {"dice": float("nan")}}, "sum nan"),
        ({"squares": {"dice": float("inf")}}, "squares inf"),
        ({"squares": {"dice": -1.0}}, "squares -1.0"),
        ({"sums": {"dice": 10**400}}, "sum 1000"),
        ({"sums": {"dice": 5.0}}, "are not of 5 cases"),
        ({"values": torch.zeros(2, 5)}, "expected 1 rows"),
        ({"values": torch.zeros(1, 5).double()}, "expected 1 rows"),
        ({"values": torch.zeros(1, 4)}, "not as many as its count"),
    ],
)
def test_scores_that_cannot_be(changed, reason):
    with pytest.raises(Violation, match=reason):
        check_scores(scores(**changed), "A", "ab", ["dice"])
