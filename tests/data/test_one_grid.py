"""Image and label, and the modalities of a case, lie voxel on voxel, or somebody says what is right."""

import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from bundle.cli.main import main
from bundle.data.datalist import load_datalist
from bundle.data.errors import DataError
from bundle.data.geometry import image_affine, right_angles, set_affine

AFFINE = np.array([[-1.0, 0, 0, 12], [0, -1, 0, 12], [0, 0, 3, -10], [0, 0, 0, 1]])
SHIFT = np.zeros((4, 4))
SHIFT[0, 3] = 1.0
TURN = np.eye(4)
TURN[:2, :2] = [[np.cos(0.05), -np.sin(0.05)], [np.sin(0.05), np.cos(0.05)]]
OTHER = {
    "identity": np.eye(4),
    "shifted": AFFINE + 30 * SHIFT,
    "shifted a little": AFFINE + 0.2 * SHIFT,
    "spacing": AFFINE @ np.diag([2.0, 2, 1, 1]),
    "mirrored": np.diag([-1.0, 1, 1, 1]) @ AFFINE,
    "permuted": AFFINE[:, [1, 2, 0, 3]],
    "turned": TURN @ AFFINE,
}
WITHIN = {
    "rounded": AFFINE + 0.002 * np.eye(4)[[1, 0, 3, 2]] * (np.arange(4) < 3)[:, None],
    "a twentieth of a voxel": AFFINE + 0.05 * SHIFT,
}


def arrays():
    y, x = np.mgrid[:24, :24]
    head, tumour = (x - 12) ** 2 + (y - 12) ** 2 < 100, (x - 17) ** 2 + (y - 15) ** 2 < 9
    image = np.repeat((head * 300.0 + tumour * 600)[..., None], 6, 2)
    noise = np.random.default_rng(0).normal(0, 20, image.shape)
    image = (image + noise * head[..., None]).astype(np.float32)
    return image, np.repeat(tumour[..., None] * 2, 6, 2).astype(np.uint8)


def save(path, array, affine):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


def write_case(source, layout, label_affine, label=None):
    """One case whose label has a header of its own, as a layout has it."""
    image, own = arrays()
    label = own if label is None else label
    if layout == "msd":
        channels = np.stack([image, image + 1, image * 2, image * 3], axis=-1)
        save(source / "imagesTr/BRATS_1.nii.gz", channels, AFFINE)
        save(source / "labelsTr/BRATS_1.nii.gz", label, label_affine)
        content = {"modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
                   "training": [{"image": "imagesTr/BRATS_1.nii.gz", "label": "labelsTr/BRATS_1.nii.gz"}]}  # fmt: skip
        (source / "dataset.json").write_text(json.dumps(content))
    else:
        save(source / "a/a_flair.nii.gz", image, AFFINE)
        save(source / "a/a_seg.nii.gz", label, label_affine)


def prepare(source, output, layout, *arguments):
    modalities = [] if layout == "msd" else ["--modalities", "flair"]
    labels = ["--labels", "0=background", "2=tumour"]
    words = ["prepare", layout, str(source), "--output", str(output), "--sites", "single", "--test_fraction", "0"]
    return main([*words, *modalities, *labels, *arguments])


@pytest.mark.parametrize("layout", ["brats", "tcga_lgg", "msd", "volumes"])
@pytest.mark.parametrize("kind", ["identity", "shifted", "permuted"])
def test_every_layout_refuses_a_label_with_another_header(tmp_path, capsys, layout, kind):
    write_case(tmp_path / "source", layout, OTHER[kind])
    assert prepare(tmp_path / "source", tmp_path / "out", layout) == 2
    message = capsys.readouterr().err
    assert "headers differ in" in message
    assert "24×24×6 voxels of 1×1×3 mm, axes to L-P-S, origin (12, 12, -10)" in message
    assert "--trust" in message
    assert not (tmp_path / "out" / "datalist.json").exists()


