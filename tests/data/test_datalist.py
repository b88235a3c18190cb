"""Data lists: what is read, and every kind of bad data by its message."""

import gzip
import json
import os

import numpy as np
import pytest
import SimpleITK as sitk
from data_lists import edit, save

from bundle.data.datalist import load_datalist, write_datalist
from bundle.data.errors import DataError

MODALITY = ("flair", "t2")
LABELS = {0: "background", 1: "core", 2: "oedema"}


@pytest.fixture
def folder(tmp_path):
    """Three cases of two sites, one file per modality, and their data list."""
    rng = np.random.default_rng(0)
    items = []
    for case, site in (("a1", "A"), ("a2", "A"), ("b1", "B")):
        images = [save(tmp_path / f"{case}_{m}.nii.gz", rng.normal(size=(6, 5, 4))) for m in MODALITY]
        label = save(tmp_path / f"{case}_seg.nii.gz", rng.integers(0, 3, (6, 5, 4)).astype(np.uint8))
        items.append({"image": images, "label": label, "case": case, "patient": f"p{case}", "site": site})
    write_datalist(tmp_path, training=[items[0], items[2]], test=[items[1]], **common())
    return tmp_path


def common():
    return {"name": "t", "task": "brats", "layout": "brats", "modality": MODALITY, "labels": LABELS}


def fails(folder, *texts, **options):
    with pytest.raises(DataError) as caught:
        load_datalist(folder, **options)
    for text in texts:
        assert text in str(caught.value)
    assert str(folder) in str(caught.value)
    return str(caught.value)


def test_round_trip(folder):
    content = json.loads((folder / "datalist.json").read_text(encoding="utf-8"))
    assert content["training"][0]["image"] == ["a1_flair.nii.gz", "a1_t2.nii.gz"]
    assert content["modality"] == {"0": "flair", "1": "t2"}
    assert (content["numTraining"], content["numTest"]) == (2, 1)
    data = load_datalist(folder / "datalist.json", deep=True)
    assert data.sites == ("A", "B")
    assert data.modality == MODALITY
    assert data.labels == LABELS
    assert [item["case"] for item in data.site_items("A")] == ["a1"]
    assert data.test[0] == {
        "image": [str(folder / "a2_flair.nii.gz"), str(folder / "a2_t2.nii.gz")],
        "label": str(folder / "a2_seg.nii.gz"),
        "case": "a2",
        "patient": "pa2",
        "site": "A",
        "modality": MODALITY,
        "label_type": "classes",
    }
    with pytest.raises(DataError, match="no site 'C', expected one of A, B"):
        data.site_items("C")
    # Loaded items can be written again, elsewhere: then with absolute paths.
    (folder / "other").mkdir()
    path = write_datalist(folder / "other", training=data.training, test=data.test, **common())
    assert os.path.isabs(json.loads(path.read_text(encoding="utf-8"))["training"][0]["label"])
    assert load_datalist(path).training == data.training
    assert not [name for name in os.listdir(folder) if name.startswith(".")]


def test_modalities_are_pruned_and_reordered(folder):
    (folder / "a1_flair.nii.gz").unlink()
    item = load_datalist(folder, ["t2"]).training[0]
    assert item["image"] == [str(folder / "a1_t2.nii.gz")]
    assert item["modality"] == ("t2",)
    fails(folder, "a1_flair.nii.gz: no such file", "case a1, image")
    assert "available: flair, t2" in fails(folder, "t1ce", modalities=["t1ce"])


def test_single_file_keeps_its_channels(folder):
    save(folder / "m.nii.gz", np.zeros((6, 5, 4, 2), np.float32))
    edit(folder, lambda c: [item.update(image="m.nii.gz") for item in c["training"] + c["test"]])
    assert load_datalist(folder, ["t2"]).training[0]["modality"] == MODALITY
    save(folder / "m.nii.gz", np.zeros((6, 5, 4, 3), np.float32))
    fails(folder, "shape (6, 5, 4, 3), expected four dimensions with 2 channels last")


