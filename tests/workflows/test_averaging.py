"""Federated averaging of the segmenter, against what must come out of it."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from bundle.workflows import ConfigError
from bundle.workflows.averaging import AveragedSites, AveragingSite, site_workflow, weighted_average
from bundle.workflows.experiment import Stages

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def stages(data, run_dir, sizes, **overrides):
    given = {**sizes, **overrides}
    return Stages("brats", str(data), "demo", str(run_dir), overrides=given, config_dir=str(CONFIGS))


def weights_of(run_dir, setting):
    return torch.load(run_dir / "seed_0" / setting / "segmenter" / "segmenter.pt", weights_only=True)


def assert_equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


@pytest.fixture
def one_site(phantom_dir, tmp_path):
    """The phantoms of site A alone."""
    content = json.loads((phantom_dir / "datalist.json").read_text(encoding="utf-8"))
    for part in ("training", "test"):
        content[part] = [item for item in content[part] if item["site"] == "A"]
    content = {key: value for key, value in content.items() if not key.startswith("num")}
    shutil.copytree(phantom_dir, tmp_path / "data")
    (tmp_path / "data" / "datalist.json").write_text(json.dumps(content), encoding="utf-8")
    return tmp_path / "data"


@pytest.mark.parametrize("setting", ["fedavg", "fedprox"])
def test_of_one_site_it_is_the_training_of_that_site_bit_for_bit(setting, one_site, tiny_sizes, tmp_path):
    made = stages(one_site, tmp_path / "run", tiny_sizes, averaging_steps=1, proximal_mu=0.0)
    for name in ("real_subset/A", setting):
        made.run_stage("segment", name, 0)
    assert_equal(weights_of(tmp_path / "run", setting), weights_of(tmp_path / "run", "real_subset/A"))


def test_of_equal_sites_and_one_step_of_sgd_it_is_pooled_sgd_on_the_same_batches(phantom_dir, tiny_sizes, tmp_path):
    sgd = {"optimizer#_target_": "torch.optim.SGD", "averaging_steps": 1, "segmenter_lr": 0.1, "amp": False}
    made = stages(phantom_dir, tmp_path / "run", tiny_sizes, **sgd)
    workflow = made.workflow("segment", "fedavg", 0)
    sites = {name: AveragingSite(site_workflow(workflow, name, 2), name) for name in ("A", "B")}
    averaged = AveragedSites(sites)
    averaged.num_samples = {"A": 1, "B": 1}
    started = averaged.weights
    seen = {name: [] for name in sites}
    for name, site in sites.items():
        loss = site._trainer.loss_function
        site._trainer.loss_function = lambda pred, label, name=name, loss=loss: (
            seen[name].append(label) or loss(pred, label)
        )
    images = {name: [] for name in sites}
    for name, site in sites.items():
        site._trainer.network.register_forward_pre_hook(lambda _, args, name=name: images[name].append(args[0].clone()))
    averaged.round(None)
    # the same step, on the batches of both at once
    network = made.workflow("segment", "real_all", 0).make("network")
    network.load_state_dict(started)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    loss = workflow.make("segmenter_loss_def")
    loss(network(torch.cat(images["A"] + images["B"])), torch.cat(seen["A"] + seen["B"])).backward()
    optimizer.step()
    for name, value in network.state_dict().items():
        assert torch.allclose(averaged.weights[name], value, atol=1e-5), name
    assert not torch.allclose(
        started["model.0.conv.unit0.conv.weight"], averaged.weights["model.0.conv.unit0.conv.weight"]
    )


def test_a_mean_weights_sites_by_their_samples_and_does_not_depend_on_who_answers_first():
    a, b = ({"w": torch.randn(50), "n": torch.tensor(k)} for k in (3, 5))
    mean = weighted_average({"A": a, "B": b}, {"A": 3, "B": 1})
    assert torch.allclose(mean["w"], 0.75 * a["w"] + 0.25 * b["w"])
    assert mean["n"] == 3
    assert_equal(mean, weighted_average({"B": b, "A": a}, {"B": 1, "A": 3}))
    for count in (1, 7, 118):
        assert_equal(weighted_average({"A": a}, {"A": count}), a)


def test_fedprox_holds_the_sites_together(phantom_dir, tiny_sizes, tmp_path):
    ends = {}
    for mu in (0.0, 100.0):
        made = stages(phantom_dir, tmp_path / str(mu), tiny_sizes, proximal_mu=mu, segmenter_lr=0.001)
        made.run_stage("segment", "fedprox", 0)
        ends[mu] = weights_of(tmp_path / str(mu), "fedprox")
    start = made.workflow("segment", "real_all", 0).make("network").state_dict()
    way = {mu: sum((end[name] - start[name]).pow(2).sum() for name in start) for mu, end in ends.items()}
    assert way[100.0] < 0.9 * way[0.0]


def test_a_run_that_stopped_goes_on_from_its_last_round_with_the_same_bits(
    phantom_dir, tiny_sizes, tmp_path, monkeypatch
):
    made = stages(phantom_dir, tmp_path / "whole", tiny_sizes, averaging_steps=1)
    made.run_stage("segment", "fedavg", 0)
    broken = stages(phantom_dir, tmp_path / "broken", tiny_sizes, averaging_steps=1)
    train, calls = AveragingSite.train, []

    def stopping(self, weights):
        calls.append(1)
        if len(calls) == 6:  # in the third round, after one of its sites
            raise KeyboardInterrupt
        return train(self, weights)

    monkeypatch.setattr(AveragingSite, "train", stopping)
    with pytest.raises(KeyboardInterrupt):
        broken.run_stage("segment", "fedavg", 0)
    assert not (tmp_path / "broken" / "seed_0" / "fedavg" / "segmenter" / "record.json").exists()
    monkeypatch.setattr(AveragingSite, "train", train)
    broken.run_stage("segment", "fedavg", 0)
    assert_equal(weights_of(tmp_path / "whole", "fedavg"), weights_of(tmp_path / "broken", "fedavg"))
    record = json.loads((tmp_path / "whole/seed_0/fedavg/segmenter/record.json").read_text(encoding="utf-8"))
    sizes = sum(value.numel() * value.element_size() for value in weights_of(tmp_path / "whole", "fedavg").values())
    assert [record[key] for key in ("rounds", "steps", "local_steps")] == [4, 4, 1]
    assert record["bytes_to_sites"] == record["bytes_from_sites"] == 4 * 2 * sizes


def test_steps_that_fill_no_rounds_are_refused_at_the_start(phantom_dir, tiny_sizes, tmp_path):
    with pytest.raises(ConfigError, match=r"segmenter_steps: 4 steps do not fill epochs of 3 \(averaging_steps\)"):
        stages(phantom_dir, tmp_path, tiny_sizes, averaging_steps=3).run_stage("segment", "fedavg", 0)
