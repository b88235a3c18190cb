"""The checks of a stage before anything is computed, and what keeps its outputs and its configuration together."""

import os
import shutil
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import yaml
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.utils import BundleProperty
from stages import STAGES

from bundle.composition import stage_files
from bundle.data import DataError
from bundle.files import digest
from bundle.networks import SegmentationDiscriminator
from bundle.workflows import ConfigError, DistributedGANWorkflow
from bundle.workflows.config_checks import keys_in_use
from bundle.workflows.lock import exclusive
from bundle.workflows.workflow import MOVABLE_KEYS

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def shipped(stage, profile="demo", **overrides):
    files = [str(CONFIGS / f"{name}.yaml") for name in (stage, "brats", profile)]
    return STAGES[stage](config_file=files, logging_file=False, **{"dataset_dir": "unused"} | overrides)


# properties


@pytest.mark.parametrize("profile", ["small", "paper", "demo", "compact"])
@pytest.mark.parametrize("stage", STAGES)
def test_nothing_is_missing_in_the_shipped_configs(stage, profile):
    workflow = shipped(stage, profile)
    assert workflow.check_properties() == []
    assert workflow.workflow_type == ("train" if stage in ("train", "segment", "features") else "infer")
    workflow.initialize()


def without(config, key):
    *parents, last = key.split("::")
    for parent in parents:
        config = config[parent]
    del config[last]


@pytest.mark.parametrize("stage", STAGES)
def test_every_required_property_that_is_missing_is_listed(stage):
    workflow = shipped(stage)
    required = {name: about["id"] for name, about in workflow.properties.items() if about[BundleProperty.REQUIRED]}
    assert {"bundle_root", "device", "dataset_dir", "version"} < required.keys()
    whole = workflow.parser.config
    for name, key in required.items():
        workflow.parser.config = deepcopy(whole)
        without(workflow.parser.config, key)
        below = {other for other, its_key in required.items() if its_key.startswith(f"{key}::")}
        assert set(workflow.check_properties()) == {name} | below
        with pytest.raises(ConfigError, match=rf"lacks required properties: .*{name} \(config key {key}\)"):
            workflow.initialize()


def test_an_optional_property_under_another_id_is_listed():
    workflow = shipped("segment")
    workflow.parser["train::trainer::key_train_metric"] = "@a_metric_elsewhere"
    assert workflow.check_properties() == ["train_key_metric"]


def test_values_that_must_be_given_are_named():
    workflow = shipped("train", dataset_dir="???", lr="???")
    assert workflow.check_properties() == []
    with pytest.raises(ConfigError, match="need a value, by --key VALUE or in a config file: dataset_dir, lr"):
        workflow.initialize()


@pytest.mark.parametrize("stage", ["train", "segment"])
def test_monais_own_workflow_takes_the_trainings_as_well(stage, phantom_dir, tiny_sizes, tmp_path):
    files = stage_files(stage, "brats", "small")
    given = {"dataset_dir": str(phantom_dir), "run_dir": str(tmp_path), "logging_file": False, **tiny_sizes}
    workflow = ConfigWorkflow(config_file=files, setting="asyndgan" if stage == "train" else "real_all", **given)
    workflow.initialize()
    assert workflow.check_properties() == []


# what our workflows refuse, through the door that users take


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"num_step": 1}, "unknown key 'num_step' in the command line.*did you mean 'num_steps'"),
        ({"train#trainer#max_epoch": 1}, "unknown key 'max_epoch' in the override.*did you mean 'max_epochs'"),
        ({"generator_def#num_blocs": 1}, "did you mean 'num_blocks'"),
        ({"generator_def#_target_": "bundle.networks.Generator"}, "generator_def: _target_ .* cannot be imported"),
        ({"lr": "2e-4"}, "lr is the text '2e-4', expected a number"),
        ({"discriminator": "pixel"}, "discriminator: expected one of segmentation, patch, got 'pixel'"),
    ],
)
def test_misspelt_overrides(overrides, message):
    with pytest.raises(ConfigError, match=message):
        shipped("train", **overrides)


