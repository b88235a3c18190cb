"""The toy mixture through the same experiment as the images."""

import json
from pathlib import Path

import numpy as np
import pytest

from bundle.cli.main import main
from bundle.data import load_datalist
from bundle.evaluation import read_draws
from bundle.phantoms.gaussian import write_mixture
from bundle.workflows import ConfigError
from bundle.workflows.experiment import Experiment
from bundle.workflows.figures import write_pages

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ["syn_all", "syn_subset/1", "syn_subset/2", "syn_subset/3", "asyndgan"]
SIZES = {"num_steps": 4, "epoch_length": 2, "batch_size": 4, "generator_channels": 8, "discriminator_channels": 8}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_mixture(tmp_path_factory.mktemp("data") / "toy", draws=[40, 16, 24], test_draws=50).parent


def make_experiment(data, run_dir, overrides=None, **arguments):
    return Experiment(
        "gaussian",
        str(data),
        run_dir=str(run_dir),
        config_dir=str(ROOT / "configs"),
        overrides=SIZES | {"device": "cpu"} | (overrides or {}),
        **arguments,
    )


def test_a_setting_of_segmenters_alone_is_refused(data, tmp_path):
    with pytest.raises(
        ConfigError, match="fedavg trains a segmenter alone, and the task gaussian has no stage segment"
    ):
        make_experiment(data, tmp_path, settings=["fedavg"])


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    experiment = make_experiment(data, tmp_path_factory.mktemp("run"))
    results = experiment.run()
    return experiment, results, write_pages(experiment, results)


def test_settings_and_scores(finished):
    experiment, results, _ = finished
    assert results["settings"] == {}
    assert "profile" not in results
    assert list(results["quality"]) == SETTINGS
    for setting, scores in results["quality"].items():
        assert list(scores) == ["w1", "w1_component", "w1_data"]
        assert np.isfinite(scores["w1"]["mean"])
        known = {case for case, (value,) in scores["w1_component"]["per_case"].items() if value is not None}
        _, _, site = setting.partition("/")
        assert known == ({f"component {site}"} if site else {"component 1", "component 2", "component 3"})
        assert (scores["w1_component"]["mean"] is None) == bool(site)
    assert results["losses"] == "vanilla adversarial"
    written = json.loads((Path(experiment.run_dir) / "results.json").read_text(encoding="utf-8"))
    # the page and its figures belong to the run
    assert written == results | {"wall_seconds": written["wall_seconds"]}


def test_a_synthetic_number_for_every_real_one(finished):
    experiment, _, _ = finished
    workflow = experiment.workflow("quality", "asyndgan", 0)
    load = workflow.make("quality_def::load")
    items = load_datalist(experiment.output_dir("asyndgan", 0) / "synthetic", deep=True).training
    assert [item["site"] for item in items] == ["1", "2", "3"]
    for item, count, component in zip(items, [40, 16, 24], [1, 2, 3], strict=True):
        values, labels = read_draws([item], load)
        assert set(labels) == {component}
        # with noise no two numbers of a component are the same
        assert len(np.unique(values)) == len(values) == count
        assert np.abs(values).max() <= 15
    # the same conditions for the generator that had all data in one place
    (pooled,) = load_datalist(experiment.output_dir("syn_all", 0) / "synthetic").training
    assert np.bincount(read_draws([pooled], load)[1].astype(int)).tolist() == [0, 40, 16, 24]


def test_the_batch_of_a_generation_changes_no_number(finished, data, tmp_path):
    experiment, _, _ = finished
    other = make_experiment(data, experiment.run_dir, {"generation_batch_size": 7})
    workflow = other.workflow("generate", "asyndgan", 0)
    workflow.parser["output_dir"] = str(tmp_path)
    workflow.parser["config_path"] = None
    for key in ("generator_path", "conditions_path"):
        name = Path(workflow.parser.get_parsed_content(key)).name
        workflow.parser[key] = str(experiment.output_dir("asyndgan", 0) / "gan" / name)
    workflow.initialize()
    workflow.run()
    for site in "123":
        made = (tmp_path / "synthetic" / "images" / f"{site}.nii").read_bytes()
        assert made == (experiment.output_dir("asyndgan", 0) / "synthetic" / "images" / f"{site}.nii").read_bytes()


def test_the_report_has_one_row_of_histograms(finished):
    experiment, _, page = finished
    figures = sorted(path.name for path in (Path(experiment.run_dir) / "figures").iterdir())
    assert figures == ["figures.json", "histograms.png", "histograms_shareable.png", "losses.png"]
    text = page.read_text(encoding="utf-8")
    assert "W1 / Syn" in text
    assert "egmentation model" not in text


def test_numbers_outside_the_range_are_refused_before_the_training(data, tmp_path):
    experiment = make_experiment(data, tmp_path, {"image_range": [-2.0, 2.0]}, settings=["asyndgan"])
    with pytest.raises(ValueError, match=r"train_1\.nii: 'image' has values from .*, expected -2 to 2"):
        experiment.run()


def test_the_task_has_its_own_sizes(data, tmp_path, capsys):
    with pytest.raises(ConfigError, match="the task gaussian has sizes of its own and takes no profile, got 'small'"):
        make_experiment(data, tmp_path, profile="small")
    words = ["--task", "gaussian", "--dataset_dir", str(data), "--run_dir", str(tmp_path / "run"), "--settings"]
    sizes = ["--set", "device=cpu", *(f"{key}={value}" for key, value in SIZES.items())]
    assert main(["run", *words, "syn_subset/2", *sizes]) == 0
    said = capsys.readouterr().out
    assert "Syn-Subset-2" in said
    assert "W1 ↓" in said


def test_a_generator_learns_the_mean_and_the_spread_of_a_component(data, tmp_path):
    """Against one discriminator, a few hundred steps."""
    sizes = {"num_steps": 200, "epoch_length": 100, "batch_size": 10, "lr": 5.0e-3}
    experiment = make_experiment(data, tmp_path, sizes, settings=["syn_subset/1"])
    scores = experiment.run()["quality"]["syn_subset/1"]["w1_component"]["per_case"]
    load = experiment.workflow("quality", "syn_subset/1", 0).make("quality_def::load")
    values, _ = read_draws(load_datalist(experiment.output_dir("syn_subset/1", 0) / "synthetic").training, load)
    assert scores["component 1"][0] < 1.5  # 3 at the start: G's numbers are around 0
    assert 2**0.5 / 2 < values.std() < 2**0.5 * 2
