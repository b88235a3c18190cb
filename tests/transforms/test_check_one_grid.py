"""Files that become channels of one image: on one grid, or refused by name before any of them is read."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from bundle.transforms import CheckOneGridd

AFFINE = np.diag([-1.0, -1, 3, 1])
SHIFT = np.eye(4)[:, [0, 3]] @ np.eye(4)[[3, 3]]
OTHER = {
    "spacing": AFFINE @ np.diag([1, 1, 0.5, 1]),
    "axes": np.diag([1.0, 1, -1, 1]) @ AFFINE,
    "origin": AFFINE + 5 * SHIFT,
    "rounding": AFFINE + 0.01 * SHIFT,
}


def save(path, affine=AFFINE, shape=(6, 5, 4)):
    nib.save(nib.Nifti1Image(np.zeros(shape, np.float32), affine), path)
    return str(path)


@pytest.mark.parametrize("what", OTHER)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII"])
def test_both_files_and_both_headers_are_named(tmp_path, what, suffix):
    files = [save(tmp_path / f"t1{suffix}"), save(tmp_path / f"t2{suffix}", OTHER[what])]
    with pytest.raises(ValueError, match=rf"differ in .*{what}.*: \S+t1\.\S+ has 6×5×4 .*t2\.\S+ has 6×"):
        CheckOneGridd("image")({"image": files})


def test_another_size_is_one_of_another_grid(tmp_path):
    files = [save(tmp_path / "a.nii"), save(tmp_path / "b.nii"), save(tmp_path / "c.nii", shape=(6, 5, 3))]
    with pytest.raises(ValueError, match=r"headers differ in size: \S+a\.nii has 6×5×4 .*; \S+c\.nii has 6×5×3"):
        CheckOneGridd("image")({"image": tuple(files)})


def test_other_formats_are_compared_too(tmp_path):
    volume = sitk.Image(6, 5, 4, sitk.sitkFloat32)
    volume.SetSpacing((1.0, 1.0, 3.0))
    files = [save(tmp_path / "a.nii.gz"), str(tmp_path / "b.nrrd")]
    sitk.WriteImage(volume, files[1])  # LPS, as the first is
    check = CheckOneGridd("image")
    check({"image": files})
    volume.SetOrigin((0.0, 0.0, 9.0))
    sitk.WriteImage(volume, files[1])
    with pytest.raises(ValueError, match=r"headers differ in origin: .*a\.nii\.gz has .*b\.nrrd has"):
        check({"image": files})


@pytest.mark.parametrize("value", ["a.nii", ["a.nii"], [], np.zeros((2, 4, 4, 4)), torch.zeros(2, 4, 4, 4), None])
def test_nothing_is_compared_with_one_file_or_an_array(value):
    assert CheckOneGridd("image")({"image": value, "case": "P1"})["case"] == "P1"


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none"):
        CheckOneGridd("image")({"image": [save(tmp_path / "a.nii"), str(tmp_path / "none.nii.gz")]})