@pytest.mark.parametrize("kind", OTHER)
def test_neither_a_training_nor_resampling_takes_it(tmp_path, capsys, kind):
    write_case(tmp_path / "source", "brats", AFFINE)
    assert prepare(tmp_path / "source", tmp_path / "out", "brats") == 0
    save(tmp_path / "source/a/a_seg.nii.gz", arrays()[1], OTHER[kind])
    with pytest.raises(DataError, match=r"case a: headers differ in .*a_flair\.nii\.gz has .*a_seg\.nii\.gz has"):
        load_datalist(tmp_path / "out")
    assert prepare(tmp_path / "source", tmp_path / "other", "brats", "--resample", "2") == 2
    assert "headers differ in" in capsys.readouterr().err


@pytest.mark.parametrize("kind", WITHIN)
def test_rounding_passes(tmp_path, kind):
    write_case(tmp_path / "source", "brats", WITHIN[kind])
    assert prepare(tmp_path / "source", tmp_path / "out", "brats") == 0
    assert prepare(tmp_path / "source", tmp_path / "converted", "volumes") == 0
    item = load_datalist(tmp_path / "converted", deep=True).training[0]
    np.testing.assert_array_equal(nib.load(item["label"]).affine, nib.load(item["image"][0]).affine)


def tumour_mean(folder):
    item = load_datalist(folder, deep=True).training[0]
    image, label = nib.load(item["image"][0]), nib.load(item["label"])
    np.testing.assert_array_equal(image.affine, label.affine)
    return image.get_fdata()[np.asarray(label.dataobj) > 0].mean()


@pytest.mark.parametrize("resample", [(), ("--resample", "1")])
@pytest.mark.parametrize("kind", OTHER)
def test_who_trusts_arrays_gets_the_label_on_its_tumour(tmp_path, kind, resample):
    write_case(tmp_path / "source", "brats", OTHER[kind])
    assert prepare(tmp_path / "source", tmp_path / "out", "brats", "--trust", "label-array", *resample) == 0
    assert tumour_mean(tmp_path / "out") > 800
    rule = json.loads((tmp_path / "out" / "datalist.json").read_text(encoding="utf-8"))["site_rule"]
    assert rule["trust"] == "label-array"


@pytest.mark.parametrize("resample", [(), ("--resample", "1")])
def test_who_trusts_headers_gets_the_label_resampled(tmp_path, capsys, resample):
    # the same tumour, drawn on another series: mirrored, with more slices and shifted by whole voxels
    label = np.repeat(arrays()[1][::-1], 3, axis=2)
    affine = AFFINE @ np.diag([-1, 1, 1 / 3, 1])
    affine[:3, 3] += (-23, 0, -1)
    write_case(tmp_path / "source", "brats", affine, label)
    assert prepare(tmp_path / "source", tmp_path / "out", "brats", "--trust", "image-header", *resample) == 0
    assert tumour_mean(tmp_path / "out") > 800
    # arrays of different shapes cannot lie voxel on voxel
    assert prepare(tmp_path / "source", tmp_path / "other", "brats", "--trust", "label-array") == 2
    assert "cannot lie voxel on voxel: flair 24×24×6, seg 24×24×18" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("--trust", "image-header"), ("--trust", "image-header", "--resample", "1")])
def test_a_label_that_would_be_emptied_is_an_error(tmp_path, capsys, arguments):
    write_case(tmp_path / "source", "brats", OTHER["shifted"])
    assert prepare(tmp_path / "source", tmp_path / "out", "brats", *arguments) == 2
    assert "ml of the label 0 ml are left" in capsys.readouterr().err


def test_resampling_of_other_shapes_does_not_lose_the_label_silently(tmp_path, capsys):
    label = arrays()[1][..., :5]
    elsewhere = AFFINE.copy()
    elsewhere[:3, 3] += 500.5
    write_case(tmp_path / "source", "brats", elsewhere, label)
    assert prepare(tmp_path / "source", tmp_path / "out", "brats", "--resample", "2") == 2
    assert "ml of the label 0 ml are left" in capsys.readouterr().err
    write_case(tmp_path / "source", "brats", AFFINE, label)
    assert prepare(tmp_path / "source", tmp_path / "out", "brats", "--resample", "1") == 0
    assert tumour_mean(tmp_path / "out") > 800


