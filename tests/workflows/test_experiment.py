"""The whole path on tiny phantoms: in this process, through the commands that users type, and killed on the way."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.transforms import LoadImage

from bundle.cli.main import main
from bundle.cli.options import overrides
from bundle.composition import stage_files
from bundle.data import DataError, load_datalist
from bundle.networks import ResNetFeatures, VGGFeatures
from bundle.settings import all_settings
from bundle.sheet import check_sheet
from bundle.workflows import ConfigError
from bundle.workflows.experiment import Experiment
from bundle.workflows.figures import write_pages

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
SETTINGS = ["real_all", "real_subset/A", "real_subset/B", "syn_all", "asyndgan"]
SHEETS = ("data_sheet.json", "README.md", "croissant.json")
METRICS = ["dice", "dice_tumor_slices", "sensitivity", "specificity", "hd95"]


def make_experiment(data, run_dir, sizes, **arguments):
    arguments = {"profile": "demo", "overrides": sizes} | arguments
    return Experiment("brats", str(data), run_dir=str(run_dir), config_dir=str(CONFIGS), **arguments)


@pytest.fixture(scope="module")
def finished(phantom_dir, tiny_sizes, tmp_path_factory):
    """An experiment with all settings, its results, and its page: read only."""
    experiment = make_experiment(phantom_dir, tmp_path_factory.mktemp("run"), tiny_sizes)
    results = experiment.run()
    page = write_pages(experiment, results)
    return experiment, results, page


@pytest.fixture
def copied(finished, phantom_dir, tiny_sizes, tmp_path):
    """The same experiment in a folder that a test may change."""
    shutil.copytree(finished[0].run_dir, tmp_path / "run")
    return make_experiment(phantom_dir, tmp_path / "run", tiny_sizes)


def contents(folder):
    """What stages wrote, by path, but for data sheets, which every stage writes anew with what it knows."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(Path(folder, "seed_0").rglob("*"))
        if path.is_file() and path.name not in SHEETS
    }


def test_results_have_the_documented_blocks(finished, phantom_dir):
    experiment, results, _ = finished
    written = json.loads((Path(experiment.run_dir) / "results.json").read_text(encoding="utf-8"))
    # the page and its figures belong to the run
    assert written.pop("wall_seconds") > results["wall_seconds"]
    assert written == {key: value for key, value in results.items() if key != "wall_seconds"}
    assert {"task": "brats", "seeds": [0], "profile": "demo"}.items() <= results.items()
    assert list(results["settings"]) == SETTINGS
    cases = {item["case"] for item in load_datalist(phantom_dir).test}
    for setting in SETTINGS:
        scores = results["settings"][setting]
        assert set(scores) == {*METRICS, "training_images", "segmenter_loss"}
        assert scores["segmenter_loss"][0].keys() == {"first", "before_last", "last"}
        for metric in METRICS:
            score = scores[metric]
            assert score["per_case"].keys() == cases
            assert [score["mean"]] == score["per_seed"]
            known = [value for (value,) in score["per_case"].values() if value is not None]
            assert score["mean"] == (pytest.approx(sum(known) / len(known)) if known else None)
            assert score["std"] is None
    for setting in ("syn_all", "asyndgan"):
        assert results["train"][setting]["steps"] == 4
    assert results["test_patients"].keys() == cases
    sure = results["statistics"]["metrics"]["dice"]
    assert list(sure) == SETTINGS
    assert sure["real_all"]["asyndgan"]["cases"] == sure["asyndgan"]["cases"] == 2
    wire = results["wire"]
    assert (wire["steps"], wire["codec"]) == (4, "float32")
    assert wire["bytes_to_sites"] == sum(site["to"] for site in wire["per_site"].values())
    assert wire["bytes_from_sites"] == sum(site["from"] for site in wire["per_site"].values())
    # per step a batch of one 32×32 float32 image to each of two sites: nothing else crosses that is as large
    assert wire["bytes_to_sites"] == pytest.approx(4 * 2 * 32 * 32 * 4, rel=0.1)


