"""The sheet of a synthetic data set: what it says, what it keeps to itself, and what is no sheet."""

import copy
import json
import platform
import shutil
from pathlib import Path

import pytest
import yaml

from bundle.composition import INPUT_DIGESTS
from bundle.data import load_datalist
from bundle.files import digest, write_json
from bundle.sheet import NOBODY, check_sheet, write_data_set_sheet, write_sheets
from bundle.sheet.fields import fields_of, fields_page, value_at
from bundle.sheet.made import without_places
from bundle.sheet.notes import PLACE
from bundle.sheet.releases import policy_fields
from bundle.site.release.policy import DEFAULT

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(drawn, tmp_path):
    return Path(shutil.copytree(drawn, tmp_path / "run"))


@pytest.fixture
def setting(run):
    return run / "seed_0" / "asyndgan"


def read(setting, name="data_sheet.json"):
    return json.loads((setting / "synthetic" / name).read_text(encoding="utf-8"))


def page(setting):
    return (setting / "synthetic" / "README.md").read_text(encoding="utf-8")


def with_data(setting, folder, patients):
    """Let the run have learned from so many patients a site; nothing but the list is there."""
    items = [
        {"image": "i", "label": "l", "case": f"secret-{site}-{n}", "patient": f"secret-{site}-{n}", "site": site}
        for site, number in patients.items()
        for n in range(number)
    ]
    write_json(folder / "datalist.json", {"name": "hospital data", "layout": "brats", "training": items, "test": []})
    config = yaml.safe_load((setting / "gan" / "config.yaml").read_text(encoding="utf-8"))
    config |= {"dataset_dir": str(folder), INPUT_DIGESTS: {"datalist.json": digest(folder / "datalist.json")}}
    (setting / "gan" / "config.yaml").write_text(yaml.safe_dump(config), "utf-8")
    assert write_data_set_sheet(setting)
    return read(setting)


def test_every_field_is_there_and_every_null_has_a_reason(setting):
    sheet = read(setting)
    assert check_sheet(sheet) == []
    for pointer in fields_of("data set"):
        value_at(sheet, pointer)
    assert sheet["made"]["weights_sha256"] == digest(setting / "gan" / "generator.pt")
    assert (sheet["made"]["steps"], sheet["made"]["seed"], sheet["made"]["losses"]) == (
        4,
        0,
        "vanilla adversarial + 10·L1 to a teacher",
    )
    assert (sheet["training_data"]["modality"], sheet["training_data"]["image_size"]) == (["flair"], [32, 32])
    items = load_datalist(setting / "synthetic").training
    assert sheet["contents"]["images"] == len(items) == sum(sheet["contents"]["by_site"].values())
    assert {site: of["policy"] for site, of in sheet["releases"].items()} == {"A": DEFAULT, "B": DEFAULT}


def test_nothing_names_a_patient_a_place_or_a_machine(setting, phantom_dir):
    real = load_datalist(phantom_dir, ["flair"])
    names = [item[key] for item in [*real.training, *real.test] for key in ("case", "patient")]
    for name in ("data_sheet.json", "README.md", "croissant.json"):
        text = (setting / "synthetic" / name).read_text(encoding="utf-8")
        for forbidden in (*names, str(phantom_dir), str(setting), platform.node(), "/tmp"):
            assert forbidden not in text, (name, forbidden)


def test_without_an_audit_the_page_says_so_in_bold(setting):
    assert NOBODY in page(setting)
    assert (NOBODY[:2], NOBODY[-2:]) == ("**", "**")
    assert read(setting)["attacks"] == {"membership": None, "readout": None, "label_maps": None}


