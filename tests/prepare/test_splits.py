"""Site rules, tables, and the train/test split."""

import json
from collections import Counter
from pathlib import Path

import pytest

from bundle.data.errors import DataError
from bundle.prepare.cases import CaseFiles
from bundle.prepare.layouts.naming import parse_name
from bundle.prepare.splits import assign_sites, check_split, split_patients
from bundle.prepare.tables import match_table, read_table


def make(name, grade=None, patient=None, organ=None):
    found, institution = parse_name(name)
    return CaseFiles(name, {}, Path(name), patient or found, institution, grade, organ)


@pytest.fixture
def cases():
    return [make(f"c{number:02d}", patient=f"p{number // 2:02d}") for number in range(40)]


@pytest.fixture
def volumes(cases):
    return {case.case: float((7 * index) % 41) for index, case in enumerate(cases)}


def sites_of_patients(cases, assigned):
    places = {}
    for case in cases:
        places.setdefault(case.patient, set()).add(assigned[case.case])
    return places


@pytest.mark.parametrize(
    ("name", "patient", "institution"),
    [
        ("Brats18_CBICA_AAB_1", "Brats18_CBICA_AAB", "CBICA"),
        ("Brats18_TCIA01_131_1", "Brats18_TCIA01_131", "TCIA01"),
        ("Brats18_2013_2_1", "Brats18_2013_2", "2013"),
        ("BraTS20_Training_001", "BraTS20_Training_001", None),
        ("BraTS2021_00000", "BraTS2021_00000", None),
        ("BraTS19_CBICA_AAB_1", "BraTS19_CBICA_AAB", "CBICA"),
        ("BraTS-GLI-00005-100", "BraTS-GLI-00005", None),
        ("BraTS-MET-00002-000", "BraTS-MET-00002", None),
        ("TCGA-DU-7294", "TCGA-DU-7294", "DU"),
        ("TCGA_CS_4941_19960909", "TCGA_CS_4941", "CS"),
        ("Phantom_A_001", "Phantom_A_001", "A"),
        ("BRATS_001", "BRATS_001", None),
    ],
)
def test_names(name, patient, institution):
    assert parse_name(name) == (patient, institution)


def test_institution_from_names_and_table():
    cases = [make("TCGA_CS_4941"), make("own_1")]
    assert assign_sites(cases, "institution", sites={"own_1": "X"}) == {"TCGA_CS_4941": "CS", "own_1": "X"}
    with pytest.raises(DataError, match="case own_1: its name tells no institution"):
        assign_sites(cases, "institution")


def test_size_cuts_sorted_patients(cases, volumes):
    assigned = assign_sites(cases, "size", volumes=volumes, num_sites=3)
    assert sorted(Counter(assigned.values()).items()) == [("size_01", 14), ("size_02", 14), ("size_03", 12)]
    assert all(len(places) == 1 for places in sites_of_patients(cases, assigned).values())
    mean = {c.patient: (volumes[c.case] + volumes[d.case]) / 2 for c, d in zip(cases[::2], cases[1::2], strict=True)}
    bounds = {}
    for case in cases:
        bounds.setdefault(assigned[case.case], []).append(mean[case.patient])
    assert max(bounds["size_01"]) <= min(bounds["size_02"]) <= max(bounds["size_02"]) <= min(bounds["size_03"])


def test_size_cuts_training_patients_only():
    cases = [make(f"c{n}") for n in range(6)]
    volumes = {f"c{n}": float(n) for n in range(6)}
    split = {"c0": "test", "c1": "training", "c2": "training", "c3": "test", "c4": "training", "c5": "test"}
    assigned = assign_sites(cases, "size", volumes=volumes, split=split, num_sites=3)
    assert [assigned[f"c{n}"][-1] for n in range(6)] == list("112333")
    with pytest.raises(DataError, match="num_sites is 4, expected 1 to 3"):
        assign_sites(cases, "size", volumes=volumes, split=split, num_sites=4)