def test_synthetic_images_are_scored_by_site(finished):
    experiment, results, _ = finished
    quality = results["quality"]
    assert list(quality) == ["syn_all", "asyndgan"]
    for setting, scores in quality.items():
        assert {"fid", "fid/real, other patients", "mmd", "ssim", "ssim/held-out conditions"} < scores.keys()
        assert {"neighbour_ratio/other patients", "neighbour_share", "own_pair_share"} < scores.keys()
        assert 0 <= scores["gan_test"]["mean"] <= 1
        # also of Syn-All, whose generator knows one site only
        assert all(score["per_case"].keys() == {"A", "B"} for score in scores.values())
        assert scores["images"]["mean"] == results["settings"][setting]["training_images"]
        assert scores["fid"]["mean"] > 0
        assert all(abs(scores[name]["mean"]) <= 1 for name in ("ssim", "ssim/held-out conditions"))
        assert (experiment.output_dir(setting, 0) / "quality" / "neighbours.npz").is_file()
    # what real images have among themselves is nothing of a setting's
    for name in ("fid/real, other patients", "mmd/real, other sites", "gan_test/training images", "images/real"):
        assert quality["syn_all"][name] == quality["asyndgan"][name]


def test_the_sheets_of_the_synthetic_data_sets_say_what_the_run_found(finished):
    experiment, results, _ = finished
    for setting in ("syn_all", "asyndgan"):
        folder = Path(experiment.output_dir(setting, 0)) / "synthetic"
        sheet = json.loads((folder / "data_sheet.json").read_text(encoding="utf-8"))
        assert check_sheet(sheet) == []
        dice = results["settings"][setting]["dice"]["mean"]
        assert sheet["downstream"]["dice"]["mean"] == pytest.approx(dice, rel=1e-4)
        beside = {"real_all", "syn_all"} - {setting}
        assert sheet["downstream"]["dice"]["references"].keys() == beside
        assert sheet["quality"]["fid"]["value"] == pytest.approx(results["quality"][setting]["fid"]["mean"], rel=1e-4)
        assert sheet["made"]["hardware"]["cores"] == results["hardware"]["cores"]
        assert all((folder / name).is_file() for name in SHEETS)


def test_the_feature_network_is_trained_once_and_on_held_out_cases(finished, phantom_dir):
    experiment = finished[0]
    assert json.loads((Path(experiment.run_dir) / "features/record.json").read_text(encoding="utf-8"))["steps"] == 4
    assert len(list(Path(experiment.run_dir).rglob("features.pt"))) == 1
    samples = experiment.workflow("features", "asyndgan", 0).make("train::dataset")
    held_out = {item["case"] for item in load_datalist(phantom_dir).test}
    # a case may have no slice that is large enough
    assert {samples[number]["case"] for number in range(len(samples))} <= held_out


@pytest.mark.long
def test_a_feature_network_that_is_gone_is_trained_again_and_gives_the_same(copied):
    copied.settings = ["asyndgan"]
    features, scores = Path(copied.run_dir) / "features", copied.output_dir("asyndgan", 0) / "quality"
    paths = [
        features / "features.pt",
        *(scores / name for name in ("metrics.json", "neighbours.json", "neighbours.npz")),
    ]
    before = [path.read_bytes() for path in paths]
    for folder in (features, scores):
        shutil.rmtree(folder)
    copied.run()
    assert [path.read_bytes() for path in paths] == before


@pytest.mark.long
@pytest.mark.parametrize(("overlay", "network"), [("vgg", VGGFeatures), ("resnet", ResNetFeatures)])
def test_features_of_a_file_of_weights(overlay, network, copied, tiny_sizes, tmp_path):
    """Random weights in the file's format: with them no feature network is trained."""
    weights = {
        "vgg": lambda: VGGFeatures(16, ["relu5_3"]).state_dict(),
        "resnet": lambda: network().network.state_dict(),
    }
    torch.save(weights[overlay](), tmp_path / "weights.pth")
    given = {"config_files": [str(CONFIGS / f"{overlay}_features.yaml")], "settings": ["asyndgan"]}
    with pytest.raises(ConfigError, match="need a value, by --key VALUE or in a config file: feature_weights"):
        make_experiment(copied.dataset_dir, copied.run_dir, tiny_sizes, **given)
    sizes = tiny_sizes | {"feature_weights": str(tmp_path / "weights.pth")}
    shutil.rmtree(Path(copied.run_dir) / "features")
    shutil.rmtree(copied.output_dir("asyndgan", 0) / "quality")
    before = copied.write_results()["quality"]["syn_all"]["fid"]["mean"]
    fid = make_experiment(copied.dataset_dir, copied.run_dir, sizes, **given).run()["quality"]["asyndgan"]["fid"][
        "mean"
    ]
    assert fid > 0
    assert fid != before
    assert "gan_test" not in copied.write_results()["quality"]["asyndgan"], "these networks segment nothing"
    assert not (Path(copied.run_dir) / "features").exists()


