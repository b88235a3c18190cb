"""The command line from phantoms to a data list, and what it says about bad data."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from bundle.data.datalist import load_datalist
from bundle.data.tiles import read_pixels
from bundle.phantoms.brains import write_brats_phantoms
from bundle.phantoms.nuclei import write_nuclei_phantoms
from bundle.prepare.layouts.multi_organ import PUBLISHED
from bundle.prepare.tile_conversion import convert_tile
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
            rng = np.random.default_rng(index)
            array = rng.integers(0, 200, shape).astype(np.uint8) if len(shape) == 4 else np.full(shape, 1, np.uint8)
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
    assert make_phantoms.main(["brains", str(tmp_path), *options.split()]) == 0
    assert make_phantoms.main(["brains", str(tmp_path), *options.split(), "--size", "1", "1", "1"]) == 2
    prepare = [sys.executable, "scripts/prepare_data.py", "brats", tmp_path, "--output", tmp_path, "--sites", "table"]
    done = subprocess.run(list(map(str, prepare)), cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert (done.returncode, "site rule table needs a table" in done.stderr) == (2, True)


@pytest.fixture
def tiles(tmp_path):
    """Phantom tiles of two organs, with a test tile of a third."""
    write_nuclei_phantoms(tmp_path / "source", ("breast", "liver"), 2, 1, size=96, other_cases=1)
    return tmp_path / "source"


def run_tiles(source, output, *arguments):
    return run(source, output, *arguments, layout="multi_organ")


def tiles_fail(capsys, source, output, *arguments):
    return fails(capsys, source, output, *arguments, layout="multi_organ")


def publish(source):
    """Give phantom tiles the names of published cases, each its own image; they lie in two folders."""
    images, annotations = sorted(source.glob("tissue_images/*")), sorted(source.glob("annotations/*"))
    target = source.with_name("published")
    for index, case in enumerate(sorted(PUBLISHED)):
        for files, folder in ((images, "Tissue Images"), (annotations, "Annotations")):
            path = files[index % len(files)]
            (target / folder).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target / folder / f"{case}{path.suffix}")
    return target


def test_published_tiles(tiles, tmp_path, capsys):
    source, output = publish(tiles), tmp_path / "out"
    assert run_tiles(source, output, "--sites", "organ", "--name", "four organs") == 0
    out = capsys.readouterr().out
    assert "site_rule: rule organ, seed 0, split published" in out
    assert "median nuclei" in out
    assert "liver             4     2 " in out
    assert "(no site)         0     6 " in out
    assert "skipped" in out
    data = load_datalist(output, deep=True)
    assert (data.task, data.layout, data.label_type) == ("multi_organ", "multi_organ", "instances")
    assert data.sites == ("breast", "kidney", "liver", "prostate")
    assert (len(data.training), len(data.test)) == (16, 14)
    assert Counter(item["site"] for item in data.test) == {"breast": 2, "kidney": 2, "liver": 2, "prostate": 2, None: 6}
    outside = {PUBLISHED[item["case"]][0] for item in data.test if item["site"] is None}
    assert outside == {"bladder", "colon", "stomach"}
    content = json.loads((output / "datalist.json").read_text(encoding="utf-8"))
    assert content["modality"] == {"0": "red", "1": "green", "2": "blue"}
    assert content["training"][0] == {
        "image": "tiles/TCGA-A7-A13E-01Z-00-DX1/image.png",
        "label": "tiles/TCGA-A7-A13E-01Z-00-DX1/instances.png",
        "case": "TCGA-A7-A13E-01Z-00-DX1",
        "patient": "TCGA-A7-A13E",
        "site": "breast",
    }
    # Another split where the user asks for it; a set with unpublished cases has none by default.
    assert run_tiles(source, output, "--sites", "organ", "--split", "random") == 0
    assert load_datalist(output).sites == tuple(sorted({organ for organ, _ in PUBLISHED.values()}))
    for folder, suffix in (("Tissue Images", ".tif"), ("Annotations", ".xml")):
        case = min(PUBLISHED)
        (source / folder / f"{case}{suffix}").rename(source / folder / f"own{suffix}")
    arguments = ("--sites", "single")
    assert "not known for 1 of 30 cases: own; expected a table" in tiles_fail(
        capsys, source, tmp_path / "x", *arguments
    )


def test_tiles_by_table_organ_and_size(tiles, tmp_path, capsys):
    output = tmp_path / "out"
    assert run_tiles(tiles, output, "--sites", "table", "--table", tiles / "cases.csv") == 0
    assert "(no site)         0     1 " in capsys.readouterr().out
    data = load_datalist(output)
    assert data.sites == ("breast", "liver")
    assert [item["site"] for item in data.test] == ["breast", "liver", None]
    # The organ is in the name of a phantom; the split is the table's.
    listed = (output / "datalist.json").read_text(encoding="utf-8")
    assert run_tiles(tiles, output, "--sites", "organ", "--table", tiles / "cases.csv") == 0
    again = (output / "datalist.json").read_text(encoding="utf-8")
    assert again.replace('"rule": "organ"', '"rule": "table"') == listed
    assert run_tiles(tiles, output, "--sites", "size", "--num_sites", 2, "--test_fraction", 0) == 0
    assert Counter(item["site"] for item in load_datalist(output).training) == {"size_01": 4, "size_02": 3}


def test_tiles_go_on_where_they_were(tiles, tmp_path, monkeypatch):
    output, converted = tmp_path / "out", []

    def interrupt(case, *arguments):
        if len(converted) == 3:
            raise KeyboardInterrupt
        converted.append(case.case)
        return convert_tile(case, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr("bundle.prepare.layouts.multi_organ.convert_tile", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_tiles(tiles, output, "--sites", "organ")
    assert not (output / "datalist.json").exists()
    before = {path: path.stat().st_mtime_ns for path in output.glob("tiles/*/*")}
    assert len(before) == 9
    assert run_tiles(tiles, output, "--sites", "organ") == 0
    assert before.items() <= {path: path.stat().st_mtime_ns for path in output.glob("tiles/*/*")}.items()
    assert len(list(output.glob("tiles/*/*"))) == 21


def test_bad_tiles_are_all_named(tiles, tmp_path, capsys):
    output = tmp_path / "out"
    names = [f"PhantomTile_{organ}_00{n}" for organ in ("breast", "liver") for n in (1, 2, 3)]
    images, annotations = ([tiles / folder / f"{name}{suffix}" for name in names]
                           for folder, suffix in (("tissue_images", ".tif"), ("annotations", ".xml")))  # fmt: skip
    images[0].write_bytes(images[0].read_bytes()[:-3000])
    annotations[1].write_text("<Annotations>", encoding="utf-8")
    annotations[2].write_text("<Annotations/>", encoding="utf-8")
    annotations[3].write_text('<!DOCTYPE a [<!ENTITY b "c">]><Annotations>&b;</Annotations>', encoding="utf-8")
    annotations[4].unlink()
    np.save(annotations[4].with_suffix(".npy"), np.ones((96, 95), int))
    grey = itk.image_from_array(np.zeros((96, 96), np.uint8))
    itk.imwrite(grey, str(images[5]))
    message = tiles_fail(capsys, tiles, output, "--sites", "organ")
    for text in (
        f"{images[0]}: unreadable or truncated",
        f"{annotations[1]}: corrupt XML",
        f"{annotations[2]}: holds no nucleus",
        f"{annotations[3]}: declares a document type",
        f"{annotations[4].with_suffix('.npy')}: has 95×96 pixels, image {images[4]} has 96×96 pixels",
        f"{images[5]}: has one channel",
        "6 problems",
    ):
        assert text in message
    annotations[0].unlink()
    assert f"expected {annotations[0]} (or .geojson" in tiles_fail(capsys, tiles, output, "--sites", "organ")


def test_the_annotation_of_another_tile(tmp_path, capsys):
    source, output = tmp_path / "source", tmp_path / "out"
    write_nuclei_phantoms(source, ("breast",), 2, 0, size=192, other_cases=0)
    first, second = sorted(source.glob("annotations/*"))
    first.write_bytes(second.read_bytes())
    message = tiles_fail(capsys, source, output, "--sites", "organ")
    assert f"{first}: its nuclei are not darker than their surroundings in {source}" in message
    assert run_tiles(source, output, "--sites", "organ", "--accept_mismatch") == 0
    assert "nuclei no darker than their surroundings, accepted: 1 cases" in capsys.readouterr().out


def test_conversions_of_images_are_reported(tiles, tmp_path, capsys):
    for path in sorted(tiles.glob("tissue_images/*"))[:2]:
        pixels = read_pixels(path).astype(np.uint16) * 257
        sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(path))
    assert run_tiles(tiles, tmp_path / "out", "--sites", "organ") == 0
    assert "16 to 8 bits: 2 cases" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n4"], "n4 is for volumes, layout multi_organ has tiles"),
        (["--resample", 1], "resample is for volumes"),
        (["--modalities", "red"], "modalities is for volumes"),
        (["--labels", "0=background", "1=cell"], "labels is for volumes"),
        (["--split", "published"], "the published split is not known for 7 of 7 cases"),
    ],
)
def test_options_that_tiles_lack(tiles, tmp_path, capsys, arguments, message):
    assert message in tiles_fail(capsys, tiles, tmp_path / "out", "--sites", "organ", *arguments)


def test_options_and_rules_that_volumes_lack(phantoms, tmp_path, capsys):
    output = tmp_path / "out"
    assert "accept_mismatch is for tiles" in fails(capsys, phantoms, output, "--sites", "single", "--accept_mismatch")
    assert "case Phantom_A_001: its organ is not known" in fails(capsys, phantoms, output, "--sites", "organ")