def test_an_attack_counts_for_the_weights_it_was_made_on(setting):
    row = {
        "attack": "nearest",
        "auc": 0.53,
        "interval": None,
        "control": 0.59,
        "excess": -0.06,
        "excess_interval": None,
    }
    own = digest(setting / "gan" / "generator.pt")
    gain = {"gain": -0.1, "interval": [-0.2, 0.1]}
    losses = {"adversarial": {"refused": "", "own": gain, "best": gain}}
    losses["L1_10"] = {"refused": "its release policy returns no gradient of l1"}
    found = {
        "membership": {"weights_sha256": own, "found": [row]},
        "readout": {"weights_sha256": own, "found": {"A": {"policy": "guarded", "images": 4, "losses": losses}}},
        "label_maps": {"weights_sha256": "0" * 64, "found": {"real": {}}},
    }
    write_json(setting / "gan" / "audit.json", found)
    write_data_set_sheet(setting)
    sheet = read(setting)
    assert check_sheet(sheet) == []
    assert sheet["attacks"]["membership"] == [row]
    assert sheet["not_known"]["/attacks/membership/0/interval"].endswith("too few patients for an interval")
    assert sheet["attacks"]["label_maps"] is None
    assert "another generator" in sheet["not_known"]["/attacks/label_maps"]
    text = page(setting)
    assert NOBODY not in text
    assert "| nearest | 0.53 (–) | 0.59 | −0.06 (–) |" in text
    assert "| A | L1_10 | guarded | refused | refused |" in text
    assert "| A | adversarial | guarded | −0.1 (−0.2 to 0.1) | −0.1 (−0.2 to 0.1) |" in text


@pytest.mark.parametrize(
    ("patients", "told", "total"), [({"A": 8, "B": 6}, {"A": 8, "B": 6}, 14), ({"A": 8, "B": 4}, {"A": 8}, None)]
)
def test_numbers_of_few_patients_are_withheld_and_no_total_tells_them(setting, tmp_path, patients, told, total):
    sheet = with_data(setting, tmp_path, patients)
    assert check_sheet(sheet) == []
    data = sheet["training_data"]
    assert {site: of["patients"] for site, of in data["sites"].items() if of["patients"]} == told
    assert (data["patients"], data["cases"]) == (total, total)
    assert "secret" not in json.dumps(sheet) + page(setting)
    if total is None:
        assert "withheld" in sheet["not_known"]["/training_data/patients"]
        assert "withheld" in sheet["not_known"]["/training_data/sites/B/cases"]


def test_scores_are_told_with_what_real_images_have_and_without_a_case(setting, phantom_dir):
    cases = [item["case"] for item in load_datalist(phantom_dir, ["flair"]).test]
    dice = {"mean": 0.5, "per_case": dict(zip(cases, (0.4, 0.6), strict=True))}
    hd95 = {"mean": None, "per_case": dict.fromkeys(cases)}
    scored = {"setting": "asyndgan", "seed": 0, "units": {"hd95": "px"}, "metrics": {"dice": dice, "hd95": hd95}}
    write_json(setting / "evaluation" / "metrics.json", scored)
    write_json(setting.parent / "real_all" / "evaluation" / "metrics.json", {"metrics": {"dice": {"mean": 0.7}}})
    quality = {"fid": (12.0, {"A": 11.0}), "fid/real, other sites": (None, {"A": 1.5}), "images/real": (9, {"A": 9})}
    quality |= {"gan_test": (0.5, {}), "gan_test/training images": (0.6, {}), "fixed_pattern_rate": (0.01, {})}
    metrics = {name: {"mean": mean, "per_case": by_site} for name, (mean, by_site) in quality.items()}
    write_json(setting / "quality" / "metrics.json", {"metrics": metrics})
    write_data_set_sheet(setting)
    sheet = read(setting)
    assert check_sheet(sheet) == []
    of = sheet["downstream"]["dice"]
    assert (of["mean"], of["lowest"], of["highest"], of["cases"], of["patients"]) == (0.5, 0.4, 0.6, 2, 2)
    assert of["interval"][0] < 0.5 < of["interval"][1]
    assert of["references"] == {"real_all": 0.7}
    assert sheet["downstream"]["hd95"]["mean"] is None
    assert sheet["not_known"]["/downstream/hd95/mean"] == "no held-out case has it"
    assert sheet["quality"]["fid"]["references"]["Real images of the other sites"]["by_site"] == {"A": 1.5}
    assert sheet["quality"]["gan_test"]["references"]["Real training images"]["value"] == 0.6
    assert "images/real" not in sheet["quality"]  # it would tell how many slices a site has
    assert "| GAN-test (Dice) | 0.5 | real training images: 0.6 |" in page(setting)
    assert not any(case in json.dumps(sheet) + page(setting) for case in cases)


