import json

import pytest
import torch

from bundle.data import DataError, load_datalist
from bundle.data.datalist import write_datalist
from bundle.data.tiles import read_pixels
from bundle.prepare.tuning import write_tuning_list
from bundle.transforms import scale_stains
from scripts.make_tuning_split import main


@pytest.fixture
def whole(tmp_path, phantom_dir):
    """The phantoms' training cases at two sites, some of one patient, and test cases."""
    datalist = load_datalist(phantom_dir)
    cases = [*datalist.training, *datalist.test]
    sites = [("A", "p1"), ("A", "p1"), ("A", "p2"), ("B", "q1"), ("B", "q2")]
    assert len(cases) >= len(sites) + 1
    training = [case | {"site": site, "patient": patient} for case, (site, patient) in zip(cases, sites, strict=False)]
    test = [case | {"site": "A", "patient": f"held out {case['case']}"} for case in cases[len(sites) :]]
    folder = tmp_path / "whole"
    folder.mkdir()
    kept = {key: getattr(datalist, key) for key in ("name", "task", "layout", "modality", "labels")}
    write_datalist(folder, **kept, training=training, test=test)
    return load_datalist(folder)


def cases(items):
    return {item["case"] for item in items}


def test_no_test_case_is_in_it_and_patients_stay_whole(whole, tmp_path):
    for seed in range(5):
        tuning = load_datalist(write_tuning_list(whole, tmp_path / str(seed), patients=1, seed=seed))
        assert cases(tuning.training) | cases(tuning.test) == cases(whole.training)
        held_out = {(item["site"], item["patient"]) for item in tuning.test}
        assert sorted(site for site, _ in held_out) == ["A", "B"]
        assert not held_out & {(item["site"], item["patient"]) for item in tuning.training}
        files = {item["case"]: (item["image"], item["label"]) for item in whole.training}
        assert all(files[item["case"]] == (item["image"], item["label"]) for item in tuning.training + tuning.test)


def test_the_draw_depends_on_the_seed_and_the_site_alone(whole, tmp_path):
    def drawn(name, seed, sites="AB"):
        training = [item for item in whole.training if item["site"] in sites]
        kept = {key: getattr(whole, key) for key in ("name", "task", "layout", "modality", "labels", "label_type")}
        part = type(whole)(**kept, training=training, test=[])
        test = load_datalist(write_tuning_list(part, tmp_path / name, patients=1, seed=seed)).test
        return {item["patient"] for item in test if item["site"] == "A"}

    draws = [drawn(f"seed {seed}", seed) for seed in range(8)]
    assert len(set(map(frozenset, draws))) > 1
    assert drawn("again", 0) == draws[0] == drawn("alone", 0, sites="A")


def test_a_site_keeps_a_training_patient(whole, tmp_path):
    with pytest.raises(DataError, match="site B has 2 training patients, expected more than 2"):
        write_tuning_list(whole, tmp_path / "none", patients=2)
    with pytest.raises(ValueError, match="patients: expected at least 1"):
        write_tuning_list(whole, tmp_path / "none", patients=0)
    assert not (tmp_path / "none").exists()


def test_a_site_left_out_is_held_out_as_a_whole(whole, tmp_path):
    tuning = load_datalist(write_tuning_list(whole, tmp_path / "out", patients=0, left_out=["A"]))
    assert tuning.sites == ("B",)
    assert {item["site"] for item in tuning.training} == {"B"}
    assert cases(tuning.test) == cases(whole.site_items("A"))
    assert {item.get("site") for item in tuning.test} == {None}
    both = load_datalist(write_tuning_list(whole, tmp_path / "both", patients=1, left_out=["A"]))
    assert cases(both.test) > cases(whole.site_items("A"))
    for wrong in (["C"], ["A", "B"]):
        with pytest.raises(DataError, match=r"expected some, not all, of the sites A, B to leave out"):
            write_tuning_list(whole, tmp_path / "none", patients=0, left_out=wrong)


def test_tiles_held_out_can_be_stained_anew(nuclei_dir, tmp_path):
    nuclei = load_datalist(nuclei_dir)
    site = nuclei.sites[0]
    plain = load_datalist(write_tuning_list(nuclei, tmp_path / "plain", patients=0, left_out=[site]))
    path = write_tuning_list(nuclei, tmp_path / "dark", patients=0, left_out=[site], stain_strengths=(2.0, 1.3))
    dark = load_datalist(path)
    rule = json.loads(path.read_text(encoding="utf-8"))["site_rule"]["tuning"]
    assert rule["stain_strengths"] == [2.0, 1.3]
    assert dark.training == plain.training
    assert cases(dark.test) == cases(plain.test)
    for before, after in zip(plain.test, dark.test, strict=True):
        assert before["label"] == after["label"]
        tile = torch.from_numpy(read_pixels(before["image"]).transpose(2, 0, 1))
        stained = torch.from_numpy(read_pixels(after["image"]).transpose(2, 0, 1))
        assert stained.float().mean() < tile.float().mean() - 5
        assert (stained - scale_stains(tile, (2.0, 1.3))).abs().max() <= 0.5


def test_only_tiles_can_be_stained(whole, tmp_path):
    with pytest.raises(DataError, match=r"case \S+: expected an RGB tile in one file"):
        write_tuning_list(whole, tmp_path / "none", patients=1, stain_strengths=(2.0, 1.0))
    with pytest.raises(ValueError, match="stain_strengths: expected two factors above 0"):
        write_tuning_list(whole, tmp_path / "none", patients=1, stain_strengths=(2.0, 0.0))
    assert not (tmp_path / "none" / "datalist.json").exists()


def test_the_command(whole, tmp_path, capsys):
    assert main([str(tmp_path / "whole"), "--output", str(tmp_path / "tuning"), "--patients", "1"]) == 0
    assert "B: 1 cases to train on, 1 held out" in capsys.readouterr().out
    written = json.loads((tmp_path / "tuning" / "datalist.json").read_text(encoding="utf-8"))
    assert written["site_rule"] == {"tuning": {"patients": 1, "seed": 0, "left_out": []}}
    assert main([str(tmp_path / "nowhere"), "--output", str(tmp_path / "other")]) == 2
    assert "no such data list" in capsys.readouterr().err
