"""Which files a config is given."""

import doctest
import os
import re
import sys
from pathlib import Path

import pytest
from monai.bundle import ConfigWorkflow

from bundle import inputs
from bundle.inputs import check_inputs, list_files, misread, pair_files
from bundle.plain_errors import sentence

NIFTI = [".nii", ".nii.gz"]


def test_examples():
    result = doctest.testmod(inputs)
    assert result.attempted
    assert not result.failed


def made(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("name", ["study [2021]", "a*b", "what?", "{x}", "[!a]", "Köln (neu)", "#1", "$HOME", "@data"])
def test_a_folder_may_be_called_anything(name, tmp_path):
    made(tmp_path / "axb", "stranger.nii")
    folder = made(tmp_path / name, "b.nii.gz", "a.nii", "c.png", ".hidden.nii", "D.NII")
    (folder / "folder.nii").mkdir()
    assert [os.path.basename(path) for path in list_files(folder, NIFTI)] == ["D.NII", "a.nii", "b.nii.gz"]
    assert list_files(tmp_path / "not there", NIFTI) == []


def test_what_earlier_starts_have_made_is_no_input(tmp_path):
    folder = made(tmp_path, "P1.nii", "P1_seg.nii.gz", "P1_seg_seg.nii.gz", "other_seg.nii.gz", "P2_seg2.nii")
    found = [os.path.basename(path) for path in list_files(folder, NIFTI, made="seg")]
    assert found == ["P1.nii", "P2_seg2.nii", "other_seg.nii.gz"]  # of the last there is no image: it is one itself
    assert len(list_files(folder, NIFTI)) == 5


def pairs(images, labels):
    return [
        (os.path.basename(item["image"]), os.path.basename(item["label"]))
        for item in pair_files(["images", "labels"], image=images, label=labels)
    ]


@pytest.mark.parametrize(
    "names",
    [
        (["p1", "p10", "p2"], ["p10", "p2", "p1"]),
        (["p1", "p10", "p2"], ["p10_seg", "p2_seg", "p1_seg"]),
        (["p1_flair", "p10_flair"], ["p10", "p1"]),
        (["a_b", "a"], ["a", "a_b"]),
        (["Case.1", "Case.2"], ["Case.1_mask", "Case.2_mask"]),
        (["only"], ["only_seg"]),
    ],
)
def test_names_make_pairs(names):
    images, labels = ([f"{side}/{name}.nii.gz" for name in part] for side, part in zip("xy", names, strict=True))
    found = pairs(images, labels)
    assert [image for image, _ in found] == [os.path.basename(path) for path in images]
    for image, label in found:
        assert len({re.sub(r"(_seg|_mask|_flair)?\.nii\.gz$", "", name) for name in (image, label)}) == 1


@pytest.mark.parametrize(
    ("images", "labels", "alone"),
    [
        (["a", "c"], ["a", "b"], ["x/c.nii", "y/b.nii"]),
        (["a", "b"], ["a"], ["x/b.nii"]),
        (["p1", "p2"], ["p1_seg", "p3_seg"], ["x/p2.nii", "y/p3_seg.nii"]),
        (["p1"], ["p1_2"], ["x/p1.nii", "y/p1_2.nii"]),  # a number tells files apart
        (["p1", "p2"], ["p1_seg", "p2_mask"], ["x/p1.nii", "y/p2_mask.nii"]),
        (["Case_A"], ["Case_B"], ["x/Case_A.nii", "y/Case_B.nii"]),
        (["C1_flair", "C2_flair"], ["C1_seg", "C2_seg"], ["x/C1_flair.nii", "y/C2_seg.nii"]),
    ],
)
def test_files_without_a_partner_are_named(images, labels, alone):
    with pytest.raises(ValueError, match="images and labels belong together by name") as caught:
        pairs([f"x/{name}.nii" for name in images], [f"y/{name}.nii" for name in labels])
    assert all(path in str(caught.value) for path in alone)


def test_a_side_without_files_is_named_by_its_option():
    with pytest.raises(ValueError, match=r"outlines: no file was found, expected one for each of a\.nii"):
        pair_files(["labels", "outlines"], label="a.nii", outline=[])
    with pytest.raises(ValueError, match="labels: no file was found"):
        pair_files(["labels", "outlines"], label=[], outline=["a.nii", "b.nii"])
    assert pair_files(["labels", "outlines"], label=[], outline=[]) == []


def test_two_paths_are_a_pair_as_they_were_given():
    assert pairs("x/label.nii", "y/outline.nii") == [("label.nii", "outline.nii")]
    with pytest.raises(ValueError, match="one name"):
        pairs(["a.nii", "b/a.nii.gz"], ["a.nii", "b.nii"])


def check(files, folder="out", key="image"):
    check_inputs([{key: file} for file in files], key, str(folder), "seg", ".nii.gz", "nothing here")


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("a/flair.nii.gz", "b/flair.nii.gz"),
        ("flair.nii", "flair.nii.gz"),
        ("flair.nii", "flair.nii"),
        ("a/flair.nrrd", "b/flair.mha"),
        (["a/flair.nii", "a/t2.nii"], ["b/flair.nii", "b/t1.nii"]),
    ],
)
def test_outputs_of_one_name_are_refused(one, two):
    with pytest.raises(ValueError, match="different names") as caught:
        check(["c/t2.nii", one, two])
    for source in (one, two):
        assert (source if isinstance(source, str) else source[0]) in str(caught.value)