@pytest.mark.parametrize(("task", "image", "weights"), [("brats", 1, [10, 1, 1]), ("multi_organ", 3, [10, 10, 1])])
def test_a_discriminator_that_segments_is_a_matter_of_two_keys(task, image, weights):
    parser = ConfigParser()
    parser.read_config(stage_files("train", task, "compact"))
    parser.update({"discriminator": "segmentation", "foreground_weight": 10.0})
    network = parser.get_parsed_content("discriminator_def")()
    assert isinstance(network, SegmentationDiscriminator)
    loss = parser.get_parsed_content("site_loss_def")
    assert loss.class_weights == tuple(weights)
    condition = torch.ones(2, 2, 64, 64)
    logits = network(torch.cat([condition, torch.rand(2, image, 64, 64)], dim=1))
    assert logits.shape == (2, 1, 64, 64)
    assert torch.isfinite(loss.discriminator(logits, logits, condition, condition))


def test_overrides_of_other_stages_and_new_arguments_are_taken():
    workflow = shipped("train", segmenter_steps=1, **{"generator_def#dropout": 0.5, "train#trainer#max_epochs": 2})
    assert workflow.parser["generator_def::dropout"] == 0.5


def test_overlays_may_override_below_the_top_level(tmp_path):
    (tmp_path / "mine.yaml").write_text("'train#trainer#max_epochs': 3\n'generator_def#norm': BATCH\n")
    files = [str(CONFIGS / name) for name in ("train.yaml", "brats.yaml", "demo.yaml")]
    mine = {"config_file": [*files, str(tmp_path / "mine.yaml")], "dataset_dir": "unused", "logging_file": False}
    assert DistributedGANWorkflow(**mine).parser["generator_def::norm"] == "BATCH"
    (tmp_path / "mine.yaml").write_text("'train#trainer#max_epoch': 3\n")
    with pytest.raises(ConfigError, match=r"'max_epoch'.*did you mean 'max_epochs'"):
        DistributedGANWorkflow(**mine)


def test_a_config_file_that_is_not_there():
    with pytest.raises(FileNotFoundError, match=r"cannot find the config file .*tiny\.yaml"):
        shipped("train", "tiny")


def refused(stage, tmp_path, tiny_sizes, **overrides):
    """The error of a stage that must stop; nothing may be left of it."""

    def run():
        workflow = shipped(stage, **tiny_sizes | {"run_dir": str(tmp_path / "run")} | overrides)
        workflow.initialize()
        workflow.run()

    with pytest.raises((DataError, ValueError, OSError)) as caught:
        run()
    assert [path for path in (tmp_path / "run").rglob("*") if path.is_file()] == []
    return str(caught.value)


@pytest.mark.parametrize(
    ("stage", "setting"),
    [("train", "asyngan"), ("train", "real_all"), ("generate", "syn"), ("segment", "real_subset/C"), ("evaluate", "x")],
)
def test_an_unknown_setting_is_named_with_those_there_are(stage, setting, phantom_dir, tmp_path, tiny_sizes):
    message = refused(stage, tmp_path, tiny_sizes, dataset_dir=str(phantom_dir), setting=setting)
    assert f"setting {setting!r}" in message or f"got the text {setting!r}" in message
    if setting == "real_subset/C":
        assert "there is no such site, expected one of A, B" in message
    else:
        assert "syn_all, syn_subset/SITE, " in message


def test_a_site_with_fewer_samples_than_its_batch(phantom_dir, tmp_path, tiny_sizes):
    sizes = tiny_sizes | {"batch_size": {"A": 1, "B": 1000}}
    message = refused("train", tmp_path, sizes, dataset_dir=str(phantom_dir))
    assert "site B has" in message
    assert "fewer than its batch size 1000" in message