@pytest.mark.parametrize("layout", ["brats", "volumes"])
@pytest.mark.parametrize("kind", ["identity", "mirrored"])
def test_modalities_of_a_case(tmp_path, capsys, layout, kind):
    write_case(tmp_path / "source", layout, AFFINE)
    save(tmp_path / "source/a/a_t2.nii.gz", arrays()[0] * 2, OTHER[kind])
    arguments = ("--modalities", "flair", "t2")
    assert prepare(tmp_path / "source", tmp_path / "out", layout, *arguments) == 2
    assert "headers differ in" in capsys.readouterr().err
    assert prepare(tmp_path / "source", tmp_path / "out", layout, *arguments, "--trust", "label-array") == 0
    assert prepare(tmp_path / "source", tmp_path / "out", layout, "--modalities", "flair") == 0


def test_modalities_that_differ_by_rounding_are_refused_where_monai_would(tmp_path, capsys):
    write_case(tmp_path / "source", "brats", AFFINE)
    rounded = AFFINE.copy()
    rounded[0, 0] *= 1.001
    save(tmp_path / "source/a/a_t2.nii.gz", arrays()[0] * 2, rounded)
    arguments = ("--modalities", "flair", "t2")
    assert prepare(tmp_path / "source", tmp_path / "out", "brats", *arguments) == 2
    assert "differ by rounding" in capsys.readouterr().err
    assert prepare(tmp_path / "source", tmp_path / "out", "brats", *arguments, "--trust", "label-array") == 0
    load_datalist(tmp_path / "out", deep=True)


def test_itk_formats_of_a_data_list_are_compared_too(tmp_path):
    write_case(tmp_path / "source", "brats", AFFINE)
    assert prepare(tmp_path / "source", tmp_path / "out", "brats") == 0
    label = sitk.GetImageFromArray(arrays()[1].T)
    content = json.loads((tmp_path / "out" / "datalist.json").read_text(encoding="utf-8"))
    content["training"][0]["label"] = str(tmp_path / "seg.nrrd")
    (tmp_path / "out" / "datalist.json").write_text(json.dumps(content))
    set_affine(label, AFFINE)
    sitk.WriteImage(label, str(tmp_path / "seg.nrrd"))
    load_datalist(tmp_path / "out")
    label.SetOrigin((0, 0, 0))
    sitk.WriteImage(label, str(tmp_path / "seg.nrrd"))
    with pytest.raises(DataError, match="headers differ in origin"):
        load_datalist(tmp_path / "out")


def test_affine_matrices_of_both_libraries():
    image = sitk.Image([4, 5, 6], sitk.sitkUInt8)
    set_affine(image, TURN @ AFFINE)
    np.testing.assert_allclose(image_affine(image), TURN @ AFFINE, atol=1e-12)
    straight, shear = right_angles(AFFINE)
    np.testing.assert_allclose(straight, AFFINE)
    assert shear == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("layout", ["brats", "volumes", "msd"])
@pytest.mark.parametrize("shear", [0.0005, 0.005])
def test_axes_that_are_nearly_at_right_angles(tmp_path, layout, shear):
    sheared = AFFINE.copy()
    sheared[0, 2] = 3 * shear
    image, _ = arrays()
    write_case(tmp_path / "source", layout, sheared)
    if layout == "msd":
        save(
            tmp_path / "source/imagesTr/BRATS_1.nii.gz", np.stack([image, image + 1, image * 2, image * 3], -1), sheared
        )
    else:
        save(tmp_path / "source/a/a_flair.nii.gz", image, sheared)
    assert prepare(tmp_path / "source", tmp_path / "out", layout, "--resample", "1") == 0
    assert tumour_mean(tmp_path / "out") > 800


def test_axes_that_are_not_at_right_angles_are_called_so(tmp_path, capsys):
    sheared = AFFINE.copy()
    sheared[0, 2] = 0.9
    write_case(tmp_path / "source", "volumes", sheared)
    save(tmp_path / "source/a/a_flair.nii.gz", arrays()[0], sheared)
    assert prepare(tmp_path / "source", tmp_path / "out", "volumes") == 2
    message = capsys.readouterr().err
    assert "a_flair.nii.gz: its axes are not at right angles (direction cosines are off by 0.1" in message
    assert "truncated" not in message
