"""The evaluation as configured, with a segmenter whose answer is known."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from small_sites import ThresholdSegmenter

from bundle.data.datalist import write_datalist
from bundle.workflows import SegmentationWorkflow

ROOT = Path(__file__).resolve().parents[2]
SHAPE, SPACING = (40, 48, 6), (2.0, 1.0, 3.0)


def write_case(folder, tumor, label_value=4):
    """A head of 100 with a tumour of 200, in an orientation that is not RAS, on a grid that is not square."""
    folder.mkdir(parents=True)
    affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
    image, label = np.zeros(SHAPE, np.int16), np.zeros(SHAPE, np.uint8)
    image[4:36, 6:42, 1:] = 100
    image[tumor], label[tumor] = 200, label_value
    for name, array in (("flair", image), ("seg", label)):
        nib.save(nib.Nifti1Image(array, affine), folder / f"{name}.nii.gz")
    return {
        "image": [str(folder / "flair.nii.gz")],
        "label": str(folder / "seg.nii.gz"),
        "case": folder.name,
        "patient": folder.name,
        "site": "A",
    }


@pytest.fixture
def data(tmp_path):
    # off the centre in every direction: a flip or a swap of axes on the way back would show
    tumors = {"first": np.s_[8:16, 10:26, 2:4], "second": np.s_[20:34, 30:40, 4:6]}
    items = [write_case(tmp_path / "data" / case, tumor) for case, tumor in tumors.items()]
    # bright, and no tumour
    items.append(write_case(tmp_path / "data" / "none", tumors["first"], label_value=0))
    training = [write_case(tmp_path / "data" / "training", tumors["first"])]
    labels = {0: "background", 1: "core", 2: "edema", 4: "enhancing"}
    about = {"name": "known", "task": "brats", "layout": "brats", "modality": ["flair"], "labels": labels}
    write_datalist(tmp_path / "data" / "datalist.json", **about, training=training, test=items)
    return tmp_path / "data"


def evaluate(data, **overrides):
    output = data.parent / "run"
    (output / "segmenter").mkdir(parents=True, exist_ok=True)
    torch.save(ThresholdSegmenter().state_dict(), output / "segmenter" / "segmenter.pt")
    overlay = data.parent / "known.yaml"
    overlay.write_text(
        "segmenter_def: {_target_: small_sites.ThresholdSegmenter, _mode_: callable}\n", encoding="utf-8"
    )
    files = [ROOT / "configs" / f"{name}.yaml" for name in ("evaluate", "brats", "demo")]
    given = {"dataset_dir": str(data), "output_dir": str(output), "setting": "real_all", "amp": False, "device": "cpu"}
    workflow = SegmentationWorkflow(config_file=[*map(str, files), str(overlay)], **given, **overrides)
    workflow.initialize()
    workflow.run()
    text = (output / "evaluation" / "metrics.json").read_text(encoding="utf-8")
    return output / "evaluation", json.loads(text, parse_constant=pytest.fail)["metrics"]


@pytest.mark.parametrize("image_size", [48, 96])
def test_the_way_to_the_segmenter_and_back_keeps_every_voxel_in_its_place(data, image_size):
    # 40×48 resized to 48 or 96 and back: edges may blur by less than a voxel
    folder, metrics = evaluate(data, image_size=image_size)
    for case in ("first", "second"):
        assert metrics["dice"]["per_case"][case] > 0.9
        assert metrics["sensitivity"]["per_case"][case] > 0.9
        assert metrics["specificity"]["per_case"][case] > 0.99
        assert metrics["hd95"]["per_case"][case] <= SPACING[0]
        prediction, truth = (nib.load(p) for p in (folder / f"predictions/{case}.nii.gz", data / case / "seg.nii.gz"))
        np.testing.assert_allclose(prediction.affine, truth.affine)
        assert prediction.shape == truth.shape
        # in the first of the group's values: 1 stands for 1, 2 and 4
        assert set(np.unique(np.asarray(prediction.dataobj))) == {0, 1}
        differing = (np.asarray(prediction.dataobj) > 0) != (np.asarray(truth.dataobj) > 0)
        assert differing.mean() < 0.01


CLASSES = {"core": [1], "edema": [2], "enhancing": [4]}


class ClassSegmenter(torch.nn.Module):
    """Segments by brightness: 100 and more is the third class's 200; the second class is never found."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(50.0))

    def forward(self, x):
        never = torch.full_like(x, -1e3)
        return torch.cat([-self.scale * x, never, never, self.scale * x], dim=1)


def test_every_class_has_a_dice_of_its_own_beside_that_of_any(data, monkeypatch):
    """Known answers: all that is found is called enhancing; of the second case, half is edema in the reference."""
    monkeypatch.setattr("small_sites.ThresholdSegmenter", ClassSegmenter)
    monkeypatch.setitem(globals(), "ThresholdSegmenter", ClassSegmenter)
    path = data / "second" / "seg.nii.gz"
    label = nib.load(path)
    values = np.asarray(label.dataobj).copy()
    values[20:27][values[20:27] > 0] = 2
    nib.save(nib.Nifti1Image(values, label.affine), path)
    folder, metrics = evaluate(data, image_size=48, label_groups=CLASSES)
    one = {name: metrics[f"dice:{name}"]["per_case"] for name in CLASSES}
    union = metrics["dice"]["per_case"]
    assert one["enhancing"]["first"] == pytest.approx(union["first"])
    assert union["second"] > 0.9
    assert one["enhancing"]["second"] == pytest.approx(2 * 0.5 / (0.5 + 1.0), abs=0.05)  # half of what it found
    assert one["edema"] == {"first": 1.0, "second": 0.0, "none": 1.0}
    assert one["core"] == {"first": 1.0, "second": 1.0, "none": 1.0}
    assert metrics["dice:edema"]["mean"] == pytest.approx(2 / 3)
    assert set(np.unique(np.asarray(nib.load(folder / "predictions/first.nii.gz").dataobj))) == {0, 4}


def test_of_one_class_there_is_one_dice(data):
    _, metrics = evaluate(data, image_size=48)
    assert [name for name in metrics if name.startswith("dice")] == ["dice", "dice_tumor_slices"]


def test_a_volume_of_one_slice_is_scored_and_keeps_its_shape(data):
    for name in ("flair", "seg"):
        path = data / "first" / f"{name}.nii.gz"
        volume = nib.load(path)
        nib.save(volume.slicer[:, :, 3:4], path)
    folder, metrics = evaluate(data, image_size=48)
    assert nib.load(folder / "predictions/first.nii.gz").shape == (*SHAPE[:2], 1)
    assert metrics["dice"]["per_case"]["first"] > 0.9


def test_cases_whose_files_share_a_name_do_not_overwrite_each_other(data):
    folder, _ = evaluate(data, image_size=48)
    assert sorted(p.name for p in (folder / "predictions").iterdir()) == [
        "first.nii.gz",
        "none.nii.gz",
        "second.nii.gz",
    ]


def test_a_case_without_tumour_has_no_sensitivity_and_leaves_the_means_alone(data):
    _, metrics = evaluate(data, image_size=48)
    assert metrics["sensitivity"]["per_case"]["none"] is None
    assert metrics["dice_tumor_slices"]["per_case"]["none"] is None
    for name in ("sensitivity", "dice_tumor_slices"):
        values = [metrics[name]["per_case"][case] for case in ("first", "second")]
        assert metrics[name]["mean"] == pytest.approx(sum(values) / 2)