@pytest.mark.parametrize("alpha", [0.01, 1.0, 100.0])
def test_dirichlet_fills_every_site(cases, volumes, alpha):
    options = {"volumes": volumes, "num_sites": 8, "alpha": alpha}
    assigned = assign_sites(cases, "dirichlet", seed=3, **options)
    assert set(assigned.values()) == {f"site_{n:02d}" for n in range(1, 9)}
    assert all(len(places) == 1 for places in sites_of_patients(cases, assigned).values())
    assert assigned == assign_sites(cases[::-1], "dirichlet", seed=3, **options)
    assert assigned != assign_sites(cases, "dirichlet", seed=4, **options)


def test_dirichlet_skews_grades():
    cases = [make(f"c{n:03d}", grade="HGG" if n % 2 else "LGG") for n in range(200)]
    volumes = {case.case: 1.0 for case in cases}

    def shares(alpha):
        assigned = assign_sites(cases, "dirichlet", volumes=volumes, num_sites=4, alpha=alpha)
        held = [[case.grade for case in cases if assigned[case.case] == f"site_{n:02d}"] for n in range(1, 5)]
        return [grades.count("HGG") / len(grades) for grades in held]

    assert all(abs(share - 0.5) < 0.1 for share in shares(1000.0))
    assert max(abs(share - 0.5) for share in shares(0.1)) > 0.3
    with pytest.raises(DataError, match="alpha is 0"):
        shares(0)


def test_rules_by_table_single_and_unknown(cases):
    assert set(assign_sites(cases, "single").values()) == {"all"}
    with pytest.raises(DataError, match="expected one of institution, size, table, dirichlet, single, organ"):
        assign_sites(cases, "by_moon")
    sites = {case.case: "A" for case in cases}
    with pytest.raises(DataError, match="patient p00 is in A, B"):
        assign_sites(cases, "table", sites=sites | {"c01": "B"})
    split = {case.case: "training" for case in cases} | {"c00": "test", "c01": "test"}
    with pytest.raises(DataError, match="site B has test cases only"):
        assign_sites(cases, "table", sites=sites | {"c00": "B", "c01": "B"}, split=split)
    del sites["c07"]
    with pytest.raises(DataError, match="case c07 has no site"):
        assign_sites(cases, "table", sites=sites)


def test_split_is_stratified_by_patient(cases):
    assigned = {case.case: "A" if index < 20 else "B" for index, case in enumerate(cases)}
    split = split_patients(cases, assigned, 0.2, seed=1)
    check_split(cases, split)
    assert Counter((assigned[case], part) for case, part in split.items() if part == "test") == {
        ("A", "test"): 4,
        ("B", "test"): 4,
    }
    assert split == split_patients(cases[::-1], assigned, 0.2, seed=1)
    assert "test" not in split_patients(cases, assigned, 0.0).values()
    # A site draws the same test cases whoever else takes part.
    alone = split_patients(cases[:20], {case.case: "A" for case in cases[:20]}, 0.2, seed=1)
    assert alone == {case.case: split[case.case] for case in cases[:20]}
    with pytest.raises(DataError, match="test_fraction is 1"):
        split_patients(cases, assigned, 1.0)
    with pytest.raises(DataError, match="patient p00 is in training and in test"):
        check_split(cases, split | {"c00": "test", "c01": "training"})


def test_small_sites_keep_a_training_patient():
    cases = [make("a"), make("b"), make("c")]
    split = split_patients(cases, {"a": "A", "b": "B", "c": "B"}, 0.9)
    assert split["a"] == "training"
    assert sorted([split["b"], split["c"]]) == ["test", "training"]


