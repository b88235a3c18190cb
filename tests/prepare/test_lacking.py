"""Data lists of hospitals that lack modalities, from `asyndgan prepare`."""

import json
import shutil
from pathlib import Path

import pytest

from bundle.cli.main import main
from bundle.data import load_datalist
from bundle.data.errors import DataError
from bundle.prepare.case_conversion import ConvertOptions
from bundle.prepare.cases import CaseFiles
from bundle.prepare.lacking import discover_lacking, site_known
from bundle.prepare.layouts import get_layout
from bundle.prepare.preparation import PrepareOptions, prepare
from bundle.prepare.tables import Row


def options(phantom_dir, output, **about):
    about = {"sites": "table", "table": phantom_dir / "cases.csv", "modalities": ("flair", "t1ce"), **about}
    return PrepareOptions("brats", phantom_dir, output, **about)


def test_training_cases_of_a_site_are_listed_without_and_its_held_out_ones_whole(phantom_dir, tmp_path):
    path = prepare(options(phantom_dir, tmp_path, lacks={"B": ["t1ce"]})).path
    datalist = load_datalist(path)
    assert datalist.modalities == {"B": ("flair",)}
    assert {(item["site"], len(item["image"])) for item in datalist.training} == {("A", 2), ("B", 1)}
    assert {len(item["image"]) for item in datalist.test} == {2}


def test_a_hospital_names_what_others_have_and_it_does_not(phantom_dir, tmp_path):
    words = ["prepare", "brats", str(phantom_dir), "--output", str(tmp_path), "--site", "B", "--split", "random"]
    assert main([*words, "--modalities", "flair", "--lacks", "t1ce,t2"]) == 0
    content = json.loads((tmp_path / "datalist.json").read_text(encoding="utf-8"))
    assert content["modality"] == {"0": "flair", "1": "t1ce", "2": "t2"}
    assert content["modalities"] == {"B": ["flair"]}
    assert {len(item["image"]) for item in content["training"] + content["test"]} == {1}


@pytest.mark.parametrize(
    ("about", "text"),
    [
        ({"lacks": {"C": ["t1ce"]}}, "there is no site C, expected some of A, B"),
        ({"lacks": {"B": ["pd"]}}, "site B: there is no pd, expected some of flair, t1ce"),
        ({"lacks": {"B": ["flair", "t1ce"]}}, "site B: nothing is left of flair, t1ce"),
        (
            {"lacks": {"all": ["t1ce"]}, "sites": "single"},
            "t1ce are among its modalities, expected such as others have",
        ),
    ],
)
def test_what_cannot_be_lacking(phantom_dir, tmp_path, about, text):
    with pytest.raises(DataError, match=text):
        prepare(options(phantom_dir, tmp_path, **about))
    assert not (tmp_path / "datalist.json").exists()


@pytest.mark.parametrize("words", ["B=", "=t1ce", "B=t1ce,"])
def test_words_that_name_nothing(phantom_dir, tmp_path, capsys, words):
    with pytest.raises(SystemExit):
        main(["prepare", "brats", str(phantom_dir), "--output", str(tmp_path), "--sites", "table", "--lacks", words])
    assert "expected SITE=NAME,NAME or, with --site, NAME,NAME" in capsys.readouterr().err


def remove(source, case, modality):
    """What was never acquired."""
    (path,) = source.rglob(f"{case}_{modality}.nii.gz")
    path.unlink()


@pytest.fixture
def unlike_dir(phantom_dir, tmp_path):
    """The phantoms, where the training cases of B have no T1ce."""
    source = tmp_path / "unlike"
    shutil.copytree(phantom_dir, source, ignore=shutil.ignore_patterns("datalist.json"))
    for item in load_datalist(phantom_dir).site_items("B"):
        remove(source, item["case"], "t1ce")
    return source


@pytest.mark.parametrize("conversion", [ConvertOptions(), ConvertOptions(resample=2.0)])
def test_training_cases_of_a_site_need_no_files_of_what_it_lacks(unlike_dir, tmp_path, conversion):
    given = options(unlike_dir, tmp_path / "list", lacks={"B": ["t1ce"]}, convert=conversion)
    datalist = load_datalist(prepare(given).path)
    assert {(item["site"], len(item["image"])) for item in datalist.training} == {("A", 2), ("B", 1)}
    assert all("flair" in item["image"][0] for item in datalist.training)
    assert {len(item["image"]) for item in datalist.test} == {2}


