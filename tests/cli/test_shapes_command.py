"""Shapes are measured over patients, and banks drawn from them."""

import json
import shutil

import pytest

from bundle.cli.main import main
from bundle.phantoms.brains import write_brats_phantoms
from bundle.prepare.preparation import PrepareOptions, prepare
from bundle.server import read_conditions
from bundle.shapes import read_statistics
from bundle.site.release import summarize


@pytest.fixture(scope="module")
def patients_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("patients")
    table = write_brats_phantoms(folder, ("A", "B"), cases_per_site=5, test_cases_per_site=1, shape=(32, 32, 8))
    prepare(PrepareOptions("brats", folder, folder, sites="table", table=table, name="phantoms"))
    return folder


def measure(folder, output, *words):
    sizes = ["image_size=32", "min_tumor_pixels=4"]
    options = ["--task", "brats", "--profile", "demo", "--dataset_dir", str(folder), "--output", str(output)]
    return main(["shapes", "measure", *options, "--set", *sizes, *words])


def test_shapes_are_measured_and_a_bank_is_drawn(patients_dir, tmp_path, capsys):
    assert measure(patients_dir, tmp_path / "shapes.npz") == 0
    assert "of 10 patients" in capsys.readouterr().out
    assert set(read_statistics(tmp_path / "shapes.npz")) == {"all", "A", "B"}
    words = ["shapes", "draw", "--shapes", str(tmp_path / "shapes.npz"), "--num", "7", "--size", "32"]
    assert main([*words, "--output", str(tmp_path / "bank.npz"), "--style", "B"]) == 0
    bank = read_conditions(tmp_path / "bank.npz")
    assert [condition.shape for condition in bank["B"]] == [(2, 32, 32)] * 7
    assert main([*words, "--output", str(tmp_path / "again.npz"), "--style", "C"]) == 2
    assert "no shapes of 'C', expected one of A, B, all" in capsys.readouterr().err
    assert main([*words, "--output", str(tmp_path / "again.npz"), "--density", "3"]) == 2
    assert "have no control density" in capsys.readouterr().err


def test_a_site_with_few_patients_is_left_out_and_so_are_all_that_are_few(phantom_dir, patients_dir, tmp_path, capsys):
    few = tmp_path / "few"
    shutil.copytree(patients_dir, few)
    content = json.loads((few / "datalist.json").read_text(encoding="utf-8"))
    of = [item for item in content["training"] if item["site"] == "A"]
    kept = [item for item in content["training"] if item not in of[:2]]
    text = json.dumps(content | {"training": kept, "numTraining": len(kept)})
    (few / "datalist.json").write_text(text, encoding="utf-8")
    assert measure(few, tmp_path / "shapes.npz") == 0
    assert "A: expected at least 5 patients" in capsys.readouterr().out
    assert set(read_statistics(tmp_path / "shapes.npz")) == {"all", "B"}
    assert measure(phantom_dir, tmp_path / "none.npz") == 2
    assert "expected at least 5 patients for statistics of shapes, got 4" in capsys.readouterr().err
    assert not (tmp_path / "none.npz").exists()


def test_a_task_without_a_shape_model_says_so(patients_dir, tmp_path, capsys):
    assert measure(patients_dir, tmp_path / "shapes.npz", "shape_model=null") == 2
    assert "shape_model: expected what label maps are drawn by" in capsys.readouterr().err


def test_a_training_whose_sites_draw_their_label_maps_has_none_of_theirs(patients_dir, tiny_sizes, tmp_path):
    def train(run_dir, *words):
        sizes = [f"{key}={json.dumps(value)}" for key, value in (tiny_sizes | {"min_tumor_pixels": 4}).items()]
        options = ["--task", "brats", "--dataset_dir", str(patients_dir), "--run_dir", str(tmp_path / run_dir)]
        assert main(["train", *options, "--set", *sizes, *words]) == 0
        found = read_conditions(tmp_path / run_dir / "seed_0" / "asyndgan" / "gan" / "conditions.npz")
        return {site: {one.tobytes() for one in own} for site, own in found.items()}

    real = train("real")
    drawn = train("drawn", "release_policy={policy: guarded, conditions: drawn}")
    assert {site: len(own) for site, own in drawn.items()} == {site: len(own) for site, own in real.items()}
    assert not any(drawn[site] & real[site] for site in real)
    page = summarize(next((tmp_path / "drawn").rglob("A.jsonl")))
    assert "drawn" in page
