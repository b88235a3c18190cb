"""The settings that say what a hospital gains, on tiny phantoms: what each segmenter is trained on."""

import json
from pathlib import Path

import numpy as np
import pytest

from bundle.cli.main import main
from bundle.data import DataError, load_datalist
from bundle.workflows.experiment import Experiment
from bundle.workflows.figures import write_pages

pytestmark = pytest.mark.long

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
ASKED = [
    "real_subset/A",
    "real_subset_augmented/A",
    "real_subset_plus_asyndgan/A",
    "asyndgan_then_real_subset/A",
    "fedavg",
    "labels_only",
    "leave_out/A",
    "leave_out_real_all/A",
    "leave_out_fedavg/A",
]


def make_experiment(data, run_dir, sizes, **arguments):
    arguments = {"profile": "demo", "overrides": sizes} | arguments
    return Experiment("brats", str(data), run_dir=str(run_dir), config_dir=str(CONFIGS), **arguments)


@pytest.fixture(scope="module")
def finished(phantom_dir, tiny_sizes, tmp_path_factory):
    sizes = tiny_sizes | {"stages": ["train", "generate", "segment", "evaluate"], "release_policy": "published"}
    sizes |= {"transform_first_copy": False, "min_tumor_pixels": 1}
    experiment = make_experiment(phantom_dir, tmp_path_factory.mktemp("gain"), sizes, settings=ASKED)
    return experiment, experiment.run()


def images(finished):
    return {setting: scores["training_images"] for setting, scores in finished[1]["settings"].items()}


def test_every_setting_that_was_asked_for_is_scored_and_no_other(finished):
    assert set(finished[1]["settings"]) == set(ASKED)


def test_each_is_trained_on_what_it_says(finished, phantom_dir):
    seen, run = images(finished), Path(finished[0].run_dir) / "seed_0"
    of = {name: len(load_datalist(run / name / "synthetic").training) for name in ("asyndgan", "leave_out/A")}
    own = seen["real_subset/A"]
    assert seen["real_subset_augmented/A"] == own
    assert seen["real_subset_plus_asyndgan/A"] == seen["asyndgan_then_real_subset/A"] == own + of["asyndgan"]
    assert seen["labels_only"] == of["asyndgan"] == seen["fedavg"]
    assert seen["leave_out/A"] == of["leave_out/A"]
    assert seen["leave_out_real_all/A"] == seen["leave_out_fedavg/A"] == seen["fedavg"] - own
    assert {item["site"] for item in load_datalist(run / "leave_out" / "A" / "synthetic").training} == {"B"}


def test_painted_images_have_the_label_maps_of_the_synthetic_ones(finished):
    run = Path(finished[0].run_dir) / "seed_0"
    drawn, painted = (load_datalist(run / name / "synthetic").training for name in ("asyndgan", "labels_only"))
    assert [item["case"] for item in drawn] == [item["case"] for item in painted]
    for one, other in zip(drawn, painted, strict=True):
        assert Path(one["label"]).read_bytes() == Path(other["label"]).read_bytes()
        assert Path(one["image"]).read_bytes() != Path(other["image"]).read_bytes()


def test_no_label_of_a_held_out_patient_comes_in_by_the_synthetic_side(finished, phantom_dir):
    experiment, _ = finished
    samples = experiment.workflow("train", "asyndgan", 0).make("samples_def")
    of_training = samples(data=experiment.datalist.training, name="training")
    of_test = samples(data=experiment.datalist.test, name="test")
    known = [{of[i]["condition"].numpy().tobytes() for i in range(len(of))} for of in (of_training, of_test)]
    assert not known[0] & known[1]
    bank = experiment.workflow("generate", "asyndgan", 0).make("dataset")
    released = {np.asarray(x, np.uint8).tobytes() for conditions in bank.conditions.values() for x in conditions}
    # the label maps of the training patients as they are, by the policy of this run
    assert released <= known[0]


def test_what_averaging_took_is_in_the_results(finished):
    averaging = finished[1]["averaging"]
    assert set(averaging) == {"fedavg", "leave_out_fedavg/A"}
    assert averaging["fedavg"]["rounds"] == 2
    assert averaging["fedavg"]["bytes_to_sites"] == 2 * averaging["leave_out_fedavg/A"]["bytes_to_sites"]


def test_a_second_start_with_fewer_settings_keeps_the_others(finished, phantom_dir, tiny_sizes):
    experiment, results = finished
    again = make_experiment(
        phantom_dir, experiment.run_dir, dict(experiment.overrides), settings=["real_subset_plus_asyndgan"]
    )
    assert again.settings == ["real_subset_plus_asyndgan/A", "real_subset_plus_asyndgan/B"]
    assert set(again.write_results()["settings"]) == set(results["settings"])


def test_segmenters_are_attacked_and_the_page_says_what_came_of_it(finished, phantom_dir, capsys):
    experiment, results = finished
    page = write_pages(experiment, results)
    assert "not measured in this run" in page.read_text(encoding="utf-8")
    changed = [f"{key}={json.dumps(value)}" for key, value in experiment.overrides.items()]
    words = ["--task", "brats", "--profile", "demo", "--dataset_dir", str(phantom_dir), "--run_dir", experiment.run_dir]
    assert main(["audit", "segmenters", *words, "--settings", "fedavg", "real_subset/A", "--set", *changed]) == 0
    assert "fedavg: AUC" in capsys.readouterr().out
    attacks = json.loads((Path(experiment.run_dir) / "results.json").read_text(encoding="utf-8"))["attacks"]
    assert attacks == json.loads((Path(experiment.run_dir) / "attacks.json").read_text(encoding="utf-8"))
    for (row,) in attacks.values():
        assert row["attack"] == "loss of the segmenter"
        assert row["excess"] == pytest.approx(row["value"] - row["control"])
    assert "loss of the segmenter" in page.read_text(encoding="utf-8")
    # what an audit found belongs to the run
    assert experiment.write_results()["attacks"] == attacks
    assert main(["audit", "segmenters", *words, "--settings", "syn_all", "--set", *changed]) == 2
    assert "segmenter.pt" in capsys.readouterr().err


def test_settings_of_a_group(phantom_dir, tiny_sizes, tmp_path):
    experiment = make_experiment(phantom_dir, tmp_path, tiny_sizes, settings=["gain"])
    assert {"fedavg", "leave_out/B", "labels_only", "real_subset_plus_asyndgan/A"} <= set(experiment.settings)
    assert experiment.sources == ["syn_subset/A", "syn_subset/B"]
    # what takes others' images comes after them
    assert experiment.settings.index("asyndgan") < experiment.settings.index("real_subset_plus_asyndgan/A")


def test_settings_that_cannot_be(phantom_dir, tiny_sizes, tmp_path):
    with pytest.raises(DataError, match="no such site, expected one of A, B"):
        make_experiment(phantom_dir, tmp_path, tiny_sizes, settings=["leave_out/C"])
    with pytest.raises(ValueError, match="own_share"):
        make_experiment(phantom_dir, tmp_path, tiny_sizes | {"own_share": 1.5}, settings=["real_subset_plus_asyndgan"])


def test_without_a_site_the_others_keep_their_batches(phantom_dir, tiny_sizes, tmp_path):
    experiment = make_experiment(phantom_dir, tmp_path, tiny_sizes | {"batch_size": 2}, settings=["leave_out/A"])
    (site,) = experiment.workflow("train", "leave_out/A", 0).make("sites")
    assert (site.name, site.batch_size) == ("B", 2)
