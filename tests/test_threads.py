"""How many threads compute, and how long they spin: what OpenMP says of itself in processes that are started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bundle import threads
from bundle.cli.main import main

ROOT = Path(__file__).resolve().parents[1]
CLEAN = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_", "MKL_"))}
DISPLAY = CLEAN | {"OMP_DISPLAY_ENV": "verbose"}
TOLD = "import sys; sys.argv = ['asyndgan', *sys.argv[1:]]; from bundle.cli.main import main; main(); import torch"


def said(code, *words, environment=DISPLAY):
    """What libgomp writes when it is loaded, by name."""
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    lines = [line.split("=") for line in done.stderr.splitlines() if " = " in line]
    found = {name.split()[-1]: value.strip(" '") for name, value in lines}
    if not found:
        pytest.skip("this torch has no libgomp")
    return found


@pytest.mark.long
def test_what_imports_the_package_before_torch_spins_briefly_unless_the_user_says_otherwise():
    assert said("import bundle.seeding, torch")["GOMP_SPINCOUNT"] == "10000"
    own = DISPLAY | {"GOMP_SPINCOUNT": "77"}
    assert said("import bundle.seeding, torch", environment=own)["GOMP_SPINCOUNT"] == "77"


@pytest.mark.long
def test_a_command_says_its_threads_before_torch_is_imported():
    words = ["files", "train", "--task", "brats"]
    assert said(TOLD, *words)["GOMP_SPINCOUNT"] == "10000"
    words = ["bank", "--task", "brats", "--dataset_dir", "none", "--output", "none.npz"]
    assert said(TOLD, *words, "--threads", "3")["OMP_NUM_THREADS"] == "3"
    assert said(TOLD, *words)["OMP_NUM_THREADS"] == str(threads.cores())
    assert said(TOLD, *words, environment=DISPLAY | {"OMP_NUM_THREADS": "5"})["OMP_NUM_THREADS"] == "5"


def test_cores_are_physical_and_those_of_this_process(monkeypatch, tmp_path):
    for number, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        (tmp_path / str(number)).write_text(siblings, encoding="ascii")
    monkeypatch.setattr(threads, "_TOPOLOGY", f"{tmp_path}/{{}}")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    assert threads.cores() == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 3})
    assert threads.cores() == 1
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {7, 8, 9})
    assert threads.cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert threads.cores() == os.cpu_count()


@pytest.fixture
def threads_as_before(monkeypatch):
    monkeypatch.setenv("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


def test_where_torch_is_there_nobody_else_changes_its_number(threads_as_before):
    threads.set_threads(None)
    assert torch.get_num_threads() == threads_as_before
    threads.set_threads(threads_as_before + 1)
    assert torch.get_num_threads() == threads_as_before + 1


def test_the_log_says_it_once_and_whether_torch_came_first(monkeypatch, caplog, threads_as_before):
    caplog.set_level("INFO")
    monkeypatch.setattr(threads, "_too_late", True)
    torch.set_num_threads(2)
    threads.log_threads.cache_clear()
    threads.log_threads()
    threads.log_threads()
    assert caplog.messages == [
        f"threads that compute: 2; physical cores for this process: {threads.cores()}",
        "on a machine that others use too, start with GOMP_SPINCOUNT=10000: torch came first here",
    ]


@pytest.mark.parametrize("number", ["0", "-1", "two", "1.5"])
def test_what_is_no_number_of_threads(number, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["run", "--task", "brats", "--dataset_dir", "none", "--threads", number])
    assert "expected a whole number, 1 or more" in capsys.readouterr().err
