"""What a job may say to a site, and what it may not."""

import json

import pytest
import yaml
from monai.bundle import ConfigParser

from bundle import __version__
from bundle.declarations.job import SITE_KEYS, Job, JobError, read_local
from bundle.installation import config_dir

FILES = ["train.yaml", "brats.yaml", "demo.yaml", "flare.yaml"]


def make(overrides=None, files=FILES, version=__version__):
    return Job.make(files, overrides or {}, config_dir(), version)


def test_a_job_survives_json_and_is_accepted_where_the_configs_are_the_same():
    job = make({"num_steps": 20, "label_groups": {"core": [1, 4]}, "betas": [0.5, 0.9], "compression": None})
    again = Job.from_dict(json.loads(json.dumps(job.to_dict())))
    assert again == job
    again.check(config_dir(), __version__)


@pytest.mark.parametrize(
    "overrides",
    [
        {"num_steps": "$__import__('os').system('true')"},
        {"modalities": ["flair", "@secret"]},
        {"label_groups": {"core": "%other.yaml::x"}},
        {"generator_def": {"_target_": "os.system"}},
        {"generator_def": {"deep": [{"_target_": "os.system"}]}},
        {"train#trainer#_target_": "os.system"},
        {"lr": object()},
    ],
)
def test_a_job_carries_nothing_that_is_evaluated(overrides):
    refused = "override .*: expected"
    with pytest.raises(JobError, match=refused):
        make(overrides)
    # one that was made by other means is refused where it arrives
    forged = Job(tuple(FILES), overrides, __version__, make().digest)
    with pytest.raises(JobError, match=refused):
        forged.check(config_dir(), __version__)


@pytest.mark.parametrize("key", [*sorted(SITE_KEYS), "run_dir"])
def test_a_job_cannot_set_what_is_a_participants_own(key):
    with pytest.raises(JobError, match="each participant sets it in its own file"):
        make({key: 1})
    # nor by another spelling
    for spelling in (f"+{key}", f"{key}#type", f"{key}::CS"):
        with pytest.raises(JobError, match="expected a key of the configs that holds a plain value"):
            make({spelling: 1})


@pytest.mark.parametrize("others", [["brats.yaml", "demo.yaml"], ["multi_organ.yaml", "paper.yaml"], ["gaussian.yaml"]])
def test_configs_are_merged_as_monai_does(others):
    job = make(files=["train.yaml", *others, "flare.yaml"])
    merged = ConfigParser.load_config_files(job.files(config_dir()))
    plain = job._plain(config_dir())
    assert {"num_steps", "seed", "task"} <= plain.keys() < merged.keys()
    assert plain == {key: merged[key] for key in plain}


def test_a_key_that_is_added_to_is_merged_as_monai_does(tmp_path):
    one = {"a": {"x": 1, "y": [1]}, "b": [1, 2], "c": 1, "d": {"_target_": "x.Y"}}
    two = {"+a": {"y": [2], "z": 3}, "+b": [3], "c": {"x": 1}, "d": 4}
    for name, content in {"one.yaml": one, "two.yaml": two}.items():
        (tmp_path / name).write_text(yaml.safe_dump(content), encoding="utf-8")
    job = Job(("one.yaml", "two.yaml"))
    assert job._plain(tmp_path) == ConfigParser.load_config_files(job.files(tmp_path))


def test_another_version_or_other_configs_are_refused(tmp_path):
    with pytest.raises(JobError, match=r"for version '0\.0\.1'"):
        Job.from_dict(make(version="0.0.1").to_dict()).check(config_dir(), __version__)
    for name in FILES:
        (tmp_path / name).write_bytes((config_dir() / name).read_bytes())
    make().check(tmp_path, __version__)
    with (tmp_path / "brats.yaml").open("a", encoding="utf-8") as file:
        file.write("\nl1_weight: 1.0\n")
    with pytest.raises(JobError, match="not those that the job was made with"):
        make().check(tmp_path, __version__)


@pytest.mark.parametrize("name", ["../train.yaml", "/etc/passwd", "none.yaml"])
def test_configs_are_named_and_lie_in_the_package(name):
    with pytest.raises(JobError, match="expected the name of a file"):
        make(files=[name])


def test_local_files_hold_known_keys_and_say_what_is_wrong(tmp_path):
    path = tmp_path / "site.yaml"
    with pytest.raises(JobError, match=r"site\.yaml: unreadable"):
        read_local(path, SITE_KEYS)
    path.write_text(yaml.safe_dump({"dataset_dir": "/data", "batch_size": 2}), encoding="utf-8")
    assert read_local(path, SITE_KEYS) == {"dataset_dir": "/data", "batch_size": 2}
    path.write_text("- a\n", encoding="utf-8")
    with pytest.raises(JobError, match="holds a list"):
        read_local(path, SITE_KEYS)
    path.write_text("dataset: /data\nl1_weight: 0\n", encoding="utf-8")
    with pytest.raises(JobError, match="unknown key dataset, l1_weight"):
        read_local(path, SITE_KEYS)


def test_not_a_job():
    with pytest.raises(JobError, match="not a job"):
        Job.from_dict({"overrides": {}})
    with pytest.raises(JobError, match="not a job"):
        Job.from_dict({"config_files": [], "code": "import os"})
