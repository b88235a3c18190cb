"""The command line from phantoms to a data list, and what it says about bad data."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bundle.data.datalist import load_datalist
from bundle.data.phantoms import write_brats_phantoms
from scripts import make_phantoms
from scripts.prepare_data import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    write_brats_phantoms(folder, ("A", "B"), cases_per_site=3, test_cases_per_site=1, shape=(24, 24, 8))
    return folder


@pytest.fixture
def copy(phantoms, tmp_path):
    return Path(shutil.copytree(phantoms, tmp_path / "source"))


def run(source, output, *arguments, layout="brats"):
    return main([layout, str(source), "--output", str(output), *map(str, arguments)])


def fails(capsys, source, output, *arguments, layout="brats"):
    assert run(source, output, *arguments, layout=layout) == 2
    assert not (output / "datalist.json").exists()
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.err


def test_table_with_split(phantoms, tmp_path, capsys):
    assert run(phantoms, tmp_path, "--sites", "table", "--table", phantoms / "cases.csv") == 0
    out = capsys.readouterr().out
    assert "A            3     1" in out
    assert "table cases.csv, split table" in out
    data = load_datalist(tmp_path, ["t2", "flair"], deep=True)
    assert data.sites == ("A", "B")
    assert data.modality == ("flair", "t1", "t1ce", "t2")
    assert [len(data.site_items(site)) for site in data.sites] == [3, 3]
    assert [item["case"] for item in data.test] == ["Phantom_A_004", "Phantom_B_004"]
    content = json.loads((tmp_path / "datalist.json").read_text(encoding="utf-8"))
    assert content["site_rule"] == {"rule": "table", "seed": 0, "table": "cases.csv", "split": "table"}
    assert content["labels"].keys() == {"0", "1", "2", "4"}


def test_paths_are_relative_below_the_data_list(copy):
    assert run(copy, copy, "--sites", "institution") == 0
    content = json.loads((copy / "datalist.json").read_text(encoding="utf-8"))
    assert all(item["label"].startswith("HGG/Phantom_") for item in content["training"])
    assert run(copy, copy, "--sites", "institution") == 0


@pytest.mark.parametrize(
    ("arguments", "sites"),
    [
        (["size", "--num_sites", 3, "--test_fraction", 0], {"size_01": 3, "size_02": 3, "size_03": 2}),
        (["single", "--test_fraction", 0.25], {"all": 6}),
        (["institution", "--test_fraction", 0.25, "--seed", 5], {"A": 3, "B": 3}),
    ],
)
def test_rules(phantoms, tmp_path, capsys, arguments, sites):
    assert run(phantoms, tmp_path, "--modalities", "t2", "--sites", *arguments) == 0
    data = load_datalist(tmp_path)
    assert Counter(item["site"] for item in data.training) == sites
    assert data.modality == ("t2",)
    assert ("the test list is empty" in capsys.readouterr().out) == (not data.test)


def test_n4_resample_and_going_on(copy, tmp_path):
    output = tmp_path / "out"
    for folder in copy.glob("HGG/Phantom_?_00[134]"):
        shutil.rmtree(folder)
    options = ("--sites", "institution", "--modalities", "flair", "--n4", "--n4_shrink", 1, "--resample", 8)
    assert run(copy, output, *options) == 0
    item = load_datalist(output, deep=True).training[0]
    assert item["image"][0] == str(output / "volumes" / item["case"] / "flair.nii.gz")
    assert nib.load(item["label"]).header.get_zooms() == (8, 8, 8)
    times = {path: path.stat().st_mtime_ns for path in output.glob("volumes/*/*")}
    shutil.rmtree(output / "volumes" / "Phantom_B_002")
    assert run(copy, output, *options) == 0
    again = {path: path.stat().st_mtime_ns for path in output.glob("volumes/*/*")}
    assert times.keys() == again.keys()
    assert {path.parent.name for path in times if times[path] != again[path]} == {"Phantom_B_002"}


def test_msd_keeps_its_channels_unless_converted(tmp_path, capsys):
    source, output = tmp_path / "Task01", tmp_path / "out"
    items = []
    for index in range(3):
        for folder, shape in (("imagesTr", (8, 8, 8, 4)), ("labelsTr", (8, 8, 8))):
            (source / folder).mkdir(parents=True, exist_ok=True)
            array = np.full(shape, index + 1, np.uint8)
            nib.save(nib.Nifti1Image(array, np.eye(4)), source / folder / f"BRATS_{index}.nii.gz")
        items.append({"image": f"./imagesTr/BRATS_{index}.nii.gz", "label": f"./labelsTr/BRATS_{index}.nii.gz"})
    modality = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
    (source / "dataset.json").write_text(json.dumps({"modality": modality, "training": items}))
    options = ("--sites", "single", "--modalities", "t2", "flair")
    assert run(source, output, *options, layout="msd") == 0
    assert "one file holds flair, t1, t1ce, t2" in capsys.readouterr().out
    data = load_datalist(output, ["t2"])
    assert data.labels[1] == "oedema"
    assert data.training[0]["modality"] == ("flair", "t1", "t1ce", "t2")
    assert data.training[0]["image"].endswith(".nii.gz")
    assert run(source, output, *options, "--resample", 2, layout="msd") == 0
    item = load_datalist(output, ["t2"], deep=True).training[0]
    assert item["image"] == [str(output / "volumes" / item["case"] / "t2.nii.gz")]


def edit_label(source, case, change):
    path = source / "HGG" / case / f"{case}_seg.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(change(np.asarray(image.dataobj).copy()), image.affine), path)
    return path


def test_bad_files_are_all_named(copy, tmp_path, capsys):
    output = tmp_path / "out"
    wrong = edit_label(copy, "Phantom_A_001", lambda seg: np.where(seg == 4, 3, seg).astype(np.uint8))
    short = edit_label(copy, "Phantom_A_002", lambda seg: seg[..., :-1])
    cut = copy / "HGG/Phantom_B_001/Phantom_B_001_t2.nii.gz"
    cut.write_bytes(cut.read_bytes()[:-100])
    message = fails(capsys, copy, output, "--sites", "institution")
    assert f"label {wrong} holds the values 3, expected only 0, 1, 2, 4" in message
    assert f"label {short} has (24, 24, 7); expected the same" in message
    assert f"{cut}: unreadable or truncated" in message
    (copy / "HGG/Phantom_B_001/Phantom_B_001_t2.nii.gz").unlink()
    message = fails(capsys, copy, output, "--sites", "institution")
    assert f"case folder {cut.parent}: missing Phantom_B_001_t2.nii.gz" in message


def test_other_labels_and_incomplete_cases(copy, tmp_path, capsys):
    edit_label(copy, "Phantom_A_001", lambda seg: np.where(seg == 4, 3, seg).astype(np.uint8))
    (copy / "HGG/Phantom_B_001/Phantom_B_001_t1.nii.gz").unlink()
    labels = ("--labels", "0=background", "1=core", "2=oedema", "3=rim", "4=rim")
    assert run(copy, tmp_path, "--sites", "institution", "--skip_incomplete", *labels) == 0
    assert "1 incomplete cases left out; the first: case folder" in capsys.readouterr().out
    assert load_datalist(tmp_path).labels[3] == "rim"


def test_tables(phantoms, tmp_path, capsys):
    table, output = tmp_path / "t.csv", tmp_path / "out"
    lines = (phantoms / "cases.csv").read_text(encoding="utf-8").splitlines()
    arguments = ("--sites", "table", "--table", table)
    table.write_text("\n".join(lines[:-1]))
    assert "case Phantom_B_004 has no record" in fails(capsys, phantoms, output, *arguments)
    table.write_text("\n".join(lines).replace("Phantom_B_004,B,", "Phantom_B_004,C,"))
    assert "site C has test cases only" in fails(capsys, phantoms, output, *arguments)
    table.write_text("\n".join(lines).replace("Phantom_B_003,B,", "Phantom_B_003,,"))
    assert "case Phantom_B_003: field site is ''" in fails(capsys, phantoms, output, *arguments)
    patients = [f"{line},{'patient' if n == 0 else 'p1'}" for n, line in enumerate(lines)]
    table.write_text("\n".join(patients))
    assert "patient p1 is in training and in test" in fails(capsys, phantoms, output, *arguments)
    table.write_text("\n".join([*lines, "Phantom_C_001,C,train"]))
    assert run(phantoms, output, *arguments) == 0
    assert "1 cases of the table are not on disk: Phantom_C_001" in capsys.readouterr().out
    assert run(phantoms, output, *arguments, "--split", "random", "--test_fraction", 0.5) == 0
    assert len(load_datalist(output).test) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sites", "size"], "site rule size needs num_sites"),
        (["--sites", "size", "--num_sites", 9], "num_sites is 9, expected 1 to 8"),
        (["--sites", "table"], "site rule table needs a table"),
        (["--sites", "single", "--test_fraction", 1], "test_fraction is 1.0"),
        (["--sites", "single", "--resample", 0], "resample is 0.0"),
        (["--sites", "single", "--modalities", "pet"], "missing Phantom_A_001_pet.nii.gz"),
    ],
)
def test_bad_options(phantoms, tmp_path, capsys, arguments, message):
    assert message in fails(capsys, phantoms, tmp_path / "out", *arguments)


def test_wrong_folder(tmp_path, capsys):
    assert "no such folder" in fails(capsys, tmp_path / "none", tmp_path / "out", "--sites", "single")
    (tmp_path / "empty").mkdir()
    assert "no cases, expected layout brats" in fails(capsys, tmp_path / "empty", tmp_path / "out", "--sites", "single")


def test_as_a_program(tmp_path):
    options = "--sites A --cases_per_site 1 --test_cases_per_site 1 --size 16 16 8"
    assert make_phantoms.main([str(tmp_path), *options.split()]) == 0
    assert make_phantoms.main([str(tmp_path), *options.split(), "--size", "1", "1", "1"]) == 2
    prepare = [sys.executable, "scripts/prepare_data.py", "brats", tmp_path, "--output", tmp_path, "--sites", "table"]
    done = subprocess.run(list(map(str, prepare)), cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert (done.returncode, "site rule table needs a table" in done.stderr) == (2, True)