@pytest.mark.long
def test_noise_depends_on_the_seed_and_the_condition_alone(phantom_dir, tiny_sizes, tmp_path):
    sizes = tiny_sizes | {"generator_noise": 2, "stages": ["train", "generate", "features", "quality"]}
    found = []
    for batch_size in (4, 3):
        experiment = make_experiment(
            phantom_dir, tmp_path, sizes | {"generation_batch_size": batch_size}, settings=["asyndgan"]
        )
        output_dir = experiment.output_dir("asyndgan", 0)
        for part in ("synthetic", "quality"):
            shutil.rmtree(output_dir / part, ignore_errors=True)
        (output_dir / "synthetic.yaml").unlink(missing_ok=True)
        torch.manual_seed(batch_size)  # whatever was drawn before
        experiment.run()
        items = load_datalist(output_dir / "synthetic", deep=True).training
        scores = json.loads((output_dir / "quality" / "metrics.json").read_text(encoding="utf-8"))
        found.append(([LoadImage(image_only=True)(item["image"]).numpy() for item in items], scores["metrics"]))
    (images, scores), (again, scores_again) = found
    np.testing.assert_allclose(images, again, atol=1e-5)
    for metric in ("ssim", "ssim/held-out conditions"):
        assert scores[metric]["mean"] == pytest.approx(scores_again[metric]["mean"], abs=1e-5)


def test_settings_train_on_what_they_say(finished):
    images = {s: scores["training_images"] for s, scores in finished[1]["settings"].items()}
    assert images["real_all"] == images["real_subset/A"] + images["real_subset/B"]
    # one synthetic image per condition, and a condition of every real slice
    assert images["asyndgan"] == images["syn_all"] == images["real_all"] > 0
    run = Path(finished[0].run_dir) / "seed_0"
    of_site = {"A": images["real_subset/A"], "B": images["real_subset/B"]}
    synthetic = load_datalist(run / "asyndgan" / "synthetic", deep=True).training
    assert {site: sum(item["site"] == site for item in synthetic) for site in ("A", "B")} == of_site
    assert {item["site"] for item in load_datalist(run / "syn_all" / "synthetic").training} == {"all"}


def test_the_page_needs_no_network(finished):
    experiment, _, page = finished
    text = page.read_text(encoding="utf-8")
    assert page == Path(experiment.run_dir) / "report.html"
    sources = re.findall(r"\b(?:src|href)\s*=\s*[\"']?([^\"'\s>]+)", text)
    assert len(sources) >= 8
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "<script" not in text
    assert "@import" not in text


def test_a_second_run_computes_nothing(copied, finished):
    before = contents(copied.run_dir)
    results = copied.run()
    assert contents(copied.run_dir) == before
    changes = {"hardware", "wall_seconds"}
    assert {k: v for k, v in results.items() if k not in changes} == {
        k: v for k, v in finished[1].items() if k not in changes
    }
    # the second start's time is added
    assert results["wall_seconds"] > finished[1]["wall_seconds"] >= finished[1]["seconds"]


