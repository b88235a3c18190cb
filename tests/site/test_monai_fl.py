"""A site behind MONAI's federated interface, as a platform that knows nothing else would drive it."""

import io
import json
import logging

import numpy as np
import pytest
import torch
from monai.fl.client import ClientAlgo
from monai.fl.utils.constants import ExtraItems, WeightType
from monai.fl.utils.exchange_object import ExchangeObject
from small_sites import federation, generator, sites

from bundle.server import (
    ConditionCollector,
    DistributedGanTrainer,
    SequentialFederation,
    SiteUnreachable,
    read_conditions,
)
from bundle.server.federation import Outcome
from bundle.site.monai_fl import SiteAlgo, SiteRefusal, from_exchange, to_exchange
from bundle.site.store import SiteStore
from bundle.wire import WireLedger
from bundle.wire.messages import ConditionBatch, Refusal, SiteInfo, SiteReply, SyntheticBatch

LENGTHS = {"A": 3, "B": 5}


def carried(exchange):
    """What is left of an ExchangeObject on a platform that carries arrays and JSON, and nothing else."""
    buffer = io.BytesIO()
    assert all(type(array) is np.ndarray for array in (exchange.weights or {}).values())
    np.savez(buffer, **exchange.weights or {})
    buffer.seek(0)
    rest = json.loads(json.dumps([exchange.metrics, exchange.statistics, exchange.weight_type]))
    with np.load(buffer, allow_pickle=False) as stored:
        weights = {name: stored[name] for name in stored.files} or None
    return ExchangeObject(weights=weights, metrics=rest[0], statistics=rest[1], weight_type=rest[2])


class HostedFederation(SequentialFederation):
    """Sites that are reached by the methods of MONAI's ClientAlgo alone."""

    def __init__(self, algos):
        self.algos: dict[str, ClientAlgo] = algos
        self.ledger = WireLedger()

    @property
    def sites(self):
        return tuple(sorted(self.algos))

    def open(self, step, sites=None, waiting=None):
        messages = {}
        for name in self.sites if sites is None else sites:
            self.algos[name].initialize({ExtraItems.CLIENT_NAME: name, "step": step})
            messages[name] = from_exchange(carried(self.algos[name].get_weights()), SiteInfo)
        return Outcome(messages)

    def step(self, batch):
        name = batch.site
        try:
            assert self.algos[name].train(carried(to_exchange(batch)), extra={}) is None
            return Outcome({name: from_exchange(carried(self.algos[name].get_weights()), SiteReply)})
        except SiteRefusal as error:
            return Outcome(failures={name: str(error)})

    def conditions(self, request):
        places = {"start": request.start, "stop": request.stop}
        try:
            return from_exchange(carried(self.algos[request.site].get_weights(places)), ConditionBatch)
        except SiteRefusal as error:
            raise SiteUnreachable(str(error)) from error

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def hosted(**kwargs):
    return HostedFederation({site.name: SiteAlgo(site) for site in sites(LENGTHS, **kwargs)})


def train(fed, steps=6, handlers=()):
    torch.manual_seed(0)
    network = generator()
    trainer = DistributedGanTrainer(
        device="cpu",
        max_epochs=steps // 2,
        epoch_length=2,
        federation=fed,
        generator=network,
        optimizer=torch.optim.Adam(network.parameters(), lr=1e-3),
        rejoin_interval=1,
        train_handlers=list(handlers),
    )
    trainer.logger.setLevel(logging.CRITICAL)
    trainer.run()
    return trainer


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_a_whole_training_through_monais_interface_gives_the_same_bits(tmp_path):
    local, remote = federation(lengths=LENGTHS), hosted()
    paths = [tmp_path / "local.npz", tmp_path / "hosted.npz"]
    trainers = [
        train(fed, handlers=[ConditionCollector(fed, str(path), chunk=2)])
        for fed, path in zip((local, remote), paths, strict=True)
    ]
    one, two = trainers
    assert torch.equal(weights(one.generator), weights(two.generator))
    for name in LENGTHS:
        assert torch.equal(
            weights(local.site(name).critic.discriminator), weights(remote.algos[name].site.critic.discriminator)
        )
    assert one.state.output[0]["losses"] == two.state.output[0]["losses"]
    assert one.state.sites == two.state.sites
    found = [read_conditions(path) for path in paths]
    assert all(np.array_equal(*pair) for name in LENGTHS for pair in zip(*(f[name] for f in found), strict=True))
    assert [len(found[1][name]) for name in LENGTHS] == [3, 5]


