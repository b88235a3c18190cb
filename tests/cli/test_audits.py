import json
from types import SimpleNamespace

import pytest
from PIL import Image

from bundle.audit.record import record_audit
from bundle.cli.main import main
from bundle.sheet import NOBODY, check_sheet
from bundle.site.release.policy import DEFAULT


def run(words, tiny_sizes, *arguments):
    sizes = [f"{key}={value}" for key, value in tiny_sizes.items() if not key.startswith(("segmenter", "feature"))]
    given = ["--task", "brats", "--profile", "demo", *map(str, arguments)]
    return main([*words.split(), *given, "--set", *sizes])


@pytest.fixture(scope="module")
def tiny_sizes(tiny_sizes):
    # the held-out phantoms have small tumours
    return tiny_sizes | {"min_tumor_pixels": 1}


@pytest.fixture(scope="module")
def trained(phantom_dir, tiny_sizes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    for stage in ("train", "generate"):
        assert run(stage, tiny_sizes, "--dataset_dir", phantom_dir, "--run_dir", folder) == 0
    return folder


def test_a_finished_run_is_audited(trained, phantom_dir, tiny_sizes, tmp_path):
    options = ("--dataset_dir", phantom_dir, "--run_dir", trained)
    assert run("audit membership", tiny_sizes, *options, "--output", tmp_path, "--wall_slices", 1) == 0
    found = json.loads((tmp_path / "membership.json").read_text(encoding="utf-8"))
    # every mask that was released is a member's, pixel for pixel
    released = found["attacks"]["released conditions"]["overall"]
    assert released["auc"] == released["tpr"] == 1
    assert found["steps"] == tiny_sizes["num_steps"]
    assert found["synthetic_images"] == found["released_conditions"] == released["member_slices"]
    assert (released["member_patients"], released["nonmember_patients"]) == (4, 2)
    assert set(found["attacks"]["discriminator"]["sites"]) == {"A", "B"}
    assert found["attacks"]["wall, adversarial loss"]["overall"]["member_slices"] == 4
    assert Image.open(tmp_path / "membership.png").width > 800
    sheet = data_sheet(trained)
    rows = {row["attack"]: row for row in sheet["attacks"]["membership"]}
    assert rows["released conditions"]["auc"] == 1
    assert rows["nearest"]["excess"] is not None
    assert "control" not in rows
    page = (trained / "seed_0/asyndgan/synthetic/README.md").read_text(encoding="utf-8")
    assert NOBODY not in page
    assert "| released conditions | 1 " in page


def data_sheet(run_dir):
    sheet = json.loads((run_dir / "seed_0/asyndgan/synthetic/data_sheet.json").read_text(encoding="utf-8"))
    assert check_sheet(sheet) == []
    return sheet


def test_what_the_run_s_label_maps_tell_comes_into_its_data_sheet(trained, phantom_dir, tiny_sizes, tmp_path, capsys):
    options = ("--dataset_dir", phantom_dir, "--run_dir", trained, "--output", tmp_path, "--masks", 1)
    assert run("audit conditions", tiny_sizes, *options) == 0
    assert "kept for the data sheets: " in capsys.readouterr().out
    found = data_sheet(trained)["attacks"]["label_maps"]
    assert {kind: sorted(of) for kind, of in found.items()} == {"real": ["aligned", "as they are"]}
    written = json.loads((tmp_path / "conditions.json").read_text(encoding="utf-8"))["releases"]["real"]
    assert found["real"]["aligned"]["membership"] == written["aligned"]["membership"]["auc"]
    assert found["real"]["aligned"]["re_identified"] == written["aligned"]["identification"]["patients"]["rate"]


def test_what_was_attacked_under_another_policy_says_nothing_of_the_run(trained, phantom_dir, tmp_path, capsys):
    target = SimpleNamespace(
        run=trained / "seed_0/asyndgan",
        policies={"A": "published", "B": DEFAULT},
    )
    said = record_audit(target, "readout", {"A": {}})
    assert said == f"not kept for the data sheet: attacked was A under 'published', and the run had '{DEFAULT}'"
    assert data_sheet(trained)["attacks"]["readout"] is None


def test_members_of_another_data_list_are_refused(trained, phantom_dir, tiny_sizes, tmp_path, capsys):
    content = json.loads((phantom_dir / "datalist.json").read_text(encoding="utf-8"))
    for split in ("training", "test"):
        for item in content[split]:
            item["image"] = [str(phantom_dir / path) for path in item["image"]]
            item["label"] = str(phantom_dir / item["label"])
    (tmp_path / "datalist.json").write_text(json.dumps(content | {"name": "another"}), encoding="utf-8")
    options = ("--dataset_dir", tmp_path, "--run_dir", trained, "--output", tmp_path)
    assert run("audit membership", tiny_sizes, *options) == 2
    assert "config.yaml: sha256 of inputs: expected the digest of" in capsys.readouterr().err


def test_conditions_are_audited_without_a_run(phantom_dir, tiny_sizes, tmp_path):
    options = ("--dataset_dir", phantom_dir, "--output", tmp_path)
    assert run("audit conditions", tiny_sizes, *options, "--masks", 1) == 0
    found = json.loads((tmp_path / "conditions.json").read_text(encoding="utf-8"))
    assert set(found["releases"]) == {"real", "deformed", "public"}
    assert "at least 5 patients" in found["not_drawn"]
    assert found["known_masks"] == {"member": 4, "nonmember": 2}
    assert found["releases"]["real"]["as they are"]["identification"]["masks"]["number"] == 4
    assert Image.open(tmp_path / "conditions.png").width > 800