@pytest.mark.parametrize(
    "parts",
    [
        ["gan", "evaluation"],
        *(pytest.param(p, marks=pytest.mark.long) for p in (["synthetic"], ["segmenter", "quality"])),
    ],
    ids="+".join,
)
def test_a_stage_whose_outputs_are_gone_is_computed_again_and_gives_the_same(copied, parts):
    copied.settings = ["asyndgan"]
    before = contents(copied.run_dir)
    for part in parts:
        shutil.rmtree(copied.output_dir("asyndgan", 0) / part)
    copied.run()
    after = contents(copied.run_dir)
    gone = tuple(f"seed_0/asyndgan/{part}/" for part in parts)
    untouched = [name for name in before if not name.startswith(gone)]
    assert {name: after[name] for name in untouched} == {name: before[name] for name in untouched}
    for name in (
        "gan/generator.pt",
        "synthetic/datalist.json",
        "segmenter/segmenter.pt",
        "evaluation/metrics.json",
        "quality/metrics.json",
    ):
        assert after[f"seed_0/asyndgan/{name}"][1] == before[f"seed_0/asyndgan/{name}"][1]


@pytest.mark.long
def test_a_training_killed_after_its_last_step_only_writes_what_it_lacks(copied):
    copied.settings = ["asyndgan"]
    output = copied.output_dir("asyndgan", 0)
    for part, weights in (("gan", "generator.pt"), ("segmenter", "segmenter.pt")):
        checkpoint = (output / part / "checkpoints/latest.pt").stat().st_mtime_ns
        expected = (output / part / weights).read_bytes()
        (output / part / "record.json").unlink()
        (output / part / weights).unlink()
        copied.run()
        assert (output / part / weights).read_bytes() == expected
        assert (output / part / "checkpoints/latest.pt").stat().st_mtime_ns == checkpoint


def test_changed_data_are_refused_by_name(copied, phantom_dir, tmp_path):
    data = shutil.copytree(phantom_dir, tmp_path / "data")
    content = json.loads((data / "datalist.json").read_text(encoding="utf-8"))
    content["description"] = "another version"
    (data / "datalist.json").write_text(json.dumps(content))
    copied.dataset_dir = str(data)
    with pytest.raises(ConfigError, match="differ in: sha256 of inputs"):
        copied.run()


@pytest.mark.long
def test_scores_of_several_seeds(phantom_dir, tiny_sizes, tmp_path):
    experiment = make_experiment(phantom_dir, tmp_path, tiny_sizes, seeds=[0, 3], settings=["real_subset/B"])
    score = experiment.run()["settings"]["real_subset/B"]["dice"]
    a, b = score["per_seed"]
    assert score["mean"] == pytest.approx((a + b) / 2)
    assert score["std"] == pytest.approx(abs(a - b) / 2**0.5)  # of a sample: n - 1
    assert all(len(values) == 2 for values in score["per_case"].values())
    assert a != b


@pytest.mark.parametrize("batch_size", [2, {"A": 1, "B": 3}])
def test_the_batch_of_syn_all_is_the_sum_of_the_sites(batch_size, phantom_dir, tiny_sizes, tmp_path):
    sizes = tiny_sizes | {"batch_size": batch_size}
    experiment = make_experiment(phantom_dir, tmp_path, sizes, settings=["syn_all"])
    (pooled,) = experiment.workflow("train", "syn_all", 0).make("sites")
    sites = experiment.workflow("train", "asyndgan", 0).make("sites")
    assert pooled.batch_size == sum(site.batch_size for site in sites) == 4
    assert len(pooled.samples) == sum(len(site.samples) for site in sites)


@pytest.mark.parametrize("stage", ["train", "generate", "segment", "evaluate", "features"])
def test_monais_own_workflow_finds_every_property(stage, copied, tiny_sizes):
    files = stage_files(stage, "brats", "demo")
    given = {"dataset_dir": copied.dataset_dir, "run_dir": copied.run_dir, "logging_file": False, **tiny_sizes}
    kind = "train" if stage in ("train", "segment", "features") else "infer"
    workflow = ConfigWorkflow(config_file=files, workflow_type=kind, **given)
    workflow.initialize()
    assert workflow.check_properties() == []


# refusals before any training


