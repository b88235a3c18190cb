"""The data sheet of a packed generator, its page and picture, and what contradicts the bundle."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from bundle.engines import write_nifti_slice
from bundle.files import digest, write_json
from bundle.sharing import PackOptions, pack_bundle
from bundle.sharing.bundle_checks import check_bundle
from bundle.sheet import NOBODY, check_sheet

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(packed, tmp_path):
    source = packed["generator_brats"]
    return Path(shutil.copytree(source, tmp_path / source.name))


def read(folder):
    return json.loads((folder / "docs" / "data_sheet.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", ["generator_brats", "generator_multi_organ"])
def test_the_sheet_is_that_of_the_run_and_of_the_bundle(kind, packed, request):
    sheet, run = read(packed[kind]), request.getfixturevalue("brain_run" if kind.endswith("brats") else "nuclei_run")
    assert check_sheet(sheet) == []
    assert (sheet["kind"], sheet["version"]) == ("generator", "0.1.0")
    assert sheet["made"]["weights_sha256"] == digest(run / "gan" / "generator.pt")
    assert sheet["network"]["sha256"] == digest(packed[kind] / "models" / "model.pt")
    assert sheet["licence"]["data"] == ["of phantoms: do as you like"]
    metadata = json.loads((packed[kind] / "configs" / "metadata.json").read_text(encoding="utf-8"))
    assert metadata["eval_metrics"]["dice"] == pytest.approx(sheet["downstream"]["dice"]["mean"], abs=1e-4)
    page = (packed[kind] / "docs" / "README.md").read_text(encoding="utf-8")
    assert NOBODY in page
    assert "samples.png" not in page  # the run has no synthetic data set
    assert not any(str(place) in page + json.dumps(sheet) for place in (run, Path.home()))


def test_an_audited_generator_s_page_has_the_attacks_and_a_picture_of_synthetic_images(brain_run, tmp_path):
    run = Path(shutil.copytree(brain_run, tmp_path / "seed_0" / "asyndgan"))
    row = {"attack": "nearest", "auc": 0.53, "interval": [0.4, 0.7], "control": None, "excess": None}
    found = {"weights_sha256": digest(run / "gan" / "generator.pt"), "found": [{**row, "excess_interval": None}]}
    write_json(run / "gan" / "audit.json", {"membership": found})
    label = torch.zeros(1, 16, 16).numpy()
    label[0, 4:8, 4:8] = 1
    for part, array in (("images", label * 2 - 1), ("labels", label)):
        (run / "synthetic" / part).mkdir(parents=True)
        write_nifti_slice(run / "synthetic" / part / "A_0.nii.gz", array)
    item = {"image": "images/A_0.nii.gz", "label": "labels/A_0.nii.gz", "case": "A_0", "site": "A"}
    labels = {"0": "background", "1": "whole tumor"}
    write_json(run / "synthetic" / "datalist.json", {"labels": labels, "training": [item]})
    given = PackOptions("generator", run / "gan" / "generator.pt", tmp_path / "dist", ROOT / "LICENSE")
    bundle = pack_bundle(PackOptions(**{**vars(given), "data_license": ROOT / "LICENSE"}))
    page = (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    assert NOBODY not in page
    assert "| nearest | 0.53 (0.4 to 0.7) | – | – (–) |" in page
    assert "![Label maps, and what the generator drew on them](samples.png)" in page
    with Image.open(bundle / "docs" / "samples.png") as picture:
        assert min(picture.size) > 100


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"version": "0.2.0"}, "/version is '0.2.0', and '0.1.0' in configs/metadata.json"),
        ({"kind": "data set"}, "/contents/images is missing"),
        ({"network": {"sha256": "0" * 64}}, "in models/model.pt"),
        ({"made": {"weights_sha256": "0" * 64}}, "/made/weights_sha256 is"),
        ({"releases": {"A": {"policy": "open"}}}, "/releases/A/policy is 'open', expected one of published"),
        ({"surgeon": "x"}, "/surgeon is unknown"),
    ],
)
def test_a_sheet_that_contradicts_the_bundle_is_refused(folder, change, expected):
    sheet = read(folder)
    for name, value in change.items():
        sheet[name] = {**sheet[name], **value} if isinstance(value, dict) else value
    write_json(folder / "docs" / "data_sheet.json", sheet)
    assert any(expected in problem for problem in check_bundle(folder)), check_bundle(folder)


def test_a_page_that_keeps_silent_and_a_sheet_that_is_gone_or_damaged_are_refused(folder):
    page, sheet = folder / "docs" / "README.md", folder / "docs" / "data_sheet.json"
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace(NOBODY, ""), encoding="utf-8")
    assert any("expected it to say that nobody has attacked" in problem for problem in check_bundle(folder))
    page.write_text(text, encoding="utf-8")
    sheet.write_text("{", encoding="utf-8")
    assert any("data_sheet.json: cannot be read as JSON" in problem for problem in check_bundle(folder))
    sheet.unlink()
    assert any("data_sheet.json: missing, expected one of every generator" in p for p in check_bundle(folder))
