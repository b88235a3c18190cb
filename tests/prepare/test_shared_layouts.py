"""Layouts that other tools share: two flat folders, nnU-Net's raw data, BIDS with derivatives."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from bundle.data.datalist import load_datalist
from bundle.data.errors import DataError
from bundle.phantoms.brains import write_brats_phantoms
from bundle.prepare.layouts import get_layout
from bundle.prepare.preparation import PrepareOptions, prepare

CASES = [f"Phantom_{site}_00{number}" for site in "AB" for number in (1, 2)]


@pytest.fixture(scope="module")
def brains(tmp_path_factory):
    """Phantoms in BraTS layout: two sites of two cases."""
    folder = tmp_path_factory.mktemp("brains")
    write_brats_phantoms(folder, ("A", "B"), cases_per_site=2, test_cases_per_site=0, shape=(32, 32, 8))
    return folder


def copy(brains, case, word, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(next(brains.rglob(f"{case}_{word}.nii.gz")), path)


def write_nifti(brains, folder, image="{case}", label="{case}", words=("flair",)):
    for case in CASES:
        for word in words:
            copy(brains, case, word, folder / "images" / f"{image.format(case=case, word=word)}.nii.gz")
        copy(brains, case, "seg", folder / "labels" / f"{label.format(case=case)}.nii.gz")


def write_nnunet(brains, folder, ending="Tr", **changes):
    about = {
        "channel_names": {"0": "FLAIR", "1": "T1gd"},
        "labels": {"background": 0, "whole tumour": [1, 2, 4], "core": [1, 4], "enhancing": 4},
        "numTraining": 4,
        "file_ending": ".nii.gz",
    } | changes
    for case in CASES:
        for number, word in enumerate(("flair", "t1ce")):
            copy(brains, case, word, folder / f"images{ending}" / f"{case}_{number:04d}.nii.gz")
        copy(brains, case, "seg", folder / f"labels{ending}" / f"{case}.nii.gz")
    (folder / "dataset.json").write_text(json.dumps(about), encoding="utf-8")


def write_bids(brains, folder, mask="label-lesion_mask"):
    """The first two cases are sessions of one subject, and the others subjects without any."""
    for case, (subject, session) in zip(CASES, (("01", "a"), ("01", "b"), ("02", None), ("03", None)), strict=True):
        place = f"sub-{subject}/ses-{session}" if session else f"sub-{subject}"
        name = place.replace("/", "_")
        for word, suffix in (("flair", "FLAIR"), ("t1", "T1w"), ("t1ce", "ce-gadolinium_T1w"), ("t2", "T2w")):
            copy(brains, case, word, folder / place / "anat" / f"{name}_{suffix}.nii.gz")
        anatomy = folder / "derivatives" / "experts" / place / "anat"
        copy(brains, case, "seg", anatomy / f"{name}_{mask}.nii.gz")
        copy(brains, case, "seg", anatomy / f"{name}_desc-brain_mask.nii.gz")


def prepared(layout, source, output, **options):
    given = {"sites": "single", "test_fraction": 0.0} | options
    prepare(PrepareOptions(layout, source, output, **given))
    return load_datalist(output, deep=True)


def voxels(path):
    return np.asanyarray(nib.load(path).dataobj)


LABELS = {0: "background", 1: "core", 2: "oedema", 4: "enhancing"}


@pytest.mark.parametrize("label", ["{case}", "{case}_seg", "{case}_mask"])
def test_two_folders(label, brains, tmp_path):
    write_nifti(brains, tmp_path / "in", label=label)
    data = prepared("nifti", tmp_path / "in", tmp_path / "out", modalities=("flair",), labels=LABELS)
    assert [item["case"] for item in data.training] == CASES
    assert data.modality == ("flair",)
    for item in data.training:
        (image,) = item["image"]
        np.testing.assert_array_equal(voxels(image), voxels(next(brains.rglob(f"{item['case']}_flair.nii.gz"))))
        np.testing.assert_array_equal(voxels(item["label"]), voxels(next(brains.rglob(f"{item['case']}_seg.nii.gz"))))


def test_two_folders_of_several_modalities(brains, tmp_path):
    words = ("t1", "t1ce")
    write_nifti(brains, tmp_path / "in", image="{case}_{word}", words=words)
    data = prepared("nifti", tmp_path / "in", tmp_path / "out", modalities=("t1ce", "t1"), labels=LABELS)
    assert data.modality == ("t1ce", "t1")
    names = [str(path).rpartition("/")[2] for path in data.training[0]["image"]]
    assert names == [f"{CASES[0]}_t1ce.nii.gz", f"{CASES[0]}_t1.nii.gz"]
    # one of them alone is found by its name
    assert prepared("nifti", tmp_path / "in", tmp_path / "one", modalities=("t1",), labels=LABELS).training


def test_two_folders_with_something_missing(brains, tmp_path):
    write_nifti(brains, tmp_path)
    layout = get_layout("nifti")
    with pytest.raises(DataError, match="layout nifti has no default modalities: name them with --modalities"):
        layout.discover(tmp_path, ())
    (tmp_path / "images" / f"{CASES[0]}.nii.gz").unlink()
    (tmp_path / "labels" / f"{CASES[1]}.nii.gz").unlink()
    cases, problems = layout.discover(tmp_path, ("flair",))
    assert [case.case for case in cases] == CASES[2:]
    assert problems == [
        f"case {CASES[0]} in {tmp_path}: missing images/{CASES[0]}.nii.gz",
        f"case {CASES[1]} in {tmp_path}: missing labels/{CASES[1]}.nii.gz",
    ]
    assert layout.discover(tmp_path / "images", ("flair",)) == ([], [])
    with pytest.raises(DataError, match=r"no cases, expected layout nifti: images/CASE\.nii\.gz"):
        prepared("nifti", tmp_path / "images", tmp_path / "out", modalities=("flair",))


def test_nnunet_says_its_channels_and_labels_itself(brains, tmp_path):
    write_nnunet(brains, tmp_path / "in")
    data = prepared("nnunet", tmp_path / "in", tmp_path / "out")
    assert data.modality == ("flair", "t1ce")
    assert data.labels == {0: "background", 1: "core", 2: "whole tumour", 4: "enhancing"}
    assert [item["case"] for item in data.training] == CASES
    one = prepared("nnunet", tmp_path / "in", tmp_path / "one", modalities=("t1ce",))
    assert [str(item["image"][0]).endswith("_0001.nii.gz") for item in one.training] == [True] * 4


def test_nnunet_of_version_1_and_with_test_cases(brains, tmp_path):
    names = {str(value): name for value, name in LABELS.items()}
    write_nnunet(brains, tmp_path / "in", labels=names)
    about = json.loads((tmp_path / "in" / "dataset.json").read_text(encoding="utf-8"))
    about["modality"] = about.pop("channel_names")
    (tmp_path / "in" / "dataset.json").write_text(json.dumps(about), encoding="utf-8")
    for part in ("images", "labels"):
        (tmp_path / "in" / f"{part}Ts").mkdir()
        for path in (tmp_path / "in" / f"{part}Tr").glob(f"{CASES[3]}*"):
            path.rename(tmp_path / "in" / f"{part}Ts" / path.name)
    data = prepared("nnunet", tmp_path / "in", tmp_path / "out", test_fraction=None)
    assert data.labels == LABELS
    assert [item["case"] for item in data.training] == CASES[:3]
    assert [item["case"] for item in data.test] == CASES[3:]
    # test cases without labels are nobody's business here
    shutil.rmtree(tmp_path / "in" / "labelsTs")
    assert len(prepared("nnunet", tmp_path / "in", tmp_path / "none").training) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channel_names": ["FLAIR"]}, r"channel_names is \['FLAIR'\], expected names by number"),
        ({"channel_names": {"1": "FLAIR"}}, "expected names by number"),
        ({"channel_names": {"0": "T1w", "1": "T1"}}, "expected a different name for every channel"),
        ({"labels": None}, "labels is None, expected values by name"),
        ({"labels": {"tumour": 1}}, "expected values by name"),
        ({"labels": {"background": 0, "tumour": "x"}}, "expected values by name"),
        ({"labels": {"background": 0, "ignore": 1}}, "labels has 'ignore'"),
        ({"file_ending": ".nrrd"}, r"file_ending is '\.nrrd', expected \.nii\.gz or \.nii"),
        ({"dataset": {}}, "dataset names files of its own"),
    ],
)
def test_a_description_that_is_none_of_nnunets(changes, message, brains, tmp_path):
    write_nnunet(brains, tmp_path, **changes)
    with pytest.raises(DataError, match=rf"dataset\.json: .*{message}"):
        get_layout("nnunet").discover(tmp_path, ())


def test_nnunet_with_something_missing(brains, tmp_path):
    write_nnunet(brains, tmp_path)
    layout = get_layout("nnunet")
    (tmp_path / "imagesTr" / f"{CASES[0]}_0001.nii.gz").unlink()
    (tmp_path / "labelsTr" / f"{CASES[1]}.nii.gz").unlink()
    cases, problems = layout.discover(tmp_path, ())
    assert [case.case for case in cases] == CASES[2:]
    assert problems == [
        f"case {CASES[0]} in {tmp_path}: missing imagesTr/{CASES[0]}_0001.nii.gz",
        f"case {CASES[1]} in {tmp_path}: missing labelsTr/{CASES[1]}.nii.gz",
    ]
    with pytest.raises(DataError, match=r"names no channel t2, expected some of flair, t1ce"):
        layout.discover(tmp_path, ("t2",))
    (tmp_path / "dataset.json").unlink()
    with pytest.raises(DataError, match=r"dataset\.json"):
        layout.discover(tmp_path, ())


@pytest.mark.parametrize("mask", ["label-lesion_mask", "dseg"])
def test_bids(mask, brains, tmp_path):
    write_bids(brains, tmp_path / "in", mask)
    data = prepared("bids", tmp_path / "in", tmp_path / "out", modalities=("t1ce", "flair", "t1"), labels=LABELS)
    found = {item["case"]: (item["patient"], item["image"]) for item in data.training}
    assert list(found) == ["sub-01_ses-a", "sub-01_ses-b", "sub-02", "sub-03"]
    assert [patient for patient, _ in found.values()] == ["sub-01", "sub-01", "sub-02", "sub-03"]
    for case, (_, images) in zip(CASES, found.values(), strict=True):
        for word, path in zip(("t1ce", "flair", "t1"), images, strict=True):
            np.testing.assert_array_equal(voxels(path), voxels(next(brains.rglob(f"{case}_{word}.nii.gz"))))


def test_bids_with_something_missing_and_with_too_much(brains, tmp_path):
    write_bids(brains, tmp_path)
    layout = get_layout("bids")
    anatomy = tmp_path / "sub-02" / "anat"
    (anatomy / "sub-02_FLAIR.nii.gz").unlink()
    copy(brains, CASES[0], "flair", tmp_path / "sub-03" / "anat" / "sub-03_run-2_FLAIR.nii.gz")
    next((tmp_path / "derivatives").rglob("sub-01_ses-a_label-lesion_mask.nii.gz")).unlink()
    (tmp_path / "sub-04" / "func").mkdir(parents=True)
    cases, problems = layout.discover(tmp_path, ("flair",))
    assert [case.case for case in cases] == ["sub-01_ses-b"]
    assert problems == [
        f"case sub-01_ses-a in {tmp_path}: missing derivatives/PIPELINE/sub-01/ses-a/anat/sub-01_ses-a_…_mask.nii.gz "
        "(or _dseg)",
        f"case sub-02 in {tmp_path}: missing sub-02/anat/sub-02_FLAIR.nii.gz",
        f"case sub-03 in {tmp_path}: sub-03_FLAIR.nii.gz, sub-03_run-2_FLAIR.nii.gz: expected one",
    ]
    with pytest.raises(DataError, match="layout bids has no ct, expected some of flair, t1, t1ce, t2"):
        layout.discover(tmp_path, ("ct",))
