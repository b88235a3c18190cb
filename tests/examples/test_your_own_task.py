"""The example of a task of one's own, from images to the report, as its README has it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bundle.cli.main import main
from bundle.data.datalist import load_datalist

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "your_own_task"


def test_the_task_is_one_short_file():
    lines = (EXAMPLE / "xray.yaml").read_text(encoding="utf-8").splitlines()
    assert len(lines) < 60
    assert yaml.safe_load("\n".join(lines))["based_on"] == ["semantic.yaml"]


def test_images_of_three_hospitals_become_a_report(tmp_path, tiny_sizes):
    source, data, run_dir = tmp_path / "images", tmp_path / "data", tmp_path / "run"
    words = [str(EXAMPLE / "draw_images.py"), str(source), "--size", "48", "--train", "2", "--test", "1"]
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    words = ["images", str(source), "--output", str(data), "--sites", "table", "--table", str(source / "cases.csv")]
    words += ["--modalities", "xray", "--labels", "0=background", "1=lung", "2=heart"]
    assert main(["prepare", *words]) == 0
    assert list(load_datalist(data).sites) == ["North", "South", "West"]

    words = ["--task", str(EXAMPLE / "xray.yaml"), "--dataset_dir", str(data), "--run_dir", str(run_dir)]
    words += ["--profile", "demo", "--settings", "asyndgan", "--set"]
    assert main(["run", *words, *[f"{key}={value}" for key, value in tiny_sizes.items()]]) == 0
    results = json.loads((run_dir / "results.json").read_text(encoding="utf-8"))
    assert results["task"] == "xray"
    scores = results["settings"]["asyndgan"]
    assert {"dice", "dice:lung", "dice:heart", "hd95"} <= scores.keys()
    assert len(scores["dice"]["per_case"]) == 3
    assert "fid" in " ".join(results["quality"]["asyndgan"])
    assert (run_dir / "report.html").is_file()
