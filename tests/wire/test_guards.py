from dataclasses import replace

import pytest
import torch

from bundle.wire.guards import LateReply, Violation, check_info, check_reply, check_synthetic
from bundle.wire.messages import SiteInfo, SiteReply, SyntheticBatch

CONDITIONS = torch.ones(2, 3, 4, 4, dtype=torch.uint8)
BATCH = SyntheticBatch("A", 5, torch.zeros(2, 1, 4, 4))
INFO = {"site": "A", "num_samples": 1, "step": 5, "conditions": CONDITIONS, "trained": 0}
INFO |= {"batch_size": 2, "nonce": "0f", "policy": "private (epsilon 4, delta 1e-05)"}
REPLY = {
    "site": "A",
    "step": 5,
    "image_gradient": torch.full((2, 1, 4, 4), 0.5),  # of norm 2 each
    "losses": {"adversarial": 0.7, "l1": 1},
    "conditions": CONDITIONS * 0,
}


def spoilt(value, index=(0, 0, 0, 0), **arguments):
    tensor = torch.full((2, 1, 4, 4), 0.5, **arguments)
    tensor[index] = value
    return tensor


def test_what_a_site_computes_passes():
    check_info(SiteInfo(**INFO), "A", 5, (3, 4, 4))
    check_info(SiteInfo(**INFO), "A", 5)
    check_reply(SiteReply(**REPLY), BATCH, CONDITIONS)
    check_reply(SiteReply(**REPLY), BATCH, CONDITIONS, max_gradient_norm=2.0)


def test_what_a_site_withholds_passes():
    nothing = torch.empty(0, dtype=torch.uint8)
    check_info(SiteInfo(**INFO | {"conditions": nothing}), "A", 5, (3, 4, 4))
    check_reply(SiteReply(**REPLY | {"losses": {}}), BATCH, CONDITIONS)
    own = replace(BATCH, conditions=CONDITIONS)
    check_reply(SiteReply(**REPLY | {"conditions": nothing}), own, CONDITIONS)


def test_conditions_come_from_one_side():
    own = replace(BATCH, conditions=CONDITIONS)
    check_synthetic(BATCH, "A", (2, 1, 4, 4))
    check_synthetic(own, "A", (2, 1, 4, 4), (2, 3, 4, 4))
    with pytest.raises(Violation, match="conditions of its own"):
        check_synthetic(own, "A", (2, 1, 4, 4))
    with pytest.raises(Violation, match=r"expected torch\.uint8"):
        check_synthetic(BATCH, "A", (2, 1, 4, 4), (2, 3, 4, 4))
    with pytest.raises(Violation, match="got 255"):
        check_synthetic(replace(BATCH, conditions=CONDITIONS * 255), "A", (2, 1, 4, 4), (2, 3, 4, 4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"site": "B"}, "is of site 'B', not 'A'"),
        ({"step": 6}, "step 6, which is yet to come after 5"),
        ({"step": 5.0}, "step is 5.0"),
        ({"step": None}, "step is None"),
        ({"image_gradient": torch.zeros(1, 1, 4, 4)}, "image gradient: expected"),
        ({"image_gradient": torch.zeros(2, 1, 4, 4, dtype=torch.float64)}, "got torch.float64"),
        ({"image_gradient": [[0.0]]}, "got a list"),
        ({"image_gradient": spoilt(float("nan"))}, "not finite"),
        ({"image_gradient": spoilt(float("-inf"), (1, 0, 3, 3))}, "not finite"),
        ({"image_gradient": spoilt(3.0, (1, 0, 0, 0))}, "norm 3.57, above 2.1"),
        ({"image_gradient": torch.full((2, 1, 4, 4), 3e38)}, r"norm 1.2e\+39, above"),
        ({"losses": {"l1": 1.0}}, "'adversarial' among them"),
        ({"nonce": 7}, "nonce is 7"),
        ({"conditions": CONDITIONS[:0]}, "conditions: expected torch.uint8"),
        ({"losses": [("adversarial", 1.0)]}, "'adversarial' among them"),
        ({"losses": {"adversarial": float("nan")}}, "adversarial is nan"),
        ({"losses": {"adversarial": float("-inf")}}, "adversarial is -inf"),
        ({"losses": {"adversarial": 10**400}}, "adversarial is 1000"),
        ({"losses": {"adversarial": True}}, "adversarial is True"),
        ({"losses": {"adversarial": "0.7"}}, "adversarial is '0.7'"),
        ({"losses": {"adversarial": 0.7, "a/b": 0.1}}, "'a/b' is no name"),
        ({"losses": {"adversarial": 0.7, "x" * 65: 0.1}}, "is no name"),
        ({"losses": {"adversarial": 0.7} | {f"l{i}": 0.0 for i in range(32)}}, "up to 32"),
        ({"conditions": CONDITIONS * 7}, "expected 0 and 1, got 7"),
        ({"conditions": CONDITIONS.float()}, "conditions: expected torch.uint8"),
        ({"conditions": CONDITIONS[:1]}, r"shape \(2, 3, 4, 4\), got torch.uint8 \(1, 3, 4, 4\)"),
        ({"conditions": CONDITIONS[:, :2]}, "conditions: expected"),
        ({"conditions": None}, "got a NoneType"),
    ],
)
def test_what_no_site_computes_does_not_pass(change, message):
    with pytest.raises(Violation, match=message) as caught:
        check_reply(SiteReply(**REPLY | change), BATCH, CONDITIONS, max_gradient_norm=2.1)
    assert not isinstance(caught.value, LateReply)


