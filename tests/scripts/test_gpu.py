"""What scripts/gpu.py packs and writes; its measurements are tried by `--device cpu --smoke`."""

import json

import nibabel as nib
import pytest

from bundle.data import load_datalist
from scripts import gpu


def options(tmp_path, *words):
    return gpu.parse_arguments(["run", "--output", str(tmp_path), "--device", "cpu", *words])


def test_packed_data_are_a_data_set_with_every_other_slice(phantom_dir, tmp_path):
    assert gpu._pack_data(phantom_dir, tmp_path / "data", 1e9) == 4
    content = load_datalist(tmp_path / "data", ["flair"])
    assert [item["site"] for item in content.training] == ["A", "B", "A", "B"]
    assert list(content.test) == []
    for key in ("image", "label"):
        path = content.training[0][key]
        assert nib.load(path if isinstance(path, str) else path[0]).shape[:3] == (32, 32, 4)


def test_data_are_packed_up_to_a_limit_from_every_site(phantom_dir, tmp_path):
    whole = gpu._pack_data(phantom_dir, tmp_path / "whole", 1e9)
    size = sum(file.stat().st_size for file in (tmp_path / "whole").rglob("*.nii.gz"))
    assert gpu._pack_data(phantom_dir, tmp_path / "half", 0.6 * size) == whole // 2
    assert {item["site"] for item in load_datalist(tmp_path / "half", ["flair"]).training} == {"A", "B"}
    with pytest.raises(ValueError, match="no training case fits"):
        gpu._pack_data(phantom_dir, tmp_path / "none", 10)
    with pytest.raises(ValueError, match=r"no datalist\.json"):
        gpu._pack_data(tmp_path / "absent", tmp_path / "none", 10)


def test_a_part_that_fails_is_named_and_the_next_one_begins(tmp_path):
    run = gpu.Run(options(tmp_path))
    run.part("tests", lambda: 1 / 0)
    run.part("about", lambda: {"device": "a card", "torch": "2", "TFLOP/s of a product, tf32": 400})
    report = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert report["failed"] == {"tests": "ZeroDivisionError: division by zero"}
    text = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert text.startswith("a card, torch 2.\n")
    assert "Not measured: tests (ZeroDivisionError: division by zero)" in text


def test_a_command_that_takes_too_long_is_killed_and_its_output_kept(tmp_path):
    run = gpu.Run(options(tmp_path))
    with pytest.raises(RuntimeError, match="killed after 1 s"):
        run.command(["-c", "import time; print('begun', flush=True); time.sleep(60)"], 1, "log")
    assert (tmp_path / "log").read_text(encoding="utf-8") == "begun\n"
    with pytest.raises(RuntimeError, match="no such thing"):
        run.command(["-c", "raise SystemExit('no such thing')"], 30, "log")


def test_the_committed_figures_make_the_tables_of_the_docs():
    root = gpu.ROOT / "docs"
    report = json.loads((root / "results" / "gpu" / "h200.json").read_text(encoding="utf-8"))
    page = (root / "performance.md").read_text(encoding="utf-8")
    rows = [line for line in gpu.as_markdown(report).splitlines() if line.startswith("| ")]
    assert len(rows) == 14
    assert all(row in page for row in rows)


def test_without_a_gpu_it_says_what_to_do(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpu.main(["run", "--output", str(tmp_path / "out")]) == 2
    assert "--device cpu --smoke" in capsys.readouterr().err