def test_patient_defaults_to_case_and_outside_site(folder):
    def change(content):
        del content["training"][0]["patient"]
        content["test"][0]["site"] = None

    edit(folder, change)
    data = load_datalist(folder)
    assert data.training[0]["patient"] == "a1"
    assert data.test[0]["site"] is None
    assert data.sites == ("A", "B")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda c: c.pop("labels"), "field labels is missing"),
        (lambda c: c.update(trainin=[]), "field trainin is unknown"),
        (lambda c: c.update(training={}), "field training is a dict, expected a list"),
        (lambda c: c.update(training=[], numTraining=0), "training is empty"),
        (lambda c: c.update(numTraining=5), "numTraining is 5, expected 2"),
        (lambda c: c["modality"].update({"3": "t1"}), "field modality"),
        (lambda c: c["labels"].pop("0"), "field labels"),
        (lambda c: c["training"][0].pop("site"), "case a1: field site is missing"),
        (lambda c: c["training"][0].update(sit="A"), "case a1: field sit is unknown"),
        (lambda c: c["training"][0].update(site="../A"), "site is '../A'"),
        (lambda c: c["training"][0].update(site=None), "site is None"),
        (lambda c: c["training"][0].update(case="../a"), "case is '../a'"),
        (lambda c: c["training"][0].update(image=["a1_t2.nii.gz"]), "image lists 1 files, expected 2"),
        (lambda c: c["training"][0].update(label=7), "must be paths"),
        (lambda c: c["test"][0].update(case="a1"), "case a1 is in training and in test"),
        (lambda c: c["training"][1].update(case="a1"), "case a1 is in the sites A, B"),
        (lambda c: c["training"][1].update(case="a1", site="A"), "case a1 is listed 2 times"),
        (lambda c: c["test"][0].update(patient="pa1"), "patient pa1 is in training and in test"),
        (lambda c: c["test"][0].update(site="C"), "site C has test cases only"),
    ],
)
def test_bad_structure(folder, change, text):
    edit(folder, change)
    fails(folder, text)


def test_no_or_corrupt_json(folder):
    (folder / "datalist.json").write_text('{"name": "t",\n "task"')
    fails(folder, "corrupt JSON in line 2")
    (folder / "datalist.json").write_text("[]")
    fails(folder, "the file holds a list")
    (folder / "datalist.json").unlink()
    fails(folder, "no such data list")


def test_shape_differs(folder):
    save(folder / "b1_seg.nii.gz", np.zeros((6, 5, 3), np.uint8))
    fails(folder, "case b1", "b1_flair.nii.gz has shape (6, 5, 4)", "has (6, 5, 3)")


def test_label_outside_and_not_finite_are_found_deep(folder):
    label = np.zeros((6, 5, 4), np.uint8)
    label[0, 0, 0] = 3
    save(folder / "a2_seg.nii.gz", label)
    image = np.zeros((6, 5, 4), np.float32)
    image[1] = np.nan
    save(folder / "b1_t2.nii.gz", image)
    load_datalist(folder)
    message = fails(
        folder,
        "a2_seg.nii.gz holds the values 3, expected only 0, 1, 2",
        "not finite, expected finite numbers only (a background of NaN: set it to 0)",
        deep=True,
    )
    assert "2 problems" in message
    load_datalist(folder, ["flair"])


def test_truncated_and_damaged_files(folder):
    path = folder / "a1_flair.nii.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    # The size that gzip stores tells it without decoding.
    fails(folder, "a1_flair.nii.gz: unreadable or truncated")
    path.write_bytes(whole[:100])
    fails(folder, "a1_flair.nii.gz")
    path.write_bytes(b"")
    fails(folder, "a1_flair.nii.gz")
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 255
    path.write_bytes(damaged)
    fails(folder, "a1_flair.nii.gz: unreadable or truncated", deep=True)
    # Legal gzip of two members: nothing to complain about.
    content = gzip.decompress(whole)
    path.write_bytes(gzip.compress(content[:200]) + gzip.compress(content[200:]))
    load_datalist(folder, deep=True)


def test_headers_are_enough_unless_deep(folder, monkeypatch):
    decoded = []
    monkeypatch.setattr("bundle.data.file_checks.decode_nifti", lambda path: decoded.append(path) or np.arange(3.0))
    load_datalist(folder)
    assert decoded == []
    load_datalist(folder, ["t2"], deep=True)
    assert len(decoded) == 6


def test_truncated_plain_nifti(folder):
    path = folder / "a1.nii"
    save(path, np.arange(120, dtype=np.float32).reshape(6, 5, 4))
    edit(folder, lambda c: c["training"][0].update(image=["a1.nii", "a1_t2.nii.gz"]))
    load_datalist(folder, deep=True)
    path.write_bytes(path.read_bytes()[:-50])
    fails(folder, "a1.nii: unreadable or truncated")


def test_long_lists_of_problems_are_cut(folder):
    edit(folder, lambda c: c.update(training=[{"case": f"c{i}"} for i in range(30)]))
    message = fails(folder, "and ", "more")
    assert message.count("\n") == 21


