"""2-D grey images: what is shown is what a training reads."""

import numpy as np
import pytest
from monai.transforms import Compose, LoadImaged, Orientationd
from PIL import Image

from bundle.data.datalist import load_datalist
from bundle.data.errors import DataError
from bundle.prepare.layouts import get_layout
from bundle.prepare.preparation import PrepareOptions, prepare

LABELS = {0: "background", 1: "lung", 2: "heart"}


def picture(bits=8, shape=(12, 9)):
    """Rows from the top, each pixel a value of its own."""
    return np.arange(np.prod(shape)).reshape(shape).astype(f"uint{bits}") * (1 if bits == 8 else 500)


def mask(shape=(12, 9)):
    label = np.zeros(shape, np.uint8)
    label[1:4, 2:7], label[8:10, 5:8] = 1, 2
    return label


def write(folder, image, label, suffix=".png", name="p1", part="", **kwargs):
    for place, array, file in (("images", image, f"{name}{suffix}"), ("labels", label, f"{name}{part}.png")):
        (folder / place).mkdir(parents=True, exist_ok=True)
        # resolutions that differ: a scanner's, and none
        Image.fromarray(array).save(folder / place / file, **(kwargs if place == "images" else {}))


def prepared(source, output, **options):
    given = {"table": source / "cases.csv", "labels": LABELS, "modalities": ("xray",)} | options
    (source / "cases.csv").write_text("case,site,split\np1,A,train\n", encoding="utf-8")
    prepare(PrepareOptions("images", source, output, sites="table", **given))
    (item,) = load_datalist(output).training
    both = {"image": item["image"][0], "label": item["label"]}
    keys = ["image", "label"]
    load = Compose([LoadImaged(keys, ensure_channel_first=True), Orientationd(keys, axcodes="RAS")])
    return {key: np.asarray(array) for key, array in load(both).items()}


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".PNG"])
@pytest.mark.parametrize("part", ["", "_mask"])
def test_axes_run_to_the_right_and_upwards_in_the_picture(bits, suffix, part, tmp_path):
    resolution = {"dpi": (300, 300)}
    write(tmp_path / "in", picture(bits), mask(), suffix=suffix, part=part, **resolution)
    case = prepared(tmp_path / "in", tmp_path / "out")
    for key, array in (("image", picture(bits)), ("label", mask())):
        assert case[key].shape == (1, 9, 12, 1)
        np.testing.assert_array_equal(case[key][0, :, :, 0].T[::-1], array)


def test_jpeg_is_read_as_an_image_and_not_as_a_label(tmp_path):
    write(tmp_path, picture(), mask(), suffix=".jpg")
    cases, problems = get_layout("images").discover(tmp_path, ["xray"])
    assert [case.case for case in cases] == ["p1"]
    assert problems == []
    (tmp_path / "labels" / "p1.png").rename(tmp_path / "labels" / "p1.jpg")
    with pytest.raises(DataError, match="labels: no file was found"):
        get_layout("images").discover(tmp_path, ["xray"])


@pytest.mark.parametrize(
    ("image", "label", "message"),
    [
        (np.stack([picture()] * 3, -1), mask(), "3 components, expected a grey image"),
        (picture(), np.stack([mask()] * 3, -1), "3 components, expected a grey image"),
        (picture(), mask() * 3, "p1.*holds the values 3, 6, expected only 0, 1, 2"),
        (picture(), mask((9, 12)), "p1"),
    ],
)
def test_what_is_no_grey_image_with_its_label_is_refused(image, label, message, tmp_path):
    write(tmp_path / "in", image, label)
    with pytest.raises(DataError, match=message):
        prepared(tmp_path / "in", tmp_path / "out")


def test_files_without_a_partner_and_two_modalities_are_refused(tmp_path):
    write(tmp_path, picture(), mask())
    write(tmp_path, picture(), mask(), name="p2")
    (tmp_path / "labels" / "p2.png").unlink()
    with pytest.raises(DataError, match=r"without a partner: .*p2\.png"):
        get_layout("images").discover(tmp_path, ["xray"])
    with pytest.raises(DataError, match="expected one"):
        get_layout("images").discover(tmp_path, ["xray", "ct"])