def test_a_segmenter_that_saw_real_images_is_no_score_of_synthetic_ones(setting):
    write_json(
        setting / "evaluation" / "metrics.json",
        {"setting": "asyndgan_then_real_subset/A", "metrics": {"dice": {"mean": 0.5, "per_case": {}}}},
    )
    write_data_set_sheet(setting)
    assert read(setting)["downstream"] is None
    assert "real images as well" in read(setting)["not_known"]["/downstream"]


def test_a_data_list_that_has_changed_is_not_that_of_the_training(setting, tmp_path):
    with_data(setting, tmp_path, {"A": 6, "B": 6})
    content = json.loads((tmp_path / "datalist.json").read_text(encoding="utf-8"))
    write_json(tmp_path / "datalist.json", content | {"training": content["training"][:6]})
    write_data_set_sheet(setting)
    sheet = read(setting)
    assert check_sheet(sheet) == []
    assert sheet["training_data"]["patients"] is None
    assert sheet["not_known"]["/training_data/patients"] == "the data list has changed since the training"
    assert sorted(sheet["training_data"]["sites"]) == ["A", "B"]


@pytest.mark.parametrize("name", ["gan/record.json", "gan/config.yaml", "quality/metrics.json", "gan/audit.json"])
def test_a_damaged_file_is_told_and_stops_nothing(setting, name):
    (setting / name).parent.mkdir(exist_ok=True)
    (setting / name).write_text("{", encoding="utf-8")
    write_data_set_sheet(setting)
    sheet = read(setting)
    assert check_sheet(sheet) == []
    if name != "gan/config.yaml":
        assert f"({Path(name).name}) is damaged" in " ".join(sheet["not_known"].values())


def test_marks_of_a_hostile_name_are_no_markdown_and_its_place_is_hidden(setting, tmp_path):
    with_data(setting, tmp_path, {"A": 6})
    content = json.loads((tmp_path / "datalist.json").read_text(encoding="utf-8"))
    config = yaml.safe_load((setting / "gan" / "config.yaml").read_text(encoding="utf-8"))
    (setting / "gan" / "config.yaml").write_text(yaml.safe_dump(config | {INPUT_DIGESTS: {}}), "utf-8")
    content["name"] = "<script>x</script> | **bold** [here](http://evil) in /data/patients/anna"
    write_json(tmp_path / "datalist.json", content)
    record = json.loads((setting / "gan" / "record.json").read_text(encoding="utf-8"))
    record["sites"]["A"]["policy"] = "private (epsilon 4, delta 1e-05)|# Safe"
    write_json(setting / "gan" / "record.json", record)
    write_data_set_sheet(setting)
    text, sheet = page(setting), read(setting)
    assert "<script>" not in text
    assert r"\| \*\*bold\*\* [here\](http://evil)" in text
    assert "anna" not in text + json.dumps(sheet)
    assert r"private (epsilon 4, delta 1e-05)\|# Safe" in text
    assert check_sheet(sheet) == []


def test_all_sheets_of_a_run_are_written_again(run, setting):
    shutil.copytree(setting / "synthetic", run / "seed_0" / "syn_subset" / "A" / "synthetic")
    written = write_sheets(run)
    assert [path.relative_to(run).as_posix() for path in written] == [
        "seed_0/asyndgan/synthetic/data_sheet.json",
        "seed_0/syn_subset/A/synthetic/data_sheet.json",
    ]
    assert all(check_sheet(json.loads(path.read_text(encoding="utf-8"))) == [] for path in written)
    shutil.rmtree(run / "seed_0" / "asyndgan" / "synthetic")
    assert write_data_set_sheet(run / "seed_0" / "asyndgan") is None