def test_table_csv_and_json(tmp_path):
    path = tmp_path / "cases.csv"
    path.write_text("\ufeffcase, site, split, patient, age\nc1, A, train, p1, 3\nc2,B,test,p2,\n", encoding="utf-8")
    rows = read_table(path)
    assert (rows["c1"].site, rows["c1"].split, rows["c1"].patient) == ("A", "training", "p1")
    json_path = tmp_path / "cases.json"
    json_path.write_text('[{"case": "TCGA_CS_4941", "institution": "CS", "slices": 3}]')
    rows = read_table(json_path)
    assert rows["TCGA_CS_4941"].site == "CS"
    assert rows["TCGA_CS_4941"].split is None
    # The published slices carry the date in the case's name; the row of the patient is meant.
    matched, absent = match_table(rows | read_table(path), [make("TCGA_CS_4941_19960909"), make("c1")], path)
    assert matched["TCGA_CS_4941_19960909"].site == "CS"
    assert absent == ["c2"]
    with pytest.raises(DataError, match="case c9 has no record"):
        match_table(rows, [make("c9")], path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,site\nc1,A\n", "expected the columns case and site"),
        ("case,site\nc1,A\nc1,B\n", "record 2, case c1: listed before"),
        ("case,site,split\nc1,A,train\nc2,,train\n", "record 2, case c2: field site is ''"),
        ("case,site\nc1,A\nc2,\n", "record 2, case c2: field site is ''"),
        ("case,site\nc1,A/B\n", "field site is 'A/B'"),
        ("case,site,split\nc1,A,tset\n", "field split is 'tset', expected one of train, training, test"),
        ("case,site,patient\nc1,A,p\nc2,A,\n", "case c2: field patient is ''"),
        ("case,site\n,A\n", "record 1: field case"),
        ("case,site\n", "no records"),
    ],
)
def test_bad_tables(tmp_path, text, message):
    path = tmp_path / "cases.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_table(path)
    assert str(path) in str(caught.value)


def test_unreadable_tables(tmp_path):
    path = tmp_path / "cases.json"
    with pytest.raises(DataError, match="unreadable"):
        read_table(path)
    path.write_text("[{")
    with pytest.raises(DataError, match="corrupt JSON"):
        read_table(path)
    path.write_text("{}")
    with pytest.raises(DataError, match="JSON list"):
        read_table(path)


def test_organs_without_a_training_case_are_no_site():
    cases = [make(f"c{n}", organ=organ) for n, organ in enumerate(("liver", "liver", "kidney", "colon", "colon"))]
    split = {"c0": "training", "c1": "test", "c2": "training", "c3": "test", "c4": "test"}
    assigned = assign_sites(cases, "organ", split=split)
    assert assigned == {"c0": "liver", "c1": "liver", "c2": "kidney", "c3": None, "c4": None}
    # Without a split every organ trains, and keeps a training patient when test patients are drawn.
    assigned = assign_sites(cases, "organ")
    assert assigned["c3"] == "colon"
    assert set(split_patients(cases, assigned, 0.5).items()) >= {("c2", "training")}
    with pytest.raises(DataError, match="case c5: its organ is not known"):
        assign_sites([*cases, make("c5")], "organ")
    assert assign_sites([*cases, make("c5")], "organ", sites={"c5": "skin"})["c5"] == "skin"


def test_cases_of_no_site_test(tmp_path):
    cases = [make("c1"), make("c2"), make("c3")]
    path = tmp_path / "cases.csv"
    path.write_text("case,site,split\nc1,A,train\nc2,A,test\nc3,,test\n")
    rows = read_table(path)
    assert rows["c3"].site is None
    json_path = tmp_path / "cases.json"
    records = [{"case": "c1", "site": "A", "split": "train"}, {"case": "c3", "site": None, "split": "test"}]
    json_path.write_text(json.dumps(records))
    assert read_table(json_path)["c3"] == rows["c3"]
    sites, split = {"c1": "A", "c2": "A"}, {case: row.split for case, row in rows.items()}
    assigned = assign_sites(cases, "table", sites=sites, split=split)
    assert assigned == {"c1": "A", "c2": "A", "c3": None}
    assert split_patients(cases, assigned, 0.0) == {"c1": "training", "c2": "training", "c3": "test"}
    with pytest.raises(DataError, match="case c3 has no site"):
        assign_sites(cases, "table", sites=sites)
    cases = [make("c2", patient="p"), make("c3", patient="p"), make("c1")]
    with pytest.raises(DataError, match="patient p is in A, no site"):
        assign_sites(cases, "table", sites=sites, split=split)