def test_different_names_pass_and_none_are_refused():
    check(["a/p1.nii", "a/p10.nii", "a/p1.x.nii", "b/p1_seg.nii.gz"])
    with pytest.raises(ValueError, match=r"^nothing here$"):
        check([])


def test_no_input_is_overwritten(tmp_path):
    files = [tmp_path / "p1.nii.gz", tmp_path / "p1_seg.nii.gz"]
    with pytest.raises(ValueError, match="would overwrite the input"):
        check(map(str, files), tmp_path)
    check(map(str, files), tmp_path / "out")


@pytest.mark.parametrize(
    "given", [2018, 1e5, True, None, [], {}, [1], ["a.nii", None], [["a.nii"]], {"image": "a.nii"}]
)
def test_an_input_that_is_no_path_is_refused(given):
    """As the command line reads what looks like a number or a list."""
    with pytest.raises(ValueError, match="expected the path of a file, or a list"):
        check(["b.nii", given])


# places that MONAI's own workflow misreads


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("output_dir", "out#4", "output_dir: MONAI's own workflow reads 'out::4' where # stood; rename the folder"),
        ("dataset_dir", "data#1", "dataset_dir: MONAI's own workflow reads 'data::1' where # stood"),
        ("weights", "model#1.pt", "weights: MONAI's own workflow reads 'model::1.pt' where # stood"),
        ("datalist", "scan#1.nii.gz", "datalist: MONAI's own workflow reads 'scan::1.nii.gz' where # stood"),
        ("datalist", ["a.nii.gz", "b#1.nii.gz"], "datalist: MONAI's own workflow reads 'b::1.nii.gz' where # stood"),
        ("output_dir", "@out", "output_dir: MONAI takes '@out' for the name of a key, and there is none; write ./"),
        ("output_dir", "$out", r"output_dir: MONAI takes '\$out' for an expression; write ./ in front of it"),
        ("output_dir", 2018, "output_dir: expected a path, got 2018; write ./ in front"),
        ("output_dir", ["a", "b"], "output_dir: expected a path, got"),
    ],
    ids=str,
)
def test_a_place_that_monai_misreads_is_refused_by_the_name_of_its_option(
    option, value, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # the config sets it
    root = Path(__file__).resolve().parents[1]
    given = {"bundle_root": str(root), "logging_file": False, option: value}
    workflow = ConfigWorkflow(str(root / "configs" / "inference.yaml"), workflow_type="infer", **given)
    workflow.initialize()
    with pytest.raises(RuntimeError) as caught:
        workflow.run()
    assert re.match(message, sentence(caught.value))
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_root_that_is_not_there_is_said(tmp_path):
    config = Path(__file__).resolve().parents[1] / "configs" / "inference.yaml"
    workflow = ConfigWorkflow(str(config), workflow_type="infer", bundle_root=f"{tmp_path}#1", logging_file=False)
    workflow.initialize()
    with pytest.raises(SystemExit, match=r"bundle_root: there is no folder .*::1"):
        workflow.run()


def test_places_that_are_what_they_say():
    config = {"run_dir": "runs", "fit": {"folder": "x"}}
    for value in (
        "out",
        "./a b",
        "/x/y.pt",
        "@run_dir",
        "@fit::folder",
        "$os.path.join(@run_dir, 'x')",
        None,
        "$'a\\x23b'",
    ):
        assert misread("output_dir", value, config) is None
    assert misread("datalist", ["a", "b"], config, several=True) is None