def test_what_the_last_setting_needs_is_checked_before_the_first_is_trained(phantom_dir, tiny_sizes, tmp_path):
    experiment = make_experiment(phantom_dir, tmp_path / "run", tiny_sizes | {"batch_size": {"A": 1, "B": 500}})
    with pytest.raises(ValueError, match=r"site B has .* samples, fewer than its batch size 500"):
        experiment.run()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_steps": 3}, "num_steps: 3 steps do not fill epochs of 2 .epoch_length.; set num_steps to 4"),
        ({"segmenter_steps": 5}, "segmenter_steps: 5 steps do not fill epochs of 2 .segmenter_epoch_length."),
        ({"feature_steps": 1}, "feature_steps: 1 steps do not fill epochs of 2 .feature_epoch_length.; .* to 2"),
        ({"image_size": 33}, "generator_def: expected one tensor .*33×33, got ValueError .*multiples of 4"),
        (
            {"image_size": 36, "segmenter_channels": [4, 8, 8, 8]},
            "image_size: segmenter_def does not take images of 36x36 pixels",
        ),
        ({"copies": 0}, "copies: expected a whole number from 1"),
        ({"segmenter_lr": -1.0}, "segmenter_lr: expected a number from 0"),
        ({"evaluator#val_handler": []}, "unknown key 'val_handler'"),
    ],
    ids=str,
)
def test_what_any_stage_refuses_is_refused_before_the_first_is_run(change, message, phantom_dir, tiny_sizes, tmp_path):
    with pytest.raises(ConfigError, match=message):
        make_experiment(phantom_dir, tmp_path / "run", tiny_sizes | change).run()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_damaged_held_out_case_and_an_unknown_setting(phantom_dir, tiny_sizes, tmp_path):
    with pytest.raises(DataError, match="'real_subset/Z': there is no such site, expected one of A, B"):
        make_experiment(phantom_dir, tmp_path / "run", tiny_sizes, settings=["real_subset/Z"])
    asked = ["real_subset", "asyndgan", "real_subset/A"]
    found = make_experiment(phantom_dir, tmp_path / "run", tiny_sizes, settings=asked).settings
    assert found == ["real_subset/A", "real_subset/B", "asyndgan"]
    data = shutil.copytree(phantom_dir, tmp_path / "data")
    image = next(data.rglob("Phantom_A_003_flair.nii.gz"))
    image.write_bytes(image.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"Phantom_A_003, image: .*_flair\.nii\.gz: unreadable or truncated"):
        make_experiment(data, tmp_path / "run", tiny_sizes)


def test_held_out_cases_are_prepared_before_any_training(phantom_dir, tiny_sizes, tmp_path):
    """What no check of files knows, and the transforms refuse: here intensities that vary in one voxel alone."""
    data = shutil.copytree(phantom_dir, tmp_path / "data")
    path = next(data.rglob("Phantom_A_003_flair.nii.gz"))
    image = nib.load(path)
    flat = (np.asanyarray(image.dataobj) > 0) * np.float32(100)
    flat.flat[np.flatnonzero(flat)[:1]] = 101
    nib.save(nib.Nifti1Image(flat, image.affine), path)
    with pytest.raises(DataError, match=r"held-out cases: 1 problem\n.*Phantom_A_003 .*intensities that vary"):
        make_experiment(data, tmp_path / "run", tiny_sizes, settings=["asyndgan"]).run()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "num_steps"], "--set num_steps: expected KEY=VALUE"),
        (["--set", "modalities=[flair"], r"--set modalities=\[flair: the value cannot be read as YAML"),
        (["--set", "seed=3"], "seed: the experiment sets it for every stage"),
        (["--set", "lr=2e-4"], "lr is the text '2e-4', expected a number"),
        (["--set", "num_stepz=3"], "unknown key 'num_stepz'.*did you mean 'num_steps'"),
        (["--profile", "tiny.yaml"], r"cannot find the config file .*tiny\.yaml"),
        (["--settings", "real"], "unknown setting 'real'"),
        (["--dataset_dir", "nowhere"], "nowhere: no such data list"),
    ],
)
def test_the_command_says_what_is_wrong_in_its_last_line(arguments, message, phantom_dir, tmp_path, capsys):
    given = ["--task", "brats", "--dataset_dir", str(phantom_dir), "--run_dir", str(tmp_path / "run")]
    assert main(["run", *given, *arguments]) == 2
    said = capsys.readouterr().err.split("\n\n")[-1].strip()
    assert re.search(message, said, re.DOTALL)
    assert said.startswith("error: ")
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


