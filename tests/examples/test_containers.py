"""The federation in containers: what its files name is there, and its commands, as processes, train to the end."""

import argparse
import os
import re
import subprocess
import sys
import time
import zipfile
from contextlib import ExitStack
from fnmatch import fnmatch
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from nvflare.tool.cert.cert_cli import def_cert_cli_parser
from nvflare.tool.package.package_cli import def_package_cli_parser
from test_docs_commands import problem

from bundle.flare.kits import free_port

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "containers"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
SCRIPTS = sorted(FOLDER.glob("*.sh"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def filled(text):
    """With the defaults of its variables, as compose takes them."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(text))


def instructions():
    """Words of each of the Dockerfile's instructions."""
    whole = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    return [line.split(maxsplit=1) for line in whole.splitlines() if line.strip()]


def mounts(service):
    """Targets of a service's volumes, with their sources."""
    return {target: source for source, target, *_ in (volume.split(":") for volume in service["volumes"])}


def let_through():
    """Files of the checkout that become part of the build's context; the last pattern that fits decides."""
    patterns = [
        line
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]

    def is_in(path):
        inside = True
        for pattern in patterns:
            whole = [path.as_posix(), *(parent.as_posix() for parent in path.parents)]
            name = pattern.removeprefix("!")
            of = path.parts if name.startswith("**/") else whole
            if any(fnmatch(part, name.removeprefix("**/")) for part in of):
                inside = pattern.startswith("!")
        return inside

    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [Path(line) for line in listed.splitlines() if is_in(Path(line))]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_a_folder_of_its_own_and_names_what_is_there(name):
    service = SERVICES[name]
    where = mounts(service)
    assert service["working_dir"] == "/own"
    assert [other for other in SERVICES if mounts(SERVICES[other])["/own"] == where["/own"]] == [name]
    assert {source for source in where.values() if source != "."} <= COMPOSE["volumes"].keys()
    program, script, *_ = service["command"]
    assert program == "bash"
    assert (FOLDER / Path(script).relative_to("/scripts")).is_file()
    assert (FOLDER / service["build"]["context"] / "Dockerfile").resolve() == ROOT / "Dockerfile"
    environment = service["environment"]
    assert environment["SERVER"] in SERVICES
    assert SERVICES[environment["SERVER"]]["expose"] == [environment["PORT"]]
    assert environment["POST"] in where
    used = set(re.findall(r"\$([A-Z]+)", "".join(path.read_text(encoding="utf-8") for path in SCRIPTS)))
    assert used == {key for one in SERVICES.values() for key in one["environment"]} | {"PWD"}


def test_the_sites_that_the_coordinator_waits_for_are_those_that_there_are():
    hospitals = [service["command"][2:] for service in SERVICES.values() if "hospital.sh" in service["command"][1]]
    (coordinator,) = [service["command"][2:] for name, service in SERVICES.items() if name == "coordinator"]
    assert [[site] for site in coordinator] == hospitals


def nvflare_problem(words):
    """What FLARE's own parsers find wrong with a command of theirs."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    commands = parser.add_subparsers(required=True)
    def_cert_cli_parser(commands)
    def_package_cli_parser(commands)
    try:
        _, left = parser.parse_known_args(words)
    except (argparse.ArgumentError, SystemExit) as error:
        return str(error)
    return f"unknown: {left}" if left else None


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_scripts_commands_are_ones(path):
    subprocess.run(["bash", "-n", str(path)], check=True)
    text = path.read_text(encoding="utf-8").replace("$name", "A")
    text = text.replace("$SETTINGS", filled(SERVICES["coordinator"]["environment"]["SETTINGS"]))
    lines = re.findall(r"(?:^ *|until |\|\| )((?:asyndgan|nvflare) [^;|\n]*)", text, re.MULTILINE)
    assert lines
    for line in lines:
        # what the shell puts in is one word
        program, *words = re.sub(r"\$\([^()]*(?:\([^()]*\))?[^()]*\)", "WORD", line).replace('"', "").split()
        assert (nvflare_problem(words) if program == "nvflare" else problem([program, *words])) is None, line


def test_the_image_holds_the_package_and_neither_data_nor_weights():
    files = let_through()
    assert {path.parts[0] for path in files} == {
        "LICENSE",
        "README.md",
        "bundle",
        "configs",
        "pyproject.toml",
        "requirements.txt",
    }
    assert {path.suffix for path in files} & {".pt", ".npz", ".gz", ".png", ".tif", ".safetensors"} == set()
    assert any("templates" in path.parts for path in files)
    copied = [word for name, words in instructions() if name == "COPY" for word in words.split()[:-1]]
    assert {path.parts[0] for path in files} == set(copied)
    assert all((ROOT / word).exists() for word in copied)


def test_the_image_is_built_on_any_base_and_runs_as_nobody_in_particular():
    names = [name for name, _ in instructions()]
    assert set(names) <= {"ARG", "FROM", "RUN", "ENV", "COPY", "USER", "WORKDIR", "CMD"}
    assert instructions()[:2] == [["ARG", "BASE=python:3.12-slim"], ["FROM", "${BASE}"]]
    (user,) = [words for name, words in instructions() if name == "USER"]
    assert user != "root"
    assert "RUN" not in names[names.index("USER") :]
    assert "BASE" in SERVICES["server"]["build"]["args"]
    assert filled(SERVICES["server"]["build"]["args"]["BASE"]) == instructions()[0][1].removeprefix("BASE=")
    assert dict(instructions())["WORKDIR"] == SERVICES["server"]["working_dir"]
    # what volumes are mounted on is the user's
    made = next(words for name, words in instructions() if name == "RUN" and "chown" in words)
    assert f"chown {user} /own {SERVICES['server']['environment']['POST']}" in made
    for words in (words for name, words in instructions() if name == "RUN"):
        subprocess.run(["sh", "-n"], input=words, text=True, check=True)


class Containers:
    """The services as processes: volumes are folders, every service is on this machine, the port is a free one."""

    def __init__(self, folder, settings):
        self.folder, self.port, self.settings = folder, free_port(), settings
        self.processes = {}

    def place(self, service, text):
        """A path in the container, on this machine."""
        for target, source in mounts(service).items():
            if text == target or text.startswith(f"{target}/"):
                outside = FOLDER / source if source.startswith(".") else self.folder / source
                return f"{outside}{text.removeprefix(target)}"
        return text

    def environment(self, name, service):
        home = self.folder / "homes" / name
        home.mkdir(parents=True)
        given = {key: self.place(service, filled(value)) for key, value in service["environment"].items()}
        given |= {"SERVER": "localhost", "PORT": str(self.port)}
        if "SETTINGS" in given:
            given["SETTINGS"] = self.settings
        # fonts are found once
        cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
        paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return os.environ | {"PATH": paths, "PYTHONPATH": str(ROOT), "HOME": str(home), "XDG_CACHE_HOME": cache} | given

    def start(self, name, stack):
        service = SERVICES[name]
        for target in mounts(service):
            Path(self.place(service, target)).mkdir(parents=True, exist_ok=True)
        self.processes[name] = subprocess.Popen(
            [self.place(service, word) for word in service["command"]],
            cwd=self.place(service, service["working_dir"]),
            env=self.environment(name, service),
            stdin=subprocess.DEVNULL,
            stdout=stack.enter_context((self.folder / f"{name}.log").open("wb")),
            stderr=subprocess.STDOUT,
        )

    def end(self):
        family = [
            one
            for process in self.processes.values()
            if process.poll() is None
            for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        ]
        for one in family:
            try:
                one.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(family, timeout=30)

    def said(self, name):
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")


@pytest.mark.federation
def test_the_commands_of_compose_train_to_the_end(tmp_path, tiny_sizes):
    # of the training alone, and nothing that each participant sets for itself
    others = ("device", "batch_size", "copies", "segmenter_", "feature_")
    words = [f"{key}={value}" for key, value in tiny_sizes.items() if not key.startswith(others)]
    containers = Containers(tmp_path, " ".join(words))
    with ExitStack() as stack:
        stack.callback(containers.end)
        for name in SERVICES:
            containers.start(name, stack)
        end = time.monotonic() + 3600
        coordinator = containers.processes["coordinator"]
        while coordinator.poll() is None:
            assert time.monotonic() < end, containers.said("coordinator")
            died = [name for name, process in containers.processes.items() if process.poll() not in (None, 0)]
            assert died == [], "\n".join(containers.said(name) for name in died)
            time.sleep(1)
        assert coordinator.returncode == 0, containers.said("coordinator")
    result = tmp_path / "coordinator" / "result"
    weights = torch.load(result / "generator.pt", weights_only=True)
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    assert (result / "record.json").is_file()
    for site in ("A", "B"):
        own = tmp_path / f"hospital-{site.lower()}"
        assert list((own / "checkpoints" / "releases").glob(f"{site}.jsonl"))
        assert not list(own.rglob(f"*{'AB'.replace(site, '')}.key"))
    # no key and no image in the post, nor at the server
    for path in (tmp_path / "post").glob("*.zip"):
        assert not [name for name in zipfile.ZipFile(path).namelist() if name.endswith(".key")]
    assert not list((tmp_path / "post").rglob("*.key"))
    assert not [*(tmp_path / "server").rglob("*.nii.gz"), *(tmp_path / "coordinator").rglob("*.nii.gz")]
