"""What volumes and labels may hold: refused by file and by case, before anything is trained."""

import gzip
import struct

import nibabel as nib
import numpy as np
import pytest

from bundle.data.file_checks import check_files, find_copies
from bundle.transforms import GroupLabelsd
from bundle.transforms.whole_numbers import whole_numbers

AFFINE = np.diag([-1.0, -1, 3, 1])
LABELS = (0, 1, 2, 4)
RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


def save(path, array):
    nib.save(nib.Nifti1Image(array, AFFINE), path)
    return str(path)


def image(seed=0, shape=(8, 7, 6)):
    return np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)


def label(shape=(8, 7, 6)):
    return np.random.default_rng(1).choice(LABELS, shape).astype(np.uint8)


def check(folder, an_image, a_label, deep=True):
    item = {"image": [save(folder / "a_flair.nii.gz", an_image)], "label": save(folder / "a_seg.nii.gz", a_label),
            "case": "a"}  # fmt: skip
    return check_files([item], ["flair"], LABELS, deep)


@pytest.mark.parametrize(("an_image", "a_label"), [
    (image(), label()),
    (image(shape=(8, 7, 1)), label((8, 7, 1))),
    (image(shape=(8, 7, 6, 1)), label((8, 7, 6, 1))),
    (image().astype(np.int16), label().astype(np.float32)),
])  # fmt: skip
def test_right_ones_pass(tmp_path, an_image, a_label):
    assert check(tmp_path, an_image, a_label) == []


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(("an_image", "a_label", "file", "words"), [
    (image(), np.stack([label() == value for value in (1, 2, 4)], -1).astype(np.uint8), "seg", "(8, 7, 6, 3)"),
    (np.stack([image(), image()], -1), label(), "flair", "(8, 7, 6, 2)"),
    (image()[..., None, None], label(), "flair", "(8, 7, 6, 1, 1)"),
    (image(), label()[..., None, None], "seg", "(8, 7, 6, 1, 1)"),
    (image(shape=(8, 7)), label((8, 7, 1)), "flair", "one slice is rows × columns × 1"),
    (image(), np.zeros((8, 7, 6), RGB), "seg", "holds colours (RGB), expected one real number per voxel"),
    (np.zeros((8, 7, 6), RGB), label(), "flair", "holds colours (RGB)"),
    (image().astype(np.complex64), label(), "flair", "holds complex numbers"),
    (image(), label().astype(np.complex64), "seg", "holds complex numbers"),
])  # fmt: skip
def test_dimensions_and_kinds_of_numbers(tmp_path, an_image, a_label, file, words, deep):
    problems = [problem for problem in check(tmp_path, an_image, a_label, deep) if f"a_{file}.nii.gz" in problem]
    assert len(problems) == 1
    assert problems[0].startswith("case a, ")
    assert words in problems[0]


@pytest.mark.parametrize(("values", "words"), [((0,), "no other values than 0"), ((0, 100), "than 0 and 100")])
def test_an_image_varies(tmp_path, values, words):
    constant = np.resize(np.array(values, np.float32), (8, 7, 6))
    (problem,) = check(tmp_path, constant, label())
    assert words in problem
    assert "a_flair.nii.gz (flair)" in problem


@pytest.mark.parametrize("off", [0.0, 2e-7, -2e-7, 3e-8])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_labels_may_be_off_by_the_rounding_of_float32(tmp_path, off, dtype):
    stored = (label() * (1 + off)).astype(dtype)
    assert check(tmp_path, image(), stored) == []
    grouped = GroupLabelsd(keys="label", groups={"whole": [1, 2, 4]})({"label": stored[None].astype(np.float32)})[
        "label"
    ]
    assert np.array_equal(np.asarray(grouped)[0], label() > 0)


def test_a_slope_in_the_header_is_rounding(tmp_path):
    stored = (label() == 2).astype(np.uint8) * 255
    path = save(tmp_path / "slope.nii", stored)
    with open(path, "rb") as file:
        content = bytearray(file.read())
    struct.pack_into("<2f", content, 112, 2 / 255, 0)
    (tmp_path / "slope.nii.gz").write_bytes(gzip.compress(bytes(content)))
    item = {"image": [save(tmp_path / "i.nii.gz", image())], "label": str(tmp_path / "slope.nii.gz"), "case": "a"}
    assert check_files([item], ["flair"], LABELS, deep=True) == []


@pytest.mark.parametrize("value", [1.5, 2.001, 2.00001, np.nan])
def test_what_is_no_rounding_is_named_as_it_is(tmp_path, value):
    stored = label().astype(np.float64)
    stored[0, 0, 0] = value
    problems = check(tmp_path, image(), stored)
    assert f"holds the values {value:.10g}, expected only 0, 1, 2, 4 (fractions" in problems[-1]
    with pytest.raises(ValueError, match=f"holds the value.s. {value:.10g}; expected"):
        GroupLabelsd(keys="label", groups={"whole": [1, 2, 4]})({"label": stored[None]})


def test_whole_numbers():
    assert whole_numbers(np.array([1, 2], np.uint8)).dtype == np.uint8
    assert whole_numbers(np.array([1e9 + 0.001])).tolist() == [10**9]
    for values in ([0.5], [np.inf], [np.nan], [1e300]):
        assert whole_numbers(np.array(values)) is None


def test_a_modality_that_is_a_copy_of_another(tmp_path):
    names = ["flair", "t1", "t1ce"]
    paths = [save(tmp_path / f"{name}.nii.gz", image(seed)) for name, seed in zip(names, (0, 0, 1), strict=True)]
    items = [{"image": paths, "label": save(tmp_path / "seg.nii.gz", label()), "case": "a"}]
    (problem,) = check_files(items, names, LABELS, deep=True)
    assert problem.startswith("case a: t1 is a copy of flair, expected a modality of its own")
    assert find_copies(items, names).keys() == {"a"}
    together = save(tmp_path / "all.nii.gz", np.stack([image(0), image(1), image(1)], -1))
    items = [{"image": together, "label": items[0]["label"], "case": "a"}]
    (problem,) = check_files(items, names, LABELS, deep=True)
    assert problem.startswith("case a: t1ce is a copy of t1")
    assert find_copies(items, ["flair"]) == {}
