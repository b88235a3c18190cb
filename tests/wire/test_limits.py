import pytest
import torch
from small_sites import generator, sites

pytest.importorskip("nvflare", reason="the extra `federation` is not installed")

from wired_sites import ends, federate

from bundle.server import ConditionCollector, DistributedGanTrainer, read_conditions
from bundle.wire import Codec, Limits
from bundle.wire.guards import Violation
from bundle.wire.messages import (
    ConditionBatch,
    ConditionRequest,
    OpenRequest,
    Refusal,
    SiteInfo,
    SiteReply,
    SyntheticBatch,
)

KNOWN = {"image_shape": (1, 8, 8), "condition_shape": (2, 8, 8), "max_batch_size": 4}
ZSTD = Codec(compression="zstd")


def masks(*shape):
    return torch.zeros(*shape, dtype=torch.uint8)


def test_bytes_are_those_of_what_was_asked_for():
    limits = Limits(**KNOWN)
    assert limits.answers(OpenRequest("A", 1)) == {"SiteInfo": 4 * 2 * 64, "Refusal": 0}
    batch = SyntheticBatch("A", 1, torch.zeros(3, 1, 8, 8))
    assert limits.answers(batch) == {"SiteReply": 3 * (4 * 64 + 2 * 64), "Refusal": 0}
    assert limits.answers(ConditionRequest("A", 8, 13)) == {
        "ConditionBatch": 5 * 2 * 64,
        "TaughtBatch": 5 * (2 + 4) * 64,
        "TaughtWeights": 2**24,
        "Refusal": 0,
    }
    larger = Limits(**KNOWN, max_condition_size=16)
    assert larger.answers(ConditionRequest("A", 8, 13))["ConditionBatch"] == 5 * 2 * 256
    assert limits.requests(3) == {"OpenRequest": 0, "SyntheticBatch": 3 * (4 * 64 + 2 * 64), "ConditionRequest": 0}


def test_what_is_not_known_is_bounded_all_the_same():
    limits = Limits(max_message_bytes=2**17)
    assert set(limits.requests(1000).values()) == {0, 2**17}
    for request in (OpenRequest("A", 1), ConditionRequest("A", 0, 9), SyntheticBatch("A", 1, torch.zeros(1, 1, 8, 8))):
        assert max(limits.answers(request).values()) == 2**17


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_shape": (8, 8)}, "image_shape: expected channels, height and width"),
        ({"condition_shape": (2, 0, 8)}, "condition_shape: expected channels"),
        ({"condition_shape": (2, 8.0, 8)}, "condition_shape: expected channels"),
        ({"max_condition_size": 0}, "max_condition_size: expected a whole number of at least 1, got 0"),
        ({"max_batch_size": True}, "max_batch_size: expected a whole number"),
        ({"max_message_bytes": 1e9}, "max_message_bytes: expected a whole number of at least 65536"),
    ],
)
def test_limits_are_whole_numbers(change, message):
    with pytest.raises(ValueError, match=message):
        Limits(**KNOWN | change)


def test_a_site_whose_batches_are_too_large_hears_so_before_it_takes_part():
    with pytest.raises(ValueError, match="batch_size: this training takes up to 4 of a site, got 5"):
        Limits(**KNOWN).requests(5)
    large = Limits((1, 256, 256), (2, 256, 256), max_message_bytes=2**18)
    with pytest.raises(ValueError, match="max_message_bytes: a batch of 1 images takes 393216, got 262144"):
        large.requests(1)


@pytest.mark.parametrize("found", [(2, 8, 8), (2, 16, 9), (2, 16, 16)])
def test_conditions_for_generation_may_be_larger_where_the_task_says_so(found):
    Limits(**KNOWN, max_condition_size=16).check_size(ConditionBatch("A", 0, masks(1, *found)))


@pytest.mark.parametrize("found", [(2, 8, 7), (2, 16, 17), (1, 8, 8), (3, 8, 8), (2, 1, 1), (128,)])
def test_conditions_that_no_generator_of_this_training_takes_do_not_pass(found):
    for limits in (Limits(**KNOWN, max_condition_size=16), Limits(**KNOWN)):
        with pytest.raises(Violation, match=r"conditions of shape .*, expected 2×8×8"):
            limits.check_size(ConditionBatch("A", 0, masks(1, *found)))
    with pytest.raises(Violation):
        Limits(**KNOWN).check_size(ConditionBatch("A", 0, masks(1, 2, 16, 16)))