def test_a_refusal_of_a_component_is_said_once_and_what_is_none_keeps_its_traceback(
    phantom_dir, tmp_path, capsys, monkeypatch
):
    given = ["--task", "brats", "--dataset_dir", str(phantom_dir), "--run_dir", str(tmp_path / "run")]
    monkeypatch.setattr("bundle.workflows.experiment.Experiment.run", lambda self: np.zeros(2).reshape(3))
    with pytest.raises(ValueError, match="reshape"):
        main(["run", *given])
    monkeypatch.setattr("bundle.workflows.experiment.Experiment.run", lambda self: all_settings(["nothing"], []))
    assert main(["run", *given]) == 2  # a plain ValueError, of this package
    assert capsys.readouterr().err.count("unknown kind of setting 'nothing'") == 1


def test_the_time_of_a_run_begins_with_its_command(phantom_dir, tiny_sizes, tmp_path):
    """What it imports and checks, and the report: known answers by a command that began an hour ago."""
    experiment = make_experiment(phantom_dir, tmp_path, tiny_sizes, started=time.monotonic() - 3600)
    results = experiment.write_results()
    assert 3600 <= results["wall_seconds"] < 3700
    later = experiment.with_time_until_now(results)
    assert results["wall_seconds"] <= later["wall_seconds"] < 3700
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["wall_seconds"] == later["wall_seconds"]
    again = make_experiment(phantom_dir, tmp_path, tiny_sizes, started=time.monotonic() - 60)
    assert 3660 <= again.write_results()["wall_seconds"] < 3800


def test_a_key_may_be_set_to_another_key(phantom_dir, tiny_sizes, tmp_path):
    given = overrides(["copy_augmentation=@condition_augmentation", "copies=2", "betas=[0, 0.9]"])
    assert given == {"copy_augmentation": "@condition_augmentation", "copies": 2, "betas": [0, 0.9]}
    generate = make_experiment(phantom_dir, tmp_path / "run", tiny_sizes | given).workflow("generate", "asyndgan", 0)
    made, expected = (generate.parser.get_parsed_content(f"{name}_augmentation") for name in ("copy", "condition"))
    assert [type(each) for each in made.transforms] == [type(each) for each in expected.transforms]


@pytest.mark.parametrize(
    "arguments", [["--seeds", "-1"], ["--seeds", "one"], ["--seed", "1"], ["--task", "nothing"], ["--profile", "tiny"]]
)
def test_options_that_there_are_not(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["run", "--task", "brats", "--dataset_dir", str(tmp_path), *arguments])
    assert stopped.value.code == 2
    assert arguments[0] in capsys.readouterr().err


# the commands