@pytest.mark.parametrize(
    ("pointer", "value", "expected"),
    [
        ("/format", 2, "/format is 2, expected 1"),
        ("/kind", "car", "/kind is 'car', expected 'generator' or 'data set'"),
        ("/made/seed", "0", "/made/seed is str, expected a number"),
        ("/made/seed", True, "/made/seed is bool, expected a number"),
        ("/made", [1], "/made/setting is missing"),
        ("/made/weights_sha256", "abc", "/made/weights_sha256 is 'abc', expected 64 hexadecimal digits"),
        ("/made/surgeon", "x", "/made/surgeon is unknown"),
        ("/patients", ["x"], "/patients is unknown"),
        ("/made/steps", None, "/made/steps is null, and /not_known does not say why"),
        ("/not_known/~1made~1seed", "why", "reason for '/made/seed', which is not null"),
        ("/not_known/~1attacks~1readout", " ", "/not_known has no words for /attacks/readout"),
        ("/releases/A/policy", "open", "/releases/A/policy is 'open', expected one of published, guarded"),
        ("/releases/A/in_words", "published", "/releases/A/in_words is 'published', expected the policy out_of_fold"),
        ("/releases/A", "guarded", "/releases/A is str, expected a table"),
        ("/description", "see /home/anna/x", "/description names a place on a disk"),
        ("/description", "see C:\\data", "/description names a place on a disk"),
    ],
)
def test_what_contradicts_the_format_is_said_in_words(drawn, pointer, value, expected):
    sheet = copy.deepcopy(read(drawn / "seed_0" / "asyndgan"))
    *parents, last = [part.replace("~1", "/") for part in pointer.split("/")[1:]]
    place = sheet
    for part in parents:
        place = place[part]
    place[last] = value
    assert any(expected in problem for problem in check_sheet(sheet)), check_sheet(sheet)


def test_what_is_no_sheet_at_all():
    assert check_sheet([]) == ["expected an object, got list"]
    deep: dict = {}
    for _ in range(5000):
        deep = {"a": deep}
    assert "deep" in check_sheet({"format": 1, "kind": "generator", "made": deep})[0]


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("asyndgan run --task t --dataset_dir data --seeds 0 1", "asyndgan run --task t --dataset_dir ... --seeds 0 1"),
        ("/home/anna/bin/asyndgan run --run_dir=/x/anna", "asyndgan run --run_dir=..."),
        ("asyndgan run --task anna/own.yaml --settings syn/A", "asyndgan run --task ... --settings syn/A"),
        ("asyndgan run --set lr=1 cache_dir=anna condition_bank=anna.npz", "asyndgan run --set lr=1 ... ..."),
        ("asyndgan run --config anna.yaml --set 'a=[1,2]'", "asyndgan run --config ... --set 'a=[1,2]'"),
        ("asyndgan run 'unclosed", "..."),
        ("", ""),
    ],
)
def test_a_command_keeps_no_place(command, shown):
    assert without_places(command) == shown


def test_places_are_told_from_addresses():
    for text in ("/data/x", "in /data", "path:/data", "~/x", "../x", "C:\\x", "file:x", "'/x'"):
        assert PLACE.search(text), text
    for text in ("https://doi.org/10.7937/K9", "and/or", "real_subset/A", "16 / 2", "-1 and 1", "label/0"):
        assert not PLACE.search(text), text


def test_a_policy_in_words_has_its_budget():
    words = "private (epsilon 4, delta 1e-05, clip_norm 0.01)"
    assert policy_fields(words) == {"policy": "private", "in_words": words, "epsilon": 4.0, "delta": 1e-5}
    assert policy_fields("guarded")["epsilon"] is None


def test_the_reference_page_is_that_of_the_fields():
    written = (ROOT / "docs" / "reference" / "data_sheet.md").read_text(encoding="utf-8")
    assert written == fields_page(), "docs/reference/data_sheet.md is older than the fields: make reference"