def test_a_reply_to_an_earlier_step_is_late_and_nothing_else():
    with pytest.raises(LateReply, match="it answers step 4, not 5"):
        check_reply(SiteReply(**REPLY | {"step": 4, "image_gradient": torch.zeros(1)}), BATCH, CONDITIONS)


def test_messages_of_another_kind_do_not_pass():
    for message in (SiteInfo(**INFO), BATCH, None, {"step": 5}):
        with pytest.raises(Violation, match=f"expected a SiteReply, got a {type(message).__name__}"):
            check_reply(message, BATCH, CONDITIONS)
    with pytest.raises(Violation, match="expected a SiteInfo, got a SiteReply"):
        check_info(SiteReply(**REPLY), "A", 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"site": "B"}, "is of site 'B'"),
        ({"num_samples": 0}, "num_samples is 0"),
        ({"num_samples": 1e9}, "num_samples is 1000000000.0"),
        ({"num_samples": True}, "num_samples is True"),
        ({"step": 4}, "for step 4, not 5"),
        ({"trained": -1}, "trained is -1"),
        ({"conditions": CONDITIONS[:, :2]}, "conditions of shape 2×4×4, expected 3×4×4"),
        ({"conditions": torch.ones(2, 3, 4, 5, dtype=torch.uint8)}, "conditions of shape 3×4×5, expected 3×4×4"),
        ({"conditions": torch.ones(2, 3, 1, 1, dtype=torch.uint8)}, "conditions of shape 3×1×1, expected 3×4×4"),
        ({"conditions": CONDITIONS[:1]}, "1 conditions for a batch_size of 2"),
        ({"conditions": CONDITIONS[:0].float()}, "not empty"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 17, "conditions": CONDITIONS[:0]}, "batch_size is 17, expected at most 16"),
        ({"nonce": "<b>"}, "nonce is"),
        ({"policy": "x" * 301}, "policy is"),
        ({"conditions": CONDITIONS[0]}, "B×X×H×W"),
        ({"conditions": CONDITIONS.int()}, "expected torch.uint8"),
        ({"conditions": CONDITIONS * 255}, "got 255"),
        ({"conditions": "x"}, "B×X×H×W"),
    ],
)
def test_what_no_site_says_of_itself_does_not_pass(change, message):
    with pytest.raises(Violation, match=message):
        check_info(SiteInfo(**INFO | change), "A", 5, (3, 4, 4), 16)