def test_failed_write_leaves_the_old_list(folder):
    before = (folder / "datalist.json").read_bytes()
    with pytest.raises(DataError, match="training is empty"):
        write_datalist(folder, training=[], **common())
    assert (folder / "datalist.json").read_bytes() == before


@pytest.fixture
def tiles(tmp_path):
    """Two tiles as PNG, of which one is of no site."""
    rng = np.random.default_rng(0)
    items = []
    for case, site in (("a", "liver"), ("b", None)):
        (tmp_path / case).mkdir()
        save_png(tmp_path / case / "image.png", rng.integers(0, 256, (8, 10, 3)).astype(np.uint8))
        save_png(tmp_path / case / "instances.png", rng.integers(0, 700, (8, 10)).astype(np.uint16))
        items.append({"image": str(tmp_path / case / "image.png"), "label": str(tmp_path / case / "instances.png"),
                      "case": case, "site": site})  # fmt: skip
    head = {"name": "t", "task": "multi_organ", "layout": "multi_organ", "modality": ("red", "green", "blue")}
    labels = {0: "background", 1: "nucleus"}
    write_datalist(tmp_path, **head, labels=labels, label_type="instances", training=items[:1], test=items[1:])
    return tmp_path


def save_png(path, pixels):
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=pixels.ndim == 3), str(path))


def test_instances(tiles):
    data = load_datalist(tiles, deep=True)
    assert data.label_type == "instances"
    assert data.sites == ("liver",)
    assert data.test[0]["label_type"] == "instances"
    assert (data.test[0]["site"], data.test[0]["modality"]) == (None, ("red", "green", "blue"))
    content = json.loads((tiles / "datalist.json").read_text(encoding="utf-8"))
    assert content["training"][0] == {"image": "a/image.png", "label": "a/instances.png", "case": "a", "patient": "a",
                                      "site": "liver"}  # fmt: skip
    assert content["label_type"] == "instances"
    common = {"name": "t", "task": "t", "layout": "t", "modality": data.modality, "labels": data.labels}
    (tiles / "other").mkdir()
    path = write_datalist(tiles / "other", **common, training=data.training, label_type=data.label_type)
    assert load_datalist(path).training == data.training
    # As classes, the numbers of the nuclei are values that the labels do not name.
    edit(tiles, lambda c: c.pop("label_type"))
    fails(tiles, "a/instances.png holds the values", "expected only 0, 1", deep=True)
    edit(tiles, lambda c: c.update(label_type="outlines"))
    fails(tiles, "field label_type is 'outlines', expected one of classes, instances")


def test_tiles_of_classes_are_the_default(folder):
    assert "label_type" not in json.loads((folder / "datalist.json").read_text(encoding="utf-8"))
    assert load_datalist(folder).label_type == "classes"


@pytest.mark.parametrize(
    ("name", "pixels", "text"),
    [
        ("image.png", np.zeros((8, 10, 4), np.uint8), "has 4 channels, expected 3"),
        ("image.png", np.zeros((8, 10), np.uint8), "has 1 channels, expected 3"),
        ("image.png", np.zeros((8, 10, 3), np.uint16), "16-bit unsigned integer, expected 8-bit"),
        ("image.png", np.zeros((10, 8, 3), np.uint8), "image.png has shape (8, 10), label"),
        ("instances.png", np.zeros((8, 10, 3), np.uint8), "has 3 channels, expected 1"),
    ],
)
def test_tile_headers(tiles, name, pixels, text):
    save_png(tiles / "b" / name, pixels)
    fails(tiles, f"b/{name}", text)


def test_tile_files(tiles):
    path = tiles / "b" / "image.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:-60])
    load_datalist(tiles)
    fails(tiles, f"{path}: unreadable or truncated", deep=True)
    path.write_bytes(whole[:20])
    fails(tiles, f"{path}: unreadable or truncated, expected a PNG or TIFF header")
    path.unlink()
    fails(tiles, f"{path}: no such file")


def test_instance_values(tiles):
    save_png(tiles / "a/instances.png", np.zeros((8, 10), np.uint16))
    edit(tiles, lambda c: c["test"][0].update(label="b/instances.tif"))
    label = np.zeros((8, 10), np.float32)
    label[0, 0] = 0.5
    save_png(tiles / "b/instances.tif", label)
    fails(tiles, "a/instances.png holds no object", "b/instances.tif holds fractions or negative values", deep=True)
    save_png(tiles / "b/instances.tif", np.full((8, 10), -1, np.int16))
    fails(tiles, "b/instances.tif holds fractions or negative values", deep=True)
