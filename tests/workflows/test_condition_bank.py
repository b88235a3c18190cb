"""Generation where sites keep their conditions to themselves: from a bank of the server's own, beside others or not."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bundle.cli.main import main
from bundle.data import DataError, keep_conditions_by_site, load_datalist
from bundle.server import read_conditions
from bundle.workflows import ConfigError, DistributedGANWorkflow
from bundle.workflows.bank import make_bank
from bundle.workflows.experiment import Experiment
from bundle.workflows.figure_data import synthesis_rows
from bundle.workflows.figures import write_pages

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"


def words(sizes):
    return [f"{key}={json.dumps(value)}" for key, value in sizes.items()]


@pytest.fixture(scope="module")
def bank(phantom_dir, tiny_sizes, tmp_path_factory):
    """A bank of the phantoms' conditions."""
    path = tmp_path_factory.mktemp("bank") / "conditions.npz"
    files = [str(CONFIGS / name) for name in ("train.yaml", "brats.yaml", "demo.yaml")]
    make_bank(files, str(phantom_dir), path, tiny_sizes)
    return path


def experiment(phantom_dir, run_dir, sizes, **overrides):
    return Experiment(
        "brats",
        str(phantom_dir),
        "demo",
        run_dir=str(run_dir),
        settings=["asyndgan"],
        overrides=sizes | overrides,
        config_dir=str(CONFIGS),
    )


@pytest.fixture(scope="module")
def mixed(phantom_dir, tiny_sizes, bank, tmp_path_factory):
    """An experiment in which B keeps its conditions to itself, and the server has a bank."""
    run_dir = tmp_path_factory.mktemp("mixed")
    found = experiment(phantom_dir, run_dir, tiny_sizes, keep_conditions={"B": False}, condition_bank=str(bank))
    return found, found.run()


def outputs(experiment):
    return Path(experiment.run_dir) / "seed_0" / "asyndgan"


def test_a_bank_holds_what_sites_with_these_data_and_configs_release(bank, mixed):
    own, released = read_conditions(bank), read_conditions(outputs(mixed[0]) / "gan" / "conditions.npz")
    assert (list(own), list(released)) == (["A", "B"], ["A"])
    assert len(own["A"]) == len(released["A"]) > 0
    assert all(np.array_equal(*pair) for pair in zip(own["A"], released["A"], strict=True))


def test_the_command_writes_the_same_and_says_how_much(bank, phantom_dir, tiny_sizes, tmp_path, capsys):
    given = ["--task", "brats", "--profile", "demo", "--dataset_dir", str(phantom_dir)]
    assert main(["bank", *given, "--output", str(tmp_path / "bank.npz"), "--set", *words(tiny_sizes)]) == 0
    own, again = read_conditions(bank), read_conditions(tmp_path / "bank.npz")
    assert capsys.readouterr().out.splitlines()[:2] == [f"{site}: {len(own[site])} conditions" for site in "AB"]
    assert {site: np.array(found).tolist() for site, found in again.items()} == {
        site: np.array(found).tolist() for site, found in own.items()
    }


def test_every_synthetic_item_says_where_its_condition_came_from(bank, mixed):
    own = read_conditions(bank)
    items = load_datalist(outputs(mixed[0]) / "synthetic", deep=True).training
    expected = Counter({("A", "released by site"): len(own["A"])})
    expected["bank", "bank of the server"] = len(own["A"]) + len(own["B"])
    assert Counter((item["site"], item["condition_source"]) for item in items) == expected
    content = json.loads((outputs(mixed[0]) / "synthetic" / "datalist.json").read_text(encoding="utf-8"))
    assert content["site_rule"]["condition_source"] == {source: n for (_, source), n in expected.items()}


def test_the_segmenter_trains_on_all_of_it_and_the_site_that_keeps_its_own_takes_part(mixed):
    experiment, results = mixed
    items = load_datalist(outputs(experiment) / "synthetic").training
    assert results["settings"]["asyndgan"]["training_images"] == len(items)
    assert results["sites"]["B"]["answered"] == 4
    assert results["sites"]["B"]["strikes"] == results["sites"]["B"]["failures"] == 0