def test_batch_sizes_of_other_sites_than_there_are(phantom_dir, tmp_path, tiny_sizes):
    message = refused("train", tmp_path, tiny_sizes | {"batch_size": {"A": 1}}, dataset_dir=str(phantom_dir))
    assert message == "batch_size is given for A, but the sites are A, B: nothing for B"


def test_stages_that_lack_what_the_stage_before_writes(phantom_dir, tmp_path, tiny_sizes):
    for stage, message in [
        ("generate", "train.yaml writes"),
        ("segment", "generate.yaml writes"),
        ("evaluate", "segment.yaml writes"),
        ("quality", "features.yaml writes"),
    ]:
        assert message in refused(stage, tmp_path, tiny_sizes, dataset_dir=str(phantom_dir))


def test_a_damaged_case_is_named_with_its_site_and_files(phantom_dir, tmp_path, tiny_sizes):
    data = shutil.copytree(phantom_dir, tmp_path / "data")
    label = next(data.rglob("Phantom_B_001_seg.nii.gz"))
    whole = label.read_bytes()
    label.write_bytes(whole[:-40])
    message = refused("train", tmp_path, tiny_sizes, dataset_dir=str(data))
    assert f"{label}: unreadable or truncated" in message
    # a label value that the classes lack is found while the case is prepared: the message is that of the case
    label.write_bytes(whole)
    groups = {"core": [1], "edema": [2]}
    message = refused("train", tmp_path, tiny_sizes | {"label_groups": groups}, dataset_dir=str(data))
    assert "site A: case Phantom_A_001 of site A cannot be prepared" in message
    assert "Phantom_A_001_seg.nii.gz" in message
    assert "holds the value(s) 4" in message
    (data / "datalist.json").unlink()
    assert "no such data list" in refused("train", tmp_path, tiny_sizes, dataset_dir=str(data))


def test_who_keeps_track_of_a_run_is_no_part_of_it(phantom_dir, tmp_path, tiny_sizes):
    """A training that began with tracking goes on without, and with."""
    settings = ConfigParser.load_config_file(CONFIGS / "mlflow.yaml")
    handler = settings["configs"]["trainer"]
    # MLflow is no requirement: TensorBoard in its place takes the same scalars
    taken = {"_target_": "TensorBoardStatsHandler", "log_dir": str(tmp_path / "tracked"), "epoch_log": False}
    settings["configs"]["trainer"] = taken | {"output_transform": handler["output_transform"]}
    files = [str(CONFIGS / f"{name}.yaml") for name in ("train", "brats", "small")]
    given = {"dataset_dir": str(phantom_dir), "run_dir": str(tmp_path), "logging_file": False, **tiny_sizes}

    def run(**options):
        workflow = DistributedGANWorkflow(config_file=files, **given, **options)
        workflow.initialize()
        workflow.run()
        return workflow

    run(tracking=settings)
    assert list((tmp_path / "tracked").glob("events*"))
    finished = tmp_path / "seed_0" / "asyndgan" / "gan" / "record.json"
    for options in ({}, {"tracking": settings}):
        finished.unlink()
        run(**options)
        assert finished.is_file()


@pytest.mark.parametrize(
    ("stage", "tracking"), [("train", "mlflow"), ("segment", "mlflow"), ("train", str(CONFIGS / "mlflow.yaml"))]
)
def test_mlflow_gets_a_handler_of_the_training(stage, tracking, tmp_path):
    handlers = shipped(stage, tracking=tracking, run_dir=str(tmp_path)).parser["train::handlers"]
    assert handlers[-1]["_target_"] == "MLFlowHandler"
    assert handlers[-1]["tracking_uri"] == "@tracking_uri"
    assert "MLFlowHandler" not in str(shipped(stage).parser["train::handlers"])


# outputs and their configuration: a stage that takes no time