def test_a_file_that_another_site_lacks_is_missing_all_the_same(unlike_dir, tmp_path):
    case = min(unlike_dir.rglob("*_A_???")).name
    remove(unlike_dir, case, "t1ce")
    with pytest.raises(DataError, match=rf"1 problem(?s:.)*{case}.*missing {case}_t1ce"):
        prepare(options(unlike_dir, tmp_path / "list", lacks={"B": ["t1ce"]}))


def test_a_case_lacks_no_more_than_its_site(unlike_dir, tmp_path):
    case = min(unlike_dir.rglob("*_B_???")).name
    remove(unlike_dir, case, "flair")
    with pytest.raises(DataError, match=rf"1 problem(?s:.)*{case}.*missing {case}_flair"):
        prepare(options(unlike_dir, tmp_path / "list", lacks={"B": ["t1ce"]}))


def test_a_table_that_names_no_site_leaves_it_to_the_names_of_cases():
    case = CaseFiles("TCGA_DU_0001", {}, Path(), "TCGA_DU_0001", institution="DU")
    none, other = {case.case: Row(None, "training", None)}, {case.patient: Row("X", "training", None)}
    assert [site_known(rows, by_name=True)(case) for rows in ({}, none, other)] == ["DU", "DU", "X"]
    assert [site_known(rows, by_name=False)(case) for rows in ({}, none, other)] == [None, None, "X"]


def test_a_problem_of_one_case_accuses_no_other_whose_name_is_in_it(tmp_path):
    """Case A1 lacks what its site lacks, A1.b what it should have, and the folder is called like the first."""
    source = tmp_path / "A1"
    for case, names in {"A1": ("flair", "seg"), "A1.b": ("t1", "seg"), "C": ("flair", "t1", "seg")}.items():
        (source / case).mkdir(parents=True)
        for name in names:
            (source / case / f"{case}_{name}.nii.gz").touch()
    cases, problems = discover_lacking(
        get_layout("brats"), source, ("flair", "t1"), {"L": ["t1"]}, lambda case: "L" if case.case == "A1" else None
    )
    assert [(case.case, tuple(case.images)) for case in cases] == [("A1", ("flair",)), ("C", ("flair", "t1"))]
    (problem,) = problems
    assert problem.case == "A1.b"


def test_no_other_image_passes_for_the_label_of_a_case_called_segovia(tmp_path):
    case = tmp_path / "Segovia_1"
    case.mkdir()
    for name in ("flair", "t1"):
        (case / f"Segovia_1_{name}.nii.gz").touch()
    cases, (problem,) = discover_lacking(
        get_layout("brats"), tmp_path, ("flair", "t1"), {"L": ["t1"]}, lambda case: "L"
    )
    assert not cases
    assert "missing Segovia_1_seg.nii.gz" in problem


def test_one_scan_of_two_patients_is_found_by_a_modality_that_both_have(unlike_dir, tmp_path):
    first, second = min(unlike_dir.rglob("*_A_???")), min(unlike_dir.rglob("*_B_???"))
    for name in ("t1", "t2", "seg"):
        shutil.copy(first / f"{first.name}_{name}.nii.gz", second / f"{second.name}_{name}.nii.gz")
    for name in ("flair", "t1ce"):
        (second / f"{second.name}_{name}.nii.gz").unlink(missing_ok=True)
    given = {"modalities": ("flair", "t1", "t1ce", "t2"), "lacks": {"B": ["flair", "t1ce"]}}
    warnings = prepare(options(unlike_dir, tmp_path / "list", **given)).warnings
    (found,) = [warning for warning in warnings if "one scan" in warning]
    assert first.name in found
    assert second.name in found


def test_a_site_named_twice_lacks_both(phantom_dir, tmp_path):
    words = ["prepare", "brats", str(phantom_dir), "--output", str(tmp_path), "--sites", "table"]
    words += ["--table", str(phantom_dir / "cases.csv"), "--lacks", "B=t1ce,t1ce", "B=t2"]
    assert main(words) == 0
    assert load_datalist(tmp_path).modalities == {"B": ("flair", "t1")}


def test_a_name_that_there_is_not_is_refused_before_a_case_is_looked_for(tmp_path):
    with pytest.raises(DataError, match="there is no pd, expected some of flair, t1ce"):
        prepare(options(tmp_path, tmp_path / "list", table=None, sites="institution", lacks={"B": ["pd"]}))
