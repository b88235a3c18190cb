"""The synthetic data set is there whole or not at all."""

import json

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.transforms import LoadImage
from PIL import Image

from bundle.data import load_datalist
from bundle.engines import SyntheticWriter, write_nifti_slice, write_nifti_volume, write_png

GROUPS = {"core": [1, 4], "edema": [2]}


def item(index, copy=0):
    """A condition of the two classes and the outline: one pixel of each class."""
    condition = torch.zeros(3, 8, 8, dtype=torch.uint8)
    condition[0, 1, 2] = condition[1, 3, 4] = 1
    condition[2, 1:5, 1:5] = 1
    return {"image": condition, "site": "A", "index": index, "copy": copy, "condition_source": "released by site"}


def writer(folder):
    return SyntheticWriter(str(folder), GROUPS, ["flair"], "brats", write_nifti_slice)


def make(handler, fail_at=None):
    def step(engine, batch):
        if engine.state.iteration == fail_at:
            raise RuntimeError("the process ends here")
        # the first row says which condition it was; an image that does not vary is refused when it is read
        ramp = torch.linspace(-1, 1, 56).reshape(1, 7, 8)
        return [{"pred": torch.cat([torch.full((1, 1, 8), i["index"] / 10), ramp], dim=1)} for i in batch]

    engine = Engine(step)
    handler.attach(engine)
    return engine


BATCHES = [[item(0), item(1)], [item(1, copy=1)]]


def test_images_labels_and_data_list_agree(tmp_path):
    make(writer(tmp_path / "synthetic")).run(BATCHES)
    data = load_datalist(tmp_path / "synthetic", deep=True)
    assert [i["case"] for i in data.training] == ["A_00000_0", "A_00001_0", "A_00001_1"]
    assert data.labels == {0: "background", 1: "core", 2: "edema"}
    image, label = (np.asarray(LoadImage(image_only=True)(data.training[1][key])) for key in ("image", "label"))
    assert label.sum() == 3
    assert label[1, 2].item() == 1
    assert label[3, 4].item() == 2
    np.testing.assert_allclose(image[0], 0.1, rtol=1e-6)
    np.testing.assert_allclose(image[1:].ravel(), np.linspace(-1, 1, 56), rtol=1e-5)


def test_pictures_are_written_in_their_own_range_and_upright(tmp_path):
    folder = tmp_path / "synthetic"
    channels = ["red", "green", "blue"]
    handler = SyntheticWriter(str(folder), GROUPS, channels, "nuclei", write_png, ".png", intensity_range=(0, 255))

    def step(engine, batch):
        image = torch.linspace(-1, 1, 256).reshape(1, 32, 8).repeat(3, 1, 1)
        image[1] = -1
        return [{"pred": image} for _ in batch]

    engine = Engine(step)
    handler.attach(engine)
    wide = item(0) | {"image": torch.nn.functional.pad(item(0)["image"], (0, 0, 0, 24))}
    engine.run([[wide]])
    (case,) = load_datalist(folder).training
    assert case["intensity_range"] == [0.0, 255.0]
    picture = np.asarray(Image.open(case["image"]))
    assert picture.shape == (8, 32, 3)  # the first axis runs to the right
    assert picture[..., 0].T.ravel().tolist() == list(range(256))
    assert (picture[..., 1] == 0).all()
    read = np.asarray(LoadImage(image_only=True, ensure_channel_first=True)(case["image"]))
    np.testing.assert_array_equal(read[0].ravel(), np.arange(256))
    label = np.asarray(LoadImage(image_only=True)(case["label"]))
    assert (label[1, 2], label[3, 4], label.sum()) == (1, 2, 3)


def test_what_is_no_picture_is_not_written_as_one(tmp_path):
    with pytest.raises(ValueError, match=r"1 or 3 channels, got shape \(2, 4, 4\)"):
        write_png(tmp_path / "a.png", np.zeros((2, 4, 4), np.uint8))
    with pytest.raises(ValueError, match="got int64"):
        write_png(tmp_path / "a.png", np.zeros((1, 4, 4), np.int64))
    write_png(tmp_path / "a.png", np.array([[[-3.0, 0.4], [254.6, 300.0]]]))
    assert np.asarray(Image.open(tmp_path / "a.png")).tolist() == [[0, 255], [0, 255]]


def test_a_failed_run_leaves_the_former_data_set_and_the_next_run_replaces_it(tmp_path):
    folder = tmp_path / "synthetic"
    make(writer(folder)).run(BATCHES[:1])
    handler = writer(folder)
    with pytest.raises(RuntimeError, match="ends here"):
        make(handler, fail_at=2).run(BATCHES)
    assert json.loads((folder / "datalist.json").read_text(encoding="utf-8"))["numTraining"] == 2
    # the same handler once more, as a caller in Python may
    make(handler).run(BATCHES)
    assert json.loads((folder / "datalist.json").read_text(encoding="utf-8"))["numTraining"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["synthetic"]


def test_nothing_is_there_before_the_last_image(tmp_path):
    engine = make(writer(tmp_path / "synthetic"))
    seen = []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: seen.append((tmp_path / "synthetic").exists()))
    engine.run(BATCHES)
    assert seen == [False, False]
    assert (tmp_path / "synthetic" / "datalist.json").is_file()


def test_images_of_a_site_as_the_slices_of_one_case(tmp_path):
    handler = SyntheticWriter(
        str(tmp_path / "s"), GROUPS, ["value"], "toy", write_nifti_volume, ".nii", (-15, 15), as_slices=True
    )
    engine = make(handler)
    # sites may be mixed within a batch
    engine.run([[item(0), item(3) | {"site": "B"}], [item(1), item(2)]])
    data = load_datalist(tmp_path / "s", deep=True)
    assert [(i["case"], i["site"], i["intensity_range"]) for i in data.training] == [
        ("A", "A", [-15.0, 15.0]),
        ("B", "B", [-15.0, 15.0]),
    ]
    volumes = [LoadImage(image_only=True)(i["image"]) for i in data.training]
    assert [tuple(v.shape) for v in volumes] == [(8, 8, 3), (8, 8, 1)]
    np.testing.assert_allclose(np.asarray(volumes[0])[0, 0], [0, 1.5, 3], atol=1e-5)
    labels = np.asarray(LoadImage(image_only=True)(data.training[0]["label"]))
    assert labels.shape == (8, 8, 3)
    assert (labels[1, 2] == 1).all()
    engine.run([[item(0)]])
    assert [i["site"] for i in load_datalist(tmp_path / "s").training] == ["A"]