def test_the_report_shows_what_there_is(mixed):
    rows = synthesis_rows(mixed[0], "asyndgan")
    assert [row["site"] for row in rows] == ["A", "bank"]
    for row in rows:
        assert row["samples"]
        for sample in row["samples"]:
            assert sample["condition"].shape[-2:] == sample["synthetic"].shape[-2:] == (32, 32)
            assert (sample["real"] is None) == (row["site"] == "bank")
    assert write_pages(*mixed).is_file()


def test_a_bank_in_the_place_of_what_sites_released_and_another_one(mixed, bank, phantom_dir, tiny_sizes, tmp_path):
    def generate(**overrides):
        workflow = DistributedGANWorkflow(
            [str(CONFIGS / name) for name in ("generate.yaml", "brats.yaml", "demo.yaml")],
            bundle_root=str(tmp_path),
            dataset_dir="",
            output_dir=str(tmp_path / "out"),
            generator_path=str(outputs(mixed[0]) / "gan" / "generator.pt"),
            conditions_path=str(outputs(mixed[0]) / "gan" / "conditions.npz"),
            **tiny_sizes,
            **overrides,
        )
        workflow.initialize()
        workflow.run()

    # before anything is computed
    with pytest.raises(FileNotFoundError, match=r"keep_conditions: true.*condition_bank"):
        generate(use_released=False)
    with pytest.raises(FileNotFoundError, match="condition_bank: no file"):
        generate(condition_bank=str(tmp_path / "none.npz"))
    assert list(tmp_path.rglob("*.*")) == []
    generate(condition_bank=str(bank), use_released=False)
    items = load_datalist(tmp_path / "out" / "synthetic").training
    assert {item["site"] for item in items} == {"bank"}
    # where the bank lies may change, what it holds belongs to the configuration; both files of conditions have one name
    other = tmp_path / "other" / bank.name
    other.parent.mkdir()
    other.write_bytes(bank.read_bytes())
    generate(condition_bank=str(other), use_released=False)
    other.write_bytes(bank.read_bytes() + b"\0")
    with pytest.raises(ConfigError, match="sha256 of inputs"):
        generate(condition_bank=str(other), use_released=False)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"keep_conditions": False}, "nothing could be generated.*keep_conditions: true.*condition_bank"),
        ({"keep_conditions": {"A": False, "B": False}}, "nothing could be generated"),
        ({"keep_conditions": {"C": False}}, "keep_conditions is given for C, but the sites are A, B: there is no C"),
        ({"keep_conditions": "no"}, "keep_conditions: expected true or false"),
        ({"condition_bank": "none.npz"}, r"none\.npz is missing: condition_bank names it"),
    ],
)
def test_what_generation_lacks_is_said_before_hours_of_training(phantom_dir, tiny_sizes, tmp_path, overrides, message):
    with pytest.raises((ValueError, OSError), match=message):
        experiment(phantom_dir, tmp_path, tiny_sizes, **overrides).run()
    assert not list(tmp_path.rglob("*.pt"))


def test_one_site_that_holds_all_images_lets_conditions_be_kept_where_all_do(phantom_dir):
    data = load_datalist(phantom_dir)
    for keep, sites, pooled in [
        (True, {"A": True, "B": True}, True),
        (False, {"A": False, "B": False}, False),
        ({}, {"A": True, "B": True}, True),
        ({"B": False}, {"A": True, "B": False}, False),
    ]:
        assert keep_conditions_by_site(keep, data, "asyndgan") == sites
        assert keep_conditions_by_site(keep, data, "syn_all") == {"all": pooled}
    with pytest.raises(DataError, match="expected true or false"):
        keep_conditions_by_site({"A": 0}, data, "asyndgan")


def test_a_bank_that_cannot_be_made(phantom_dir, tmp_path, capsys):
    given = ["--task", "brats", "--dataset_dir"]
    assert main(["bank", *given, str(phantom_dir), "--output", str(tmp_path / "bank.npy")]) == 2
    assert "ends with .npz" in capsys.readouterr().err
    assert main(["bank", *given, str(tmp_path), "--output", str(tmp_path / "bank.npz")]) == 2
    assert "no such data list" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
