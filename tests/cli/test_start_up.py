"""What commands import that read files, ask a server, or write rules: nothing that computes, which takes seconds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bundle.site.release import ReleaseLedger

ROOT = Path(__file__).resolve().parents[2]
CODE = """
import sys
from bundle.cli.main import main
status = main(sys.argv[1:])
print("imported", *sorted({"torch", "monai", "nvflare", "SimpleITK", "scipy"} & sys.modules.keys()))
sys.exit(status)
"""


def imported(*words):
    """What a command imports of what takes long."""
    done = subprocess.run([sys.executable, "-c", CODE, *map(str, words)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.fixture
def kit(tmp_path):
    pytest.importorskip("nvflare", reason="the extra `federation` is not installed")
    from bundle.flare.kits import provision

    return provision(tmp_path / "federation", ["A"], 8002)["A"]


def test_the_files_of_a_stage():
    assert imported("files", "train", "--task", "brats", "--config", "l1") == set()


def test_a_ledger(tmp_path):
    with ReleaseLedger(tmp_path / "A.jsonl", "A") as written:
        written.append("reply", step=1, parts=[])
    assert imported("site", "ledger", tmp_path / "A.jsonl") == set()


def test_what_a_site_has_approved(tmp_path):
    (tmp_path / "local" / "configs").mkdir(parents=True)
    (tmp_path / "local" / "configs" / "mine.yaml").write_text("num_steps: 20", encoding="utf-8")
    assert imported("site", "configs", "--startup_kit", tmp_path) == set()


def test_a_page(tmp_path):
    results = {"task": "brats", "seeds": [0], "settings": {"real_all": {"dice": {"mean": 0.5, "per_case": {"a": 0.5}}}}}
    (tmp_path / "results.json").write_text(json.dumps(results), encoding="utf-8")
    assert imported("report", tmp_path) == set()


def test_rules_of_a_kit(kit):
    assert imported("site", "init", "--startup_kit", kit) == {"nvflare"}
    assert imported("federate", "kits", kit) == {"nvflare"}


@pytest.mark.parametrize("module", ["administrator", "agreed", "preflight", "supervisor"])
def test_who_asks_a_server(module):
    pytest.importorskip("nvflare", reason="the extra `federation` is not installed")
    code = f"import sys, bundle.flare.{module}; print(*{{'torch', 'monai'}} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout == "\n"


def test_the_file_of_an_evaluation_is_that_which_it_writes():
    from bundle.flare.agreed import SCORED
    from bundle.server.evaluation import RESULTS_FILE

    assert SCORED == (RESULTS_FILE,)
