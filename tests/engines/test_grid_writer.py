"""A mask has the shape of its volume."""

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage, SaveImage

from bundle.engines import GridNiftiWriter


@pytest.mark.parametrize("shape", [(6, 5, 1), (6, 1, 1), (1, 5, 4), (6, 5, 4)])
def test_what_is_read_is_what_was_written(shape, tmp_path):
    affine = torch.diag(torch.tensor([2.0, 2.0, 5.0, 1.0]))
    array = torch.arange(int(np.prod(shape)), dtype=torch.uint8).reshape(1, *shape)
    mask = MetaTensor(array, affine=affine, meta={"filename_or_obj": "case.nii.gz", "original_affine": affine})
    save = SaveImage(
        tmp_path,
        output_postfix="seg",
        writer=GridNiftiWriter,
        output_dtype=np.uint8,
        separate_folder=False,
        resample=False,
        print_log=False,
    )
    save(mask)
    written = nib.load(tmp_path / "case_seg.nii.gz")
    assert written.shape == shape
    np.testing.assert_array_equal(np.asarray(written.dataobj), array[0])
    np.testing.assert_allclose(written.affine, affine)
    again = LoadImage(ensure_channel_first=True)(tmp_path / "case_seg.nii.gz")
    assert again.shape == (1, *shape)


def test_channels_stay_channels(tmp_path):
    image = MetaTensor(torch.rand(2, 6, 5, 1), meta={"filename_or_obj": "case.nii.gz"})
    save = SaveImage(tmp_path, output_postfix="x", writer=GridNiftiWriter, separate_folder=False, print_log=False)
    save(image)
    assert nib.load(tmp_path / "case_x.nii.gz").shape == (6, 5, 1, 2)
