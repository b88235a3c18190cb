"""Jobs as a hostile server may make them: each is refused at a site, in a short line, before anything is made of it."""

import json
import math
from functools import cache

import pytest

from bundle import __version__
from bundle.declarations import job
from bundle.declarations.job import Job, JobError
from bundle.installation import config_dir

FILES = ["train.yaml", "brats.yaml", "demo.yaml", "flare.yaml"]


def nested(depth, value=1):
    for _ in range(depth):
        value = [value]
    return value


VALUES = {
    "num_steps": [-1, 0, 1.5, True, "600", None, math.inf, 10**30, [600], nested(10**4), {"_target_": "os.getpid"}],
    "epoch_length": [0, -50, math.nan, False],
    "checkpoint_epochs": [0, -1, 1.0],
    "step_timeout": [math.nan, math.inf, -math.inf, -1, 0, "60", True, 10**400],
    "open_timeout": [math.nan, -1],
    "image_size": [10**6, 0, -64, 64.0, "64", True, [64, 64]],
    "generator_channels": [10**9, 0, -1, 16.0],
    "generator_blocks": [-1, 10**6, "6"],
    "discriminator_channels": [10**9, 0, True],
    "discriminator_layers": [10**6, -1],
    "segmenter_channels": [[16] * 10**4, [], [16, "32"], [10**9, 1], nested(50), 16],
    "lr": [math.nan, math.inf, -1, "2e-4", True, 10**400],
    "betas": [[0.5], [0.5, 0.9, 0.9], [0.5, 1.0], [math.nan, 0.9], 0.5, [[0.5, 0.9]]],
    "constant_lr": [-0.1, 1.1, math.nan],
    "precision_to_sites": ["f" * 10**6, "float64", None, ["float32"], 32],
    "precision_from_sites": ["", True],
    "compression": ["gzip", False, "zstd\n"],
    "mixture": ["equal", None],
    "seed": [-1, 2**64, "../../../x", 0.0, True],
    "setting": ["/tmp/x", "../../x", "asyndgan/../..", "real_subset/../x", "syn_subset/", "a" * 10**6, 1],
    "task": ["../x", "/x", "", "a/b"],
    "modalities": [[], ["$x"], [["flair"]], ["f" * 10**6], ["flair"] * 1000, "{workspace}"],
    "label_groups": [{"a": "x"}, {"a": [0]}, {"a": [True]}, {"{workspace}": [1]}, {"a": nested(9)}, {"_target_": [1]}],
    "site_names": [["../x"], ["A"] * 10**5, "A", [1]],
    "keep_going": [1],
    "max_gradient_norm": [math.nan, -1, 0],
    "min_sites": [0, -1, True, 1.0],
    "max_strikes": [0, math.inf],
    "rejoin_interval": [0, -1],
    "generator_norm": ["x" * 10**6, ["GROUP", {"num_groups": [1]}]],
    "display_size": [0, -1, "256"],
    "amp": ["false", 0, 1, None],
    "discriminator_augmentation": [{"evil": 1}, {"contrast": 2}, {"contrast": math.nan}, []],
    "metric_units": [{"a": "$x"}, {"a": {"b": 1}}, {"_target_": "os.getpid"}],
}
JOBS = [
    pytest.param(key, value, id=f"{key}-{place}")
    for key, values in VALUES.items()
    for place, value in enumerate(values)
]


def digest(files):
    return job._digest(files, config_dir())


def refusal(content):
    """What the refusal of a job says, however the job was made."""
    with pytest.raises(JobError) as caught:
        Job.from_dict(content).check(config_dir(), __version__)
    said = str(caught.value)
    assert len(said) < 600
    assert said.isprintable()
    return said


def test_there_are_many():
    assert len(JOBS) >= 96


@pytest.fixture(scope="module", autouse=True)
def configs():
    """They are read once: they are the same for every job."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "_read_config", cache(job._read_config))
        yield


@pytest.mark.parametrize(("key", "value"), JOBS)
def test_a_value_that_is_none_of_its_keys_kind_is_refused(key, value):
    said = refusal({"config_files": FILES, "overrides": {key: value}, "version": __version__, "digest": digest(FILES)})
    assert key in said


@pytest.mark.parametrize(
    "files",
    [
        [],
        ["flare.yaml"],
        ["train.yaml", "flare.yaml"],
        ["brats.yaml", "train.yaml", "flare.yaml"],
        ["flare.yaml", "brats.yaml", "train.yaml"],
        ["train.yaml", "brats.yaml", "demo.yaml"],
        ["train.yaml", "demo.yaml", "brats.yaml", "flare.yaml"],
        ["train.yaml", "brats.yaml", "gaussian.yaml", "flare.yaml"],
        ["train.yaml", "brats.yaml", "demo.yaml", "demo.yaml", "flare.yaml"],
        ["train.yaml", "brats.yaml", "segment.yaml", "flare.yaml"],
        ["segment.yaml", "brats.yaml", "demo.yaml", "flare.yaml"],
        ["train.yaml", "brats.yaml"] + ["demo.yaml"] * 10**4 + ["flare.yaml"],
        ["train.yaml", "brats.yaml", "../configs/demo.yaml", "flare.yaml"],
        ["train.yaml", "brats.yaml", "/etc/passwd", "flare.yaml"],
        ["train.yaml", "brats.yaml", "none.yaml", "flare.yaml"],
        ["train.yaml", "brats.yaml", 7, "flare.yaml"],
        ["train.yaml", nested(10**4), "flare.yaml"],
        "train.yaml",
        None,
    ],
    ids=range(19),
)
def test_no_configs_and_configs_in_another_order(files):
    try:
        right = digest(files)
    except (JobError, TypeError):
        right = "0" * 64
    refusal({"config_files": files, "overrides": {}, "version": __version__, "digest": right})


@pytest.mark.parametrize(
    "change",
    [
        {"overrides": {f"k{number}": 1 for number in range(9000)}},
        {"overrides": {"x" * 10**6: 1}},
        {"overrides": {"patient_0001\n\x1b[2J": 1}},
        {"overrides": [["num_steps", 2]]},
        {"overrides": None},
        {"overrides": {7: 1}},
        {"version": "x" * 10**6},
        {"version": "0.0.0\nINFO forged"},
        {"version": 1},
        {"digest": "x" * 64},
        {"digest": None},
        {"digest": nested(10**4)},
        {"code": "import os"},
    ],
    ids=range(13),
)
def test_what_has_not_the_form_of_a_job(change):
    refusal({"config_files": FILES, "overrides": {}, "version": __version__, "digest": digest(FILES)} | change)


@pytest.mark.parametrize("content", [None, [], "job", 7, {}, {"config_files": FILES}, nested(10**4)], ids=range(7))
def test_what_is_no_job_at_all(content):
    refusal(content)


def test_an_honest_job_passes():
    overrides = {"num_steps": 20, "epoch_length": 10, "site_names": ["A", "B"], "setting": "asyndgan", "lr": 1e-4}
    content = {"config_files": FILES, "overrides": overrides, "version": __version__, "digest": digest(FILES)}
    Job.from_dict(json.loads(json.dumps(content))).check(config_dir(), __version__)