def test_a_site_that_refuses_costs_its_share_of_the_step_and_comes_back():
    remote = hosted()
    site = remote.algos["B"].site
    step, failing = site.step, iter([True])
    site.step = lambda batch: (_ for _ in ()).throw(OSError("/data/B/case_7.nii")) if next(failing, 0) else step(batch)
    about = train(remote).state.sites
    assert (about["B"]["answered"], about["B"]["failures"], about["B"]["strikes"]) == (5, 1, 0)
    assert about["A"]["answered"] == 6


def test_it_is_what_a_platform_of_monai_expects():
    (site,) = sites({"A": 3})
    algo = SiteAlgo(site)
    assert isinstance(algo, ClientAlgo)
    with pytest.raises(SiteRefusal, match="nothing to say"):
        algo.get_weights()
    algo.initialize({ExtraItems.CLIENT_NAME: "A", ExtraItems.APP_ROOT: "/somewhere"})
    info = algo.get_weights()
    assert info.is_valid_weights()
    assert info.statistics == {"site": "A", "num_samples": 3, "step": 1, "trained": 0} | {
        "batch_size": 2,
        "nonce": info.statistics["nonce"],
        "policy": "published",
        "modalities": "",
    }
    assert algo.train(to_exchange(batch(1))) is None
    reply, again = algo.get_weights(), algo.get_weights()
    assert reply.weights.keys() == {"image_gradient", "conditions"}
    assert reply.metrics.keys() == {"adversarial", "discriminator", "l1"}
    assert (reply.statistics, reply.weight_type) == (
        {"site": "A", "step": 1, "nonce": reply.statistics["nonce"]},
        WeightType.WEIGHTS,
    )
    assert all(np.array_equal(array, again.weights[name]) for name, array in reply.weights.items())
    # what a platform does to its copy is nothing to the site
    reply.weights["image_gradient"][:] = 0
    assert again.weights["image_gradient"].any()
    assert algo.get_weights().weights["image_gradient"].any()
    algo.finalize()
    with pytest.raises(SiteRefusal, match="nothing to say"):
        algo.get_weights()
    for method in (algo.evaluate, algo.get_data_stats):
        with pytest.raises(NotImplementedError):
            method(None)


def test_another_sites_name_is_refused():
    (site,) = sites({"A": 3})
    with pytest.raises(SiteRefusal, match="here is site A, not 'B'"):
        SiteAlgo(site).initialize({ExtraItems.CLIENT_NAME: "B"})


def batch(step, site="A", **kwargs):
    return SyntheticBatch(site, step, torch.full((2, 1, 8, 8), 0.1, **kwargs))


def exchange(**change):
    """A whole batch, with other statistics or arrays; a field of None is left out."""
    statistics = {"site": "A", "step": 1, "nonce": ""} | change.pop("statistics", {})
    whole = {"weights": {"images": IMAGES, "conditions": NONE}, "statistics": statistics} | change
    if isinstance(whole["weights"], dict):
        whole["weights"] = {"conditions": NONE} | whole["weights"]
    whole["statistics"] = {name: value for name, value in whole["statistics"].items() if value is not None}
    return ExchangeObject(**whole)


