"""Configs that a site has approved: what they may say, and how a job names them."""

import pytest
import yaml

from bundle import __version__
from bundle.declarations.job import RESERVED, Job, JobError, NotApproved
from bundle.declarations.own_configs import check_own_config, digests, own_configs
from bundle.files import digest
from bundle.installation import config_dir

FILES = ["train.yaml", "brats.yaml", "demo.yaml", "mine.yaml", "flare.yaml"]
NETWORK = {"_target_": "hospital.Network", "_mode_": "callable", "channels": "@hospital_width"}
GOOD = {
    "generator_def": NETWORK,
    "hospital_width": 8,
    "discriminator_lr": 1.0e-3,
    "augmentation": {"_target_": "hospital.Flip"},
    "case_preprocessing": {"_target_": "Compose", "transforms": [{"_target_": "hospital.Transform"}]},
    "+label_groups": {"core": [1, 4]},
}


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(GOOD), encoding="utf-8")
    return path


def make(mine, files=FILES, **overrides):
    return Job.make(files, overrides, config_dir(), __version__, {mine.name: mine})


def approve(folder, name, content):
    (folder / "configs").mkdir(parents=True, exist_ok=True)
    (folder / "configs" / name).write_bytes(content)


def test_a_job_names_a_file_and_its_digest_and_holds_nothing_of_it(mine, tmp_path):
    job = make(mine, num_steps=20)
    assert job.to_dict()["approved"] == {"mine.yaml": digest(mine)} == digests({"mine.yaml": mine})
    assert "hospital" not in str(job.to_dict())
    assert Job.from_dict(job.to_dict()) == job
    approve(tmp_path / "site", "mine.yaml", mine.read_bytes())
    approve(tmp_path / "site", "other.yaml", b"of another job")
    own = own_configs(tmp_path / "site")
    assert list(own) == ["mine.yaml", "other.yaml"]
    job.check(config_dir(), __version__, own)
    assert job.files(config_dir(), own)[-2:] == [str(own["mine.yaml"]), str(config_dir() / "flare.yaml")]
    assert job.value("hospital_width", config_dir(), own) == 8


def test_a_job_without_one_is_as_it_was():
    job = Job.make([name for name in FILES if name != "mine.yaml"], {}, config_dir(), __version__)
    assert set(job.to_dict()) == {"config_files", "overrides", "version", "digest"}


def test_who_lacks_it_or_has_another_is_told_what_to_do(mine, tmp_path):
    job = make(mine)
    with pytest.raises(NotApproved, match=f"mine.yaml of sha256 {digest(mine)}, which is not approved here: .*put it"):
        job.check(config_dir(), __version__, own_configs(tmp_path / "site"))
    approve(tmp_path / "site", "mine.yaml", b"generator_def: 1")
    own = own_configs(tmp_path / "site")
    with pytest.raises(NotApproved, match=f"has {digest(own['mine.yaml'])}: to approve the other, get it from"):
        job.check(config_dir(), __version__, own)


def test_an_own_task_stands_on_the_packages_configs(tmp_path):
    task = tmp_path / "hearts.yaml"
    task.write_text("based_on: [semantic.yaml]\ntask: hearts\nmodalities: [ct]\nlabel_groups: {heart: [1]}\n", "utf-8")
    job = make(task, ["train.yaml", "hearts.yaml", "demo.yaml", "flare.yaml"], label_groups={"heart": [2]})
    # a base that a site put beside it is none of the package's
    approve(tmp_path / "site", "hearts.yaml", task.read_bytes())
    approve(tmp_path / "site", "semantic.yaml", (config_dir() / "semantic.yaml").read_bytes() + b"\nlr: 1.0\n")
    with pytest.raises(JobError, match="not those that the job was made with"):
        job.check(config_dir(), __version__, own_configs(tmp_path / "site"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"release_policy": "published"}, "release_policy: each participant sets it in its own file"),
        ({"+release_policy": {"policy": "published"}}, "release_policy: each participant sets it"),
        ({"dataset_dir": "/data"}, "each participant sets it"),
        ({"perceptual_weights_path": "/x"}, "each participant sets it"),
        ({"gates": {"_target_": "hospital.open_gates"}}, "gates: it belongs to what stands between"),
        ({"+gates": {"policy": {}}}, "it belongs to what stands between"),
        ({"sites": 1}, "it belongs to what stands between"),
        ({"critic_def": NETWORK}, "it belongs to what stands between"),
        ({"site_loss_def": NETWORK}, "site_loss_def: it belongs to what stands between"),
        ({"codec": NETWORK}, "it belongs to what stands between"),
        ({"limits": NETWORK}, "it belongs to what stands between"),
        ({"gate": NETWORK}, "it belongs to what stands between"),
        ({"run": ["$print(1)"]}, "it belongs to what stands between"),
        ({"imports": ["$import os"]}, "it belongs to what stands between"),
        ({"discriminator_lr": "$print(1)"}, "it belongs to what stands between"),
        ({"train#trainer#_target_": "os.system"}, "expected the name of a top-level key"),
        ({"gates::policy": "published"}, "expected the name of a top-level key"),
        ({"_meta_": {}}, "expected the name of a top-level key"),
        ({7: 1}, "expected the name of a top-level key"),
        ({"generator_def": {"deep": ["%other.yaml::generator_def"]}}, "from another file, which no digest covers"),
        ([1], "expected keys of a config"),
        ({}, "expected keys of a config"),
    ],
)
def test_what_one_may_not_say(mine, content, reason):
    check_own_config(mine, config_dir(), RESERVED)
    mine.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(ValueError, match=reason):
        check_own_config(mine, config_dir(), RESERVED)
    if content:
        # nor is one approved by having been put there
        with pytest.raises(JobError):
            make(mine)


@pytest.mark.parametrize("name", ["l1.yaml", "semantic.yaml", "flare.yaml"])
def test_a_config_of_the_package_keeps_its_name(tmp_path, name):
    (tmp_path / name).write_text("num_steps: 20", encoding="utf-8")
    with pytest.raises(ValueError, match="a config of this package has that name"):
        check_own_config(tmp_path / name, config_dir(), RESERVED)
    with pytest.raises(JobError, match=r"of this package has that name|configs: expected train\.yaml"):
        Job.make(
            ["train.yaml", "brats.yaml", name, "flare.yaml"], {}, config_dir(), __version__, {name: tmp_path / name}
        )


@pytest.mark.parametrize(
    "approved",
    [
        None,
        [],
        {"other.yaml": "0" * 64},
        {"mine.yaml": "0" * 63},
        {"mine.yaml": ["0" * 64]},
        {"mine.yaml": None},
        {7: 1},
    ],
)
def test_what_has_not_the_form_of_a_digest(mine, approved):
    with pytest.raises(JobError, match="not a job, approved: expected"):
        Job.from_dict(make(mine).to_dict() | {"approved": approved})


def test_a_file_that_cannot_be_read(mine):
    for content in (b"\xff\xfe\x00", b"a: [", b"x" * 2**19):
        mine.write_bytes(content)
        with pytest.raises(ValueError, match=r"mine\.yaml: "):
            check_own_config(mine, config_dir(), RESERVED)