STAGE = """
imports: [$import pathlib]
bundle_root: .
dataset_dir: ???
device: cpu
dataset: null
evaluator: null
network_def: null
inferer: null
value: 1
sizes: [1, 2]
run_dir: .
cache_dir: null
output_dir: ???
source: $@dataset_dir + '/source.txt'
config_path: $@output_dir + '/config.yaml'
inputs: ['@source']
finished: $@output_dir + '/done.txt'
run:
- "$pathlib.Path(@output_dir, 'log.txt').open('a').write(str(@value) + ' ')"
- "$pathlib.Path(@source).read_text().index('content')"
- "$pathlib.Path(@finished).write_text(str(@value))"
"""


class Stage:
    def __init__(self, folder):
        self.folder, self.output = folder, folder / "out"
        self.config, self.source = folder / "stage.yaml", folder / "source.txt"
        self.config.write_text(STAGE)
        self.source.write_text("content")
        shutil.copy(CONFIGS / "metadata.json", folder)

    def __call__(self, config=None, **overrides):
        given = {"output_dir": str(self.output), "dataset_dir": str(self.folder)} | overrides
        workflow = DistributedGANWorkflow(config_file=str(config or self.config), logging_file=False, **given)
        workflow.initialize()
        workflow.run()
        return workflow

    def runs(self):
        return (self.output / "log.txt").read_text(encoding="utf-8").split()


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


def test_the_resolved_configuration_is_kept_with_the_digest_of_its_inputs(stage):
    stage(value=7)
    kept = yaml.safe_load((stage.output / "config.yaml").read_text(encoding="utf-8"))
    assert (kept["value"], kept["sizes"], kept["output_dir"]) == (7, [1, 2], str(stage.output))
    assert kept["sha256 of inputs"] == {"source.txt": digest(stage.source)}
    assert sorted(path.name for path in stage.output.iterdir()) == ["config.yaml", "done.txt", "log.txt"]


def test_a_finished_stage_computes_nothing_again(stage):
    stage()
    before = {path: path.stat().st_mtime_ns for path in stage.output.iterdir()}
    assert stage().finished
    assert {path: path.stat().st_mtime_ns for path in stage.output.iterdir()} == before
    (stage.output / "done.txt").unlink()
    stage()
    assert stage.runs() == ["1", "1"]


