"""The command line of a federation, what is installed for it, and one federation in small."""

import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import psutil
import pytest
from tiny import NETWORKS

from bundle.cli.jobs import job_configs
from bundle.cli.main import build_parser, main
from bundle.cli.options import overrides
from bundle.declarations.job import Job
from bundle.installation import config_dir

ROOT = Path(__file__).resolve().parents[2]
ASYNDGAN = [sys.executable, "-m", "bundle.cli"]
TRAINING = ["--task", "brats", "--profile", "demo"]


def parse(*words):
    return build_parser().parse_args(["federate", *map(str, words)])


def test_a_job_has_names_of_configs_and_the_federations_comes_last(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("num_steps: 20", encoding="utf-8")

    def names(*words):
        return job_configs(parse("export", "--sites", "A", "--output", "job", "--task", "brats", *words))[0]

    assert names() == ["train.yaml", "brats.yaml", "small.yaml", "flare.yaml"]
    assert names("--profile", "demo", "--config", "flare", "l1")[2:] == ["demo.yaml", "l1.yaml", "flare.yaml"]
    assert names("--config", config_dir() / "l1.yaml")[-2:] == ["l1.yaml", "flare.yaml"]
    assert names("--config", own)[-2:] == ["own.yaml", "flare.yaml"]
    words = parse("export", "--sites", "A", "--output", "job", "--task", "brats", "--config", own, "l1")
    assert job_configs(words)[1] == {"own.yaml": own}
    other = tmp_path / "other" / "own.yaml"
    other.parent.mkdir()
    other.write_text("num_steps: 20", encoding="utf-8")
    with pytest.raises(ValueError, match=r"other/own\.yaml: the job names another config own\.yaml"):
        names("--config", own, other)


def test_arguments(capsys):
    options = parse("submit", "--startup_kit", "kit", *TRAINING, "--set", "num_steps=20", "--min_sites", 2)
    assert (options.supervise, options.min_sites, options.max_restarts, options.sites) == (True, 2, 5, None)
    assert not parse("poc", *TRAINING, "--dataset_dir", "data", "--no-supervise").supervise
    for wrong in (["submit", *TRAINING], ["stop", "--startup_kit", "kit"], ["poc", "--now"], []):
        with pytest.raises(SystemExit):
            parse(*wrong)
    assert "--startup_kit" in capsys.readouterr().err


def test_a_kit_that_is_none(tmp_path, capsys):
    pytest.importorskip("nvflare", reason="the extra `federation` is not installed")
    assert main(["federate", "status", "--startup_kit", str(tmp_path)]) == 2
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


def test_export_writes_the_job_that_submit_would_and_that_sites_take(tmp_path, capsys):
    pytest.importorskip("nvflare", reason="the extra `federation` is not installed")
    from bundle.flare.deployer import check_app

    output = tmp_path / "jobs of ours"
    command = ["federate", "export", *TRAINING, "--output", str(output), "--set", "num_steps=20"]
    assert main([*command, "--sites", "B", "A", "--min_sites", "5"]) == 0
    (folder,) = output.iterdir()
    said = capsys.readouterr().out.splitlines()
    assert said[0] == str(folder)
    assert shlex.split(said[1]) == ["nvflare", "job", "submit", "-j", str(folder), "--startup-kit", "KIT"]
    assert json.loads((folder / "meta.json").read_text(encoding="utf-8"))["min_clients"] == 2
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in (folder / "app").rglob("*"):
            archive.write(path, path.relative_to(folder / "app"))
    check_app(packed.getvalue(), {})
    content = json.loads((folder / "app" / "config" / "config_fed_client.json").read_text(encoding="utf-8"))
    job = Job.from_dict(content["components"][0]["args"]["job"])
    assert job.overrides == {"num_steps": 20, "min_sites": 5, "site_names": ["A", "B"]}
    # by which submit finds the job that is active already
    assert folder.name == f"training-{job.identity}"
    assert main([*command, "--sites", "A", "B"]) == 0
    assert [path.name for path in output.iterdir()] == [folder.name]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--sites", "A", "server"], "'server'"),
        (["--sites", "A", "--min_sites", "0"], "min_sites"),
        (["--sites", "A", "--set", "run_dir=/x"], "run_dir"),
    ],
)
def test_export_of_what_no_federation_takes(tmp_path, capsys, words, reason):
    pytest.importorskip("nvflare", reason="the extra `federation` is not installed")
    assert main(["federate", "export", *TRAINING, "--output", str(tmp_path / "jobs"), *words]) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "jobs").exists()


@pytest.mark.federation
def test_a_sites_job_process_is_killed_and_the_training_ends_as_in_one_process(tmp_path):
    import torch

    from bundle.workflows import DistributedGANWorkflow

    pytest.importorskip("nvflare", reason="the extra `federation` is not installed")
    run = [*ASYNDGAN, "phantoms", "brains", str(tmp_path / "phantoms")]
    subprocess.run(
        [*run, "--sites", "A", "B", "--cases_per_site", "2", "--test_cases_per_site", "1", "--size", "32", "32", "8"],
        check=True,
        cwd=ROOT,
    )
    prepare = [*ASYNDGAN, "prepare", "brats", str(tmp_path / "phantoms")]
    table = ["--sites", "table", "--table", str(tmp_path / "phantoms" / "cases.csv")]
    data = tmp_path / "data"
    subprocess.run([*prepare, "--output", str(data), *table, "--modalities", "flair"], check=True, cwd=ROOT)
    own = [*TRAINING, "--dataset_dir", str(data), "--threads", "1", "--device", "cpu"]
    sizes = [f"{key}={value}".lower() for key, value in NETWORKS.items()]
    steps = ["num_steps=120", "epoch_length=10", "step_timeout=10"]

    def start(command, run_dir):
        return subprocess.Popen(
            [*ASYNDGAN, "federate", command, *own, "--run_dir", str(run_dir), "--set", *sizes, *steps],
            cwd=ROOT,
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
            **overrides([*sizes, *steps[:-1]]),
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
