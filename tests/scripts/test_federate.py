"""The command line of a federation, what is installed for it, and one federation in small."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = "['configs/train.yaml','brats.yaml','demo.yaml']"


@pytest.fixture
def federate(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from scripts import federate

    return federate


def test_what_is_installed_is_what_there_is():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "bundle").rglob("__init__.py")}
    assert set(setuptools["packages"]) == found | {"bundle.configs"}
    assert setuptools["package-dir"] == {"bundle.configs": "configs"}
    others = {
        p.relative_to(ROOT) for p in (ROOT / "bundle").rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")
    }
    listed = {p.relative_to(ROOT) for p in (ROOT / "bundle" / "sharing").glob("templates/*")}
    assert setuptools["package-data"]["bundle.sharing"] == ["templates/*"]
    assert others == listed, "files that setuptools leaves out"


def test_configs_are_names_and_the_federations_comes_last(federate):
    assert federate.config_names(CONFIGS) == ["train.yaml", "brats.yaml", "demo.yaml", "flare.yaml"]
    assert federate.config_names("['flare.yaml']") == ["flare.yaml"]
    with pytest.raises(Exception, match="expected a list"):
        federate.config_names("[train.yaml]")


def test_arguments(federate, capsys):
    options = federate.parse_arguments(
        ["submit", "--startup_kit", "kit", "--config_file", CONFIGS, "--set", "num_steps=20", "--min_sites", "2"]
    )
    assert (options.supervise, options.min_sites, options.max_restarts, options.sites) == (True, 2, 5, None)
    assert not federate.parse_arguments(
        ["poc", "--config_file", CONFIGS, "--dataset_dir", "data", "--no-supervise"]
    ).supervise
    for wrong in (["submit", "--config_file", CONFIGS], ["stop", "--startup_kit", "kit"], ["poc", "--now"], []):
        with pytest.raises(SystemExit):
            federate.parse_arguments(wrong)
    assert "--startup_kit" in capsys.readouterr().err


def test_a_kit_that_is_none(federate, tmp_path, capsys):
    pytest.importorskip("nvflare", reason="the extra `federation` is not installed")
    assert federate.main(["status", "--startup_kit", str(tmp_path)]) == 2
    assert "expected the startup kit of an administrator" in capsys.readouterr().err


def test_a_participants_rules(tmp_path):
    pytest.importorskip("nvflare", reason="the extra `federation` is not installed")
    from bundle.flare.kits import ADMINISTRATOR, CLASSES, prepare_kit, provision
    from bundle.flare.participant import SERVER

    kits = provision(tmp_path, ["A"], 8002)
    assert set(kits) == {SERVER, "A", ADMINISTRATOR}
    for name in (SERVER, "A"):
        prepare_kit(kits[name])
        local = kits[name] / "local"
        resources = json.loads((local / "resources.json").read_text(encoding="utf-8"))
        assert resources["class_allow_list"] == list(CLASSES)
        assert resources["class_list_enforcement_mode"] == "enforce"
        assert resources["allow_log_streaming"] is False
        roles = json.loads((local / "authorization.json").read_text(encoding="utf-8"))["permissions"]
        for role, rights in roles.items():
            assert role == "member" or (rights["byoc"], rights["shell_commands"]) == ("none", "none")
        # nobody else on this machine sees its jobs
        assert "/tmp/nvflare" not in (local / "resources.json").read_text(encoding="utf-8")


def test_a_job_carries_no_code(tmp_path):
    pytest.importorskip("nvflare", reason="the extra `federation` is not installed")
    from bundle import __version__
    from bundle.declarations.job import Job
    from bundle.flare.jobs import export_job
    from bundle.flare.kits import CLASSES
    from bundle.installation import config_dir

    job = Job.make(
        ["train.yaml", "brats.yaml", "demo.yaml", "flare.yaml"], {"num_steps": 20}, config_dir(), __version__
    )
    folder = export_job(job, "training", tmp_path, 2)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json"}
    named = set()
    for path in files:
        text = path.read_text(encoding="utf-8")
        named |= {word for word in text.replace('"', " ").split() if word.startswith(("bundle.", "nvflare."))}
    assert named == set(CLASSES)
    assert json.loads((folder / "meta.json").read_text(encoding="utf-8"))["min_clients"] == 2


@pytest.mark.federation
def test_a_sites_job_process_is_killed_and_the_training_ends_as_in_one_process(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    import torch

    from bundle.workflows import DistributedGANWorkflow
    from scripts import run_experiments

    pytest.importorskip("nvflare", reason="the extra `federation` is not installed")
    run = [sys.executable, str(ROOT / "scripts" / "make_phantoms.py"), "brains", str(tmp_path / "phantoms")]
    subprocess.run(
        [*run, "--sites", "A", "B", "--cases_per_site", "2", "--test_cases_per_site", "1", "--size", "32", "32", "8"],
        check=True,
    )
    prepare = [sys.executable, str(ROOT / "scripts" / "prepare_data.py"), "brats", str(tmp_path / "phantoms")]
    table = ["--sites", "table", "--table", str(tmp_path / "phantoms" / "cases.csv")]
    data = tmp_path / "data"
    subprocess.run([*prepare, "--output", str(data), *table, "--modalities", "flair"], check=True)
    own = ["--config_file", CONFIGS, "--dataset_dir", str(data), "--num_threads", "1", "--device", "cpu"]
    sizes = ["image_size=32", "generator_channels=4", "generator_blocks=1", "discriminator_channels=4"]
    steps = ["num_steps=120", "epoch_length=10", "amp=false", "step_timeout=10"]

    def start(command, run_dir):
        script = str(ROOT / "scripts" / "federate.py")
        return subprocess.Popen(
            [sys.executable, script, command, *own, "--run_dir", str(run_dir), "--set", *sizes, *steps],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )

    killed = tmp_path / "killed"
    process = start("poc", killed)
    said = []
    for line in process.stderr:
        said.append(line)
        if "step 30 is saved" in line and not any("submitted again" in before for before in said):
            jobs = [one for one in psutil.process_iter(["cmdline"]) if _is_job_of(one, killed)]
            assert jobs, "no job process of a site"
            os.kill(jobs[0].pid, signal.SIGKILL)
    assert process.wait(120) == 0, "".join(said)
    assert any("submitted again" in line for line in said), "".join(said)
    end = time.monotonic() + 10
    while any(_is_job_of(one, killed) for one in psutil.process_iter(["cmdline"])) and time.monotonic() < end:
        time.sleep(0.2)
    assert not any(str(killed) in " ".join(one.info["cmdline"] or []) for one in psutil.process_iter(["cmdline"]))

    alone = tmp_path / "alone"
    config = [ROOT / "configs" / name for name in ("train.yaml", "brats.yaml", "demo.yaml")]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        workflow = DistributedGANWorkflow(
            [str(path) for path in config],
            dataset_dir=str(data),
            run_dir=str(alone),
            device="cpu",
            bundle_root=str(ROOT),
            **run_experiments.overrides([*sizes, *steps[:-1]]),
        )
        workflow.initialize()
        workflow.run()
        workflow.finalize()
    finally:
        torch.set_num_threads(threads)
    name = Path("seed_0") / "asyndgan" / "gan" / "generator.pt"
    assert (killed / name).read_bytes() == (alone / name).read_bytes()


def _is_job_of(process, run_dir):
    words = process.info["cmdline"] or []
    return any("worker_process" in word for word in words) and any(str(run_dir) in word for word in words)