@pytest.mark.parametrize("content", [b"a: [1,", b"- 1", b"text", b"\xff\xfe\xff", b"a: !!python/name:os.system"])
def test_a_kept_configuration_that_is_damaged_or_foreign_is_named(stage, content):
    stage()
    (stage.output / "config.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"config\.yaml: (unreadable|holds a \w+), expected the configuration of"):
        stage()
    assert stage.runs() == ["1"]


def test_another_configuration_is_refused_with_the_names_of_the_keys(stage):
    stage()
    with pytest.raises(ConfigError, match=r"config\.yaml keeps another configuration .* differ in: value\.") as e:
        stage(value=2, sizes=[1, 2, 3])
    assert f"delete {stage.output} to start over" in str(e.value)
    assert stage.runs() == ["1"]


def test_where_a_run_lies_may_change(stage, tmp_path):
    stage()
    assert {"run_dir", "dataset_dir", "device", "bundle_root", "cache_dir"} < MOVABLE_KEYS
    moved = shutil.move(stage.output, tmp_path / "elsewhere")
    stage(output_dir=str(moved), run_dir="/x", device="cuda", bundle_root="/z", cache_dir="/c")
    assert (tmp_path / "elsewhere/log.txt").read_text(encoding="utf-8").split() == ["1"]


def test_a_key_that_the_stage_does_not_use_may_change(stage):
    stage()
    assert stage(sizes=[3]).finished
    assert stage.runs() == ["1"]


def test_keys_in_use_are_found_through_others():
    config = {
        "run": ["$@a.b()"],
        "a": {"x": "@b#c"},
        "b": {"c": "$f(@d, 1)"},
        "d": 1,
        "e": "@a",
        "inputs": ["%g"],
        "g": 2,
    }
    assert keys_in_use(config, ["run", "inputs", "none"]) == {"run", "a", "b", "d", "inputs", "g"}


def test_another_content_of_an_input_is_refused_and_another_place_is_not(stage, tmp_path):
    stage()
    moved = tmp_path / "moved"
    moved.mkdir()
    shutil.copy(stage.source, moved)
    stage(dataset_dir=str(moved))
    stage.source.write_text("other content")
    with pytest.raises(ConfigError, match="differ in: sha256 of inputs"):
        stage()


def test_the_configuration_of_a_refused_start_is_not_kept(stage, tmp_path):
    with pytest.raises(FileNotFoundError):
        stage(dataset_dir=str(tmp_path / "none"), run=["$pathlib.Path(@source).read_text()"])
    assert list(stage.output.iterdir()) == []
    stage(value=2)
    assert stage.runs() == ["2"]


def test_the_configuration_of_outputs_stays_when_a_run_fails_later(stage):
    stage.source.write_text("something else")
    with pytest.raises(ValueError, match="substring not found"):
        stage()
    assert sorted(path.name for path in stage.output.iterdir()) == ["config.yaml", "log.txt"]
    with pytest.raises(ConfigError, match="differ in: value"):
        stage(value=2)
    with pytest.raises(ValueError, match="substring not found"):
        stage()
    assert (stage.output / "config.yaml").exists()


def test_errors_are_those_of_the_components_without_the_parsers_layers(stage):
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        stage(run=["$1 / 0"])
    target = {"_target_": "bundle.data.check_setting", "setting": "x", "sites": ["A"]}
    with pytest.raises(DataError, match=r"^unknown setting 'x'"):
        stage(dataset=target, evaluator=["@dataset"], run=["$len(@evaluator)"])


def test_unfinished_files_do_not_count_as_outputs(stage):
    write = (
        "$pathlib.Path(@output_dir, '.partial.data').mkdir() or pathlib.Path(@output_dir, '.partial.data', 'x').touch()"
    )
    with pytest.raises(ZeroDivisionError):
        stage(run=[write, "$1 / 0"])
    assert not (stage.output / "config.yaml").exists()


def test_two_runs_at_once_in_one_folder(stage):
    with exclusive(stage.output / "config.yaml"):
        with pytest.raises(ConfigError, match=r"another process is writing what .*config\.yaml belongs to"):
            stage()
        with pytest.raises(ConfigError, match="another process"), exclusive(stage.output / "config.yaml"):
            pass
        with exclusive(stage.output / "other.yaml"):
            pass
    stage()
    with exclusive(stage.output / "config.yaml"):
        assert stage().finished  # reads only
    assert stage.runs() == ["1"]


def test_a_lock_that_a_killed_process_left_locks_nothing(stage):
    stage.output.mkdir()
    (stage.output / ".config.yaml.lock").write_text("")
    stage()
    assert sorted(path.name for path in stage.output.iterdir()) == ["config.yaml", "done.txt", "log.txt"]


# what MONAI's own workflow is told


def plain(stage, tmp_path, phantom_dir, sizes, **overrides):
    files = stage_files(stage, "brats", "demo")
    given = {"dataset_dir": str(phantom_dir), "run_dir": str(tmp_path / "run"), **sizes}
    workflow = ConfigWorkflow(config_file=files, logging_file=False, **given | overrides)
    workflow.initialize()
    return workflow


@pytest.mark.parametrize("stage", STAGES)
def test_a_misspelt_key_of_a_plain_run_is_told_before_anything_is_computed(stage, tmp_path, phantom_dir, tiny_sizes):
    with pytest.raises(RuntimeError) as caught:
        plain(stage, tmp_path, phantom_dir, tiny_sizes, num_step=3).run()
    assert "did you mean 'num_steps'?" in str(caught.value.__cause__)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_steps": 3}, "do not fill epochs of 2"),
        ({"copies": -1}, "copies: expected a whole number"),
        ({"lr": "2e-4"}, "expected a number"),
        ({"setting": "../x"}, "setting: expected real_all"),
        ({"run_dir": "exp#1"}, "run_dir: MONAI's own workflow reads 'exp::1' where # stood"),
        ({"dataset_dir": 2018}, "dataset_dir: expected a path"),
        ({"run_dir": "@exp"}, "run_dir: MONAI takes '@exp' for the name of a key"),
        ({"run_dir": "$exp"}, "run_dir: MONAI takes '$exp' for an expression"),
    ],
    ids=str,
)
def test_a_plain_runs_values_are_checked_as_well(wrong, message, tmp_path, phantom_dir, tiny_sizes):
    with pytest.raises(RuntimeError) as caught:
        plain("train", tmp_path, phantom_dir, tiny_sizes, **wrong).run()
    assert message in str(caught.value.__cause__)