def command(verb, stage, data, run_dir, sizes, *arguments):
    files = str(stage_files(stage, "brats", "demo"))
    given = {"config_file": files, "dataset_dir": data, "run_dir": run_dir} | sizes
    pairs = [str(word) for key, value in given.items() for word in (f"--{key}", value)]
    return [sys.executable, "-m", "monai.bundle", verb, *pairs, *arguments]


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def kill_when(words, ready, cwd):
    """Start a command and kill it as soon as ``ready()``."""
    process = subprocess.Popen(words, cwd=cwd, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while not ready() and process.poll() is None:
        time.sleep(0.002)
    process.kill()
    output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, output.decode()


GAN = "bundle.workflows.DistributedGANWorkflow"


@pytest.mark.long
def test_a_training_that_is_killed_and_started_again_ends_with_the_same_bits(phantom_dir, tiny_sizes, tmp_path):
    sizes = tiny_sizes | {"num_steps": 60}
    killed = make_experiment(phantom_dir, tmp_path / "killed", sizes, settings=["asyndgan"])
    output = killed.output_dir("asyndgan", 0) / "gan"
    words = command("run", "train", phantom_dir, killed.run_dir, sizes, "--workflow_name", GAN)
    kill_when(words, (output / "checkpoints/latest.pt").exists, cwd=ROOT)
    assert 0 < torch.load(output / "checkpoints/latest.pt", weights_only=True)["trainer"]["iteration"] < 60
    assert not (output / "generator.pt").exists()
    assert not (output / "record.json").exists()
    whole = make_experiment(phantom_dir, tmp_path / "whole", sizes, settings=["asyndgan"])
    expected = whole.output_dir("asyndgan", 0) / "gan"
    for experiment in (killed, whole):
        workflow = experiment.workflow("train", "asyndgan", 0)
        assert not workflow.finished
        workflow.run()
        assert workflow.finished
    for name in ("generator.pt", "conditions.npz"):
        assert (output / name).read_bytes() == (expected / name).read_bytes()
    resumed, uninterrupted = (
        torch.load(folder / "checkpoints/latest.pt", weights_only=True) for folder in (output, expected)
    )
    assert set(resumed["federation"]["sites"]) == {"A", "B"}
    for checkpoint in (resumed, uninterrupted):
        del checkpoint["trainer"]["seconds"], checkpoint["trainer"]["seconds_by_part"]
        # bytes are those that crossed: a site that takes part again says so again
        assert checkpoint["federation"].pop("ledger")["steps"] == 60
        # of all that is in the file, those seconds too
        del checkpoint["digest"]
    # plain words and numbers
    assert resumed.pop("identity") == uninterrupted.pop("identity")
    assert resumed["trainer"].pop("sites") == uninterrupted["trainer"].pop("sites")
    for site in ("A", "B"):
        states = (checkpoint["federation"]["sites"][site] for checkpoint in (resumed, uninterrupted))
        assert len({json.dumps([state.pop("policy"), state.pop("folds")]) for state in states}) == 1
    torch.testing.assert_close(resumed, uninterrupted, rtol=0, atol=0)
    assert json.loads((output / "record.json").read_text(encoding="utf-8"))["steps"] == 60
    # the ledgers' folder has the file that every process which writes there locks
    left = [path for path in output.rglob("*") if ".partial" in path.name or path.name.endswith(".lock")]
    assert left == [output / "releases" / ".lock"]


@pytest.mark.long
def test_a_generation_that_is_killed_leaves_no_data_set(finished, tiny_sizes, tmp_path):
    """From another directory, through ``run_workflow``."""
    made = Path(finished[0].output_dir("asyndgan", 0))
    output = tmp_path / "run/seed_0/asyndgan"
    shutil.copytree(made / "gan", output / "gan")
    sizes = tiny_sizes | {"copies": 32}
    words = command("run_workflow", "generate", tmp_path, tmp_path / "run", sizes, "--workflow_name", GAN)
    kill_when(words, lambda: any(output.glob(".partial.synthetic/labels/*")), cwd=tmp_path)
    assert not (output / "synthetic").exists()
    experiment = make_experiment(
        finished[0].dataset_dir, tmp_path / "run", tiny_sizes | {"copies": 2}, settings=["asyndgan"]
    )
    with pytest.raises(ConfigError, match=r"differ in: copies\. .* delete .*synthetic and .*synthetic\.yaml"):
        experiment.workflow("generate", "asyndgan", 0).run()
    (output / "synthetic.yaml").unlink()
    experiment.workflow("generate", "asyndgan", 0).run()
    first = load_datalist(made / "synthetic").training
    assert len(load_datalist(output / "synthetic", deep=True).training) == 2 * len(first)
    assert not list(output.glob(".partial*"))


@pytest.mark.long
def test_plain_run_and_a_message_in_the_last_line(phantom_dir, tiny_sizes, tmp_path):
    """MONAI's own workflow from another directory; ours, from the root, with a misspelt key."""
    words = command("run", "segment", phantom_dir, tmp_path / "run", tiny_sizes, "--setting", "real_all")
    without_path = {key: value for key, value in environment().items() if key != "PYTHONPATH"}
    done = subprocess.run(words, cwd=tmp_path, env=without_path, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/seed_0/real_all/segmenter/record.json").is_file()
    words += ["--segmenter_step", "3", "--workflow_name", "bundle.workflows.SegmentationWorkflow"]
    done = subprocess.run(words, cwd=ROOT, env=without_path, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert "unknown key 'segmenter_step' in the command line" in last
    assert "did you mean 'segmenter_steps'?" in last
