"""Which files make a configuration."""

import pytest
from monai.bundle import ConfigParser

from bundle.composition import STAGES, stage_files, task_files, task_names, with_bases
from bundle.installation import config_dir
from bundle.workflows.experiment import STAGES as WORKFLOWS


@pytest.fixture
def folder(tmp_path):
    """Configs of a stage on one base, of a task on two, one of which is based on the other."""
    contents = {
        "train": "based_on: [run.yaml]\nrun: []\nlr: 1\n",
        "run": "seed: 0\nlr: 0\n",
        "brats": "based_on: [models.yaml, slices.yaml]\ntask: brats\n",
        "models": "lr: 2\n",
        "slices": "based_on: [models.yaml]\nsize: 1\n",
        "small": "size: 2\n",
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.yaml").write_text(content, encoding="utf-8")
    return tmp_path


def names(files):
    return [file.rpartition("/")[2].removesuffix(".yaml") for file in files]


def test_what_a_file_is_based_on_comes_before_it_and_once(folder):
    files = stage_files("train", "brats", "small", folder=folder)
    assert names(files) == ["run", "train", "models", "slices", "brats", "small"]
    merged = ConfigParser.load_config_files(files)
    assert (merged["seed"], merged["lr"], merged["size"]) == (0, 2, 2)
    # a list with bases in it is taken as it is
    assert with_bases(files, folder) == files
    assert names(task_files("brats", folder=folder)) == ["models", "slices", "brats"]


def test_a_task_and_an_overlay_may_lie_anywhere(folder, tmp_path_factory):
    mine = tmp_path_factory.mktemp("mine")
    (mine / "xray.yaml").write_text("based_on: [own.yaml, brats.yaml]\ntask: xray\n", encoding="utf-8")
    (mine / "own.yaml").write_text("size: 3\n", encoding="utf-8")
    files = stage_files("train", mine / "xray.yaml", None, [mine / "own.yaml"], folder)
    assert names(files) == ["run", "train", "own", "models", "slices", "brats", "xray", "own"]
    assert ConfigParser.load_config_files(files)["size"] == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("based_on: [none.yaml]\n", r"mine\.yaml: based_on: there is no none\.yaml beside it, nor in"),
        ("based_on: [mine.yaml]\n", r"mine\.yaml is based on .*mine\.yaml$"),
        ("based_on: models.yaml\n", r"mine\.yaml: based_on: expected a list of names such as models\.yaml, got"),
        ("based_on: [../models.yaml]\n", "expected a list of names"),
        ("based_on: [7]\n", "expected a list of names"),
    ],
)
def test_a_base_that_is_none(folder, content, message):
    (folder / "mine.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        with_bases([folder / "mine.yaml"], folder)


def test_a_file_that_is_missing_is_named(folder):
    with pytest.raises(FileNotFoundError, match=r"cannot find the config file .*tiny\.yaml"):
        stage_files("train", "brats", "tiny", folder=folder)


def test_the_shipped_tasks_and_stages():
    assert task_names() == ["brats", "gaussian", "multi_organ"]
    assert tuple(WORKFLOWS) == STAGES
    for stage in STAGES:
        assert names(stage_files(stage, "brats", "small"))[-2:] == ["brats", "small"]
    assert task_names(config_dir()) == task_names()