def test_a_plain_run_wants_the_whole_list(tmp_path, phantom_dir, tiny_sizes):
    files = [str(CONFIGS / f"{name}.yaml") for name in ("train", "brats", "demo")]
    given = {"dataset_dir": str(phantom_dir), "run_dir": str(tmp_path / "run"), **tiny_sizes}
    workflow = ConfigWorkflow(config_file=files, logging_file=False, **given)
    workflow.initialize()
    with pytest.raises(RuntimeError) as caught:
        workflow.run()
    assert "which no config has; MONAI's own workflow wants what configs are based_on" in str(caught.value.__cause__)


# places


PLACES = ("dataset_dir", "run_dir", "cache_dir", "public_conditions", "perceptual_weights_path")
ODD = {
    "signs": ("exp#1", "a::b", "it's", 'a"b#', "a\\#b"),
    "read as something else": ("[1]", "1e5", "2018", "True", "x y,z"),
    "marks of MONAI": ("$__import__('os').mkdir('evaluated')", "@data", "$data", "%data", "Köln#@::1"),
}


@pytest.mark.parametrize("names", ODD)
@pytest.mark.parametrize("from_file", [False, True])
def test_a_place_is_taken_as_it_is_written_and_never_evaluated(names, from_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # at the beginning of a value in a file they are MONAI's, as everywhere in a config
    given = {key: f"./{name}" if from_file else name for key, name in zip(PLACES, ODD[names], strict=True)}
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump(given), encoding="utf-8")
    files = [str(CONFIGS / f"{one}.yaml") for one in ("train", "brats", "demo")] + [str(overlay)] * from_file
    workflow = DistributedGANWorkflow(files, logging_file=False, **({} if from_file else given))
    workflow.initialize()
    assert {key: workflow.make(key) for key in given} == given
    assert workflow.make("output_dir") == os.path.join(given["run_dir"], "seed_0", "asyndgan")
    assert workflow.make("inputs") == [os.path.join(given["dataset_dir"], "datalist.json")]
    assert not (tmp_path / "evaluated").exists()


@pytest.mark.parametrize("value", [2018, 1e5, True, ["a"], ("a", "b"), None, {"a": 1}], ids=str)
@pytest.mark.parametrize("key", ["dataset_dir", "run_dir", "bundle_root", "output_dir"])
def test_a_place_that_was_read_as_something_else_is_refused_by_its_key(key, value):
    with pytest.raises(ConfigError, match=rf"^{key}: expected a path .*\./2018"):
        shipped("train", **{key: value})


def test_a_run_in_a_folder_with_a_sign_writes_there_and_nowhere_else(phantom_dir, tiny_sizes, tmp_path):
    data = shutil.copytree(phantom_dir, tmp_path / "study#3")
    given = {"dataset_dir": str(data), "run_dir": str(tmp_path / "exp#1")} | tiny_sizes
    for _ in range(2):  # the second finds it finished
        workflow = shipped("segment", setting="real_all", **given)
        workflow.initialize()
        workflow.run()
    assert {path.name for path in tmp_path.iterdir()} == {"study#3", "exp#1"}
    assert (tmp_path / "exp#1/seed_0/real_all/segmenter/record.json").is_file()
