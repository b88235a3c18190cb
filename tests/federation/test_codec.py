import json

import pytest
import torch

from bundle.federation import Codec, WireLedger
from bundle.federation.messages import ConditionBatch, ConditionRequest, SiteInfo, SiteReply, SyntheticBatch

MESSAGES = [
    SiteInfo("CS", 65, 3, torch.randint(0, 2, (2, 3, 8, 8), dtype=torch.uint8)),
    SyntheticBatch("HT", 12, torch.randn(2, 1, 8, 8)),
    SiteReply(
        "DU", 7, torch.randn(2, 1, 8, 8) * 1e-30, {"l1": 0.1, "d": 1e-300}, torch.ones(1, 2, 4, 4, dtype=torch.uint8)
    ),
    ConditionRequest("FG", 0, 64),
    ConditionBatch("FG", 64, torch.empty(0, dtype=torch.uint8)),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_a_message_comes_back_exactly(message):
    decoded = Codec().decode(Codec().encode(message))
    assert type(decoded) is type(message)
    for name, value in vars(message).items():
        other = getattr(decoded, name)
        if isinstance(value, torch.Tensor):
            assert value.dtype == other.dtype
            assert torch.equal(value, other)
        else:
            assert value == other


def test_size_is_that_of_the_tensors_and_a_short_header():
    images = torch.zeros(2, 1, 128, 128)
    assert 0 < len(Codec().encode(SyntheticBatch("CS", 1, images))) - images.numel() * 4 < 512


def test_only_messages_cross():
    class Sneaked(SyntheticBatch):
        """Has the fields of a message, and is none."""

    for other in ({"images": torch.zeros(1)}, torch.zeros(1), Sneaked("A", 1, torch.zeros(1))):
        with pytest.raises(TypeError, match="only messages cross"):
            Codec().encode(other)


def test_what_is_no_message_is_refused():
    from safetensors.torch import save

    whole = Codec().encode(MESSAGES[1])

    def with_header(**fields):
        return save({"images": torch.zeros(1)}, metadata={"message": json.dumps(fields)})

    wrong = {
        "nothing": b"",
        "noise": b"\x80\x04\x95" + bytes(200),
        "half a message": whole[: len(whole) // 2],
        "no header": save({"images": torch.zeros(1)}),
        "unknown type": with_header(kind="Model", site="A", step=1),
        "field missing": with_header(kind="SyntheticBatch", site="A"),
        "field too many": with_header(kind="SyntheticBatch", site="A", step=1, path="x"),
    }
    for data in wrong.values():
        with pytest.raises(ValueError):
            Codec().decode(data)


def test_ledger_counts_by_site_and_direction_and_resumes():
    ledger = WireLedger()
    ledger.sent("B", 10)
    ledger.sent("B", 5)
    ledger.received("A", 7)
    ledger.steps = 3
    resumed = WireLedger()
    resumed.load_state_dict(ledger.state_dict())
    ledger.sent("A", 1)
    assert resumed.summary() == {
        "bytes_to_sites": 15,
        "bytes_from_sites": 7,
        "steps": 3,
        "per_site": {"A": {"to": 0, "from": 7}, "B": {"to": 15, "from": 0}},
    }
