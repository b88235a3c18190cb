"""Data lists of hospitals that lack modalities, from `asyndgan prepare`."""

import json
import shutil

import pytest

from bundle.cli.main import main
from bundle.data import load_datalist
from bundle.data.errors import DataError
from bundle.prepare.case_conversion import ConvertOptions
from bundle.prepare.preparation import PrepareOptions, prepare


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