# a whole training with a site that answers more than anybody asked for


def liar(**answers):
    """Answers, by what is asked, encoded so that they are small."""

    def answer(data):
        request = Codec().decode(data)
        return ZSTD.encode(answers.get(type(request).__name__, lambda r: Refusal("E", "no"))(request))

    return answer


def train(monkeypatch, path, evil, known):
    """Sites A and B and perhaps a liar E: the trainer, after 4 steps."""
    limits = KNOWN if known else {"max_message_bytes": 2**24}
    answers = ends(sites()) | ({"E": evil} if evil else {})
    fed, proxies = federate(monkeypatch, answers, limits=Limits(**limits))
    torch.manual_seed(0)
    network = generator()
    kwargs = {"rejoin_interval": 1, "max_batch_size": limits.get("max_batch_size", 2**16)}
    handlers = [ConditionCollector(fed, str(path), chunk=4, max_bytes=2**13)]
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    trainer = DistributedGanTrainer("cpu", 1, 4, fed, network, optimizer, train_handlers=handlers, **kwargs)
    trainer.run()
    trainer.proxies = proxies
    return trainer


LIES = {
    "tall conditions": {"OpenRequest": lambda r: SiteInfo("E", 1, r.step, masks(1, 2, 2048, 2048), 0)},
    "many conditions": {"OpenRequest": lambda r: SiteInfo("E", 1, r.step, masks(999, 2, 8, 8), 0, 999)},
    "conditions of one pixel": {"OpenRequest": lambda r: SiteInfo("E", 1, r.step, masks(1, 2, 1, 1), 0)},
    "an endless batch": {"OpenRequest": lambda r: SiteInfo("E", 1, r.step, masks(0), 0, 2**16)},
    "a large gradient": {
        "OpenRequest": lambda r: SiteInfo("E", 1, r.step, masks(1, 2, 8, 8), 0),
        "SyntheticBatch": lambda r: SiteReply("E", r.step, torch.zeros(1, 1, 512, 512), {}, masks(1, 2, 8, 8)),
    },
    "no message": {"OpenRequest": lambda r: SyntheticBatch("E", 1, torch.zeros(1))},
    "large conditions to keep": {"ConditionRequest": lambda r: ConditionBatch("E", r.start, masks(64, 2, 1000, 1000))},
    "small conditions to keep": {"ConditionRequest": lambda r: ConditionBatch("E", r.start, masks(1, 2, 4, 4))},
    "conditions to keep without end": {"ConditionRequest": lambda r: ConditionBatch("E", r.start, masks(4, 2, 8, 8))},
}


# without limits that say more, another shape than most sites' is found all the same
FOUND_ANYHOW = [lie for lie in LIES if lie not in ("many conditions", "an endless batch", "small conditions to keep")]


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """Weights of the training without the liar."""
    with pytest.MonkeyPatch.context() as patch:
        trainer = train(patch, tmp_path_factory.mktemp("honest") / "c.npz", None, True)
    return torch.cat([parameter.detach().flatten() for parameter in trainer.generator.parameters()])


@pytest.mark.parametrize(("lie", "known"), [*((lie, True) for lie in LIES), *((lie, False) for lie in FOUND_ANYHOW)])
def test_what_is_larger_than_it_can_be_is_a_strike_and_changes_nothing(monkeypatch, tmp_path, honest, lie, known):
    trainer = train(monkeypatch, tmp_path / "c.npz", liar(**LIES[lie]), known)
    about = trainer.state.sites["E"]
    keeps = "ConditionRequest" in LIES[lie]
    assert about["strikes"] == (1 if keeps else 3)
    assert about["state"] == ("missing" if keeps else "left out")
    weights = torch.cat([parameter.detach().flatten() for parameter in trainer.generator.parameters()])
    assert torch.equal(weights, honest)
    assert set(read_conditions(tmp_path / "c.npz")) == {"A", "B"}
    assert len(trainer.proxies["E"].received) < 30