IMAGES = np.zeros((2, 1, 8, 8), np.float32)
NONE = np.zeros(0, np.uint8)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (exchange(statistics={"site": "B", "step": 1}), "is for site 'B', not 'A'"),
        (exchange(statistics={"site": "A", "step": 0}), "step is 0"),
        (exchange(statistics={"site": "A", "step": 1.0}), "got 1.0"),
        (exchange(statistics={"step": None}), r"not \['conditions', 'images', 'nonce', 'site'\]"),
        (exchange(statistics={"site": "A", "step": 1, "images": 3}), "a field twice"),
        (exchange(weights=None), r"not \['nonce', 'site', 'step'\]"),
        (exchange(weights={"images": IMAGES, "more": IMAGES}), "'more'"),
        (exchange(weights=[IMAGES]), "no dictionary"),
        (exchange(weights={"images": IMAGES[:1]}), r"got torch.float32 \(1, 1, 8, 8\)"),
        (exchange(weights={"images": IMAGES.astype(np.float64)}), "got torch.float64"),
        (exchange(weights={"images": IMAGES.astype(object)}), "got a ndarray"),
        (exchange(weights={"images": IMAGES.tolist()}), "got a list"),
        (exchange(weights={"images": IMAGES + np.nan}), "from nan to nan"),
        (exchange(weights={"images": IMAGES + 2}), "from 2 to 2"),
        (exchange(metrics={"loss": 1.0}), "'losses'"),
        (exchange(weight_type=WeightType.WEIGHT_DIFF), "got differences"),
        ({"weights": {"images": IMAGES}}, "expected an ExchangeObject, got a dict"),
        (None, "expected an ExchangeObject, got a NoneType"),
    ],
)
def test_what_is_no_batch_is_refused_without_touching_the_discriminator(data, message, caplog):
    (site,) = sites({"A": 3})
    algo = SiteAlgo(site)
    algo.initialize()
    before = weights(site.critic.discriminator)
    with pytest.raises(SiteRefusal, match="train was refused, see the site's log"):
        algo.train(data)
    assert torch.equal(weights(site.critic.discriminator), before)
    assert site.trained == 0
    assert caplog.records
    with pytest.raises(ValueError, match=message):
        site.step(from_exchange(data, SyntheticBatch))


@pytest.mark.parametrize("extra", [{"step": 0}, {"step": 1.5}, {"step": "1"}, {"step": True}])
def test_steps_are_whole_numbers_from_1(extra):
    (site,) = sites({"A": 3})
    with pytest.raises(SiteRefusal, match="initialize was refused"):
        SiteAlgo(site).initialize(extra)
    assert site.trained == 0


def test_a_failed_call_leaves_no_answer_of_the_one_before():
    (site,) = sites({"A": 3})
    algo = SiteAlgo(site)
    algo.initialize({"step": np.int64(1)})
    algo.train(to_exchange(batch(1)))
    with pytest.raises(SiteRefusal):
        algo.train(to_exchange(batch(2, site="B")))
    with pytest.raises(SiteRefusal, match="the call before failed"):
        algo.get_weights()
    # conditions for generation are asked for at any time
    assert algo.get_weights({"start": 0, "stop": 2}).weights["conditions"].shape == (2, 2, 8, 8)
    with pytest.raises(SiteRefusal, match="get_weights was refused"):
        algo.get_weights({"start": 0, "stop": "2"})


def test_the_text_of_a_sites_error_stays_at_the_site(caplog):
    (site,) = sites({"A": 3})
    site.step = lambda batch: (_ for _ in ()).throw(ValueError("/data/patients/Doe_Jane.nii is damaged"))
    with pytest.raises(SiteRefusal) as caught:
        SiteAlgo(site).train(to_exchange(batch(1)))
    error = caught.value
    assert "Doe" in caplog.text
    assert "Doe" not in str(error)
    assert (error.__cause__, error.__context__) == (None, None)


def test_a_step_is_done_once_and_a_server_may_go_back(tmp_path):
    def make():
        (site,) = sites({"A": 3}, store=lambda name: SiteStore(tmp_path / name, interval=2))
        return SiteAlgo(site)

    def run(algo, steps):
        for step in steps:
            algo.train(to_exchange(batch(step)))
        return algo.get_weights().weights["image_gradient"]

    algo = make()
    algo.initialize()
    last = run(algo, range(1, 6))
    assert np.array_equal(run(algo, [5]), last)
    # both were killed: the server goes back to its checkpoint of step 4, and so does the site
    algo = make()
    algo.initialize({"step": 5})
    assert algo.get_weights().statistics["trained"] == 4
    assert np.array_equal(run(algo, [5]), last)


def test_tensors_are_taken_as_well_as_arrays():
    message = batch(3)
    for images in (message.images, message.images.numpy()):
        about = {"site": "A", "step": np.int32(3), "nonce": ""}
        object_ = ExchangeObject(weights={"images": images, "conditions": NONE}, statistics=about)
        assert torch.equal(from_exchange(object_, SyntheticBatch).images, message.images)


def test_messages_without_arrays_and_what_is_none():
    assert from_exchange(carried(to_exchange(Refusal("A", "no"))), Refusal) == Refusal("A", "no")
    with pytest.raises(TypeError, match="only messages cross"):
        to_exchange({"images": IMAGES})
