import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from bundle.transforms import CheckSameShaped


def test_channels_may_differ_and_space_may_not():
    check = CheckSameShaped(keys=["image", "label"])
    check({"image": torch.zeros(4, 5, 6, 7), "label": torch.zeros(1, 5, 6, 7)})
    with pytest.raises(ValueError, match=r"image \(5, 6, 7\), label \(5, 6, 8\)"):
        check({"image": torch.zeros(1, 5, 6, 7), "label": torch.zeros(1, 5, 6, 8)})


def volume(affine, name):
    return MetaTensor(torch.zeros(1, 4, 4, 3), affine=torch.as_tensor(affine), meta={"filename_or_obj": name})


@pytest.mark.parametrize("other", [np.diag([1.0, -1, 3, 1]), np.eye(4), np.eye(4)[[1, 0, 2, 3]]])
def test_headers_must_put_volumes_in_one_place(other):
    affine = np.diag([-1.0, -1, 3, 1])
    check = CheckSameShaped(keys=["image", "label"])
    check({"image": volume(affine, "i.nii"), "label": volume(affine + 1e-4, "l.nii")})
    with pytest.raises(ValueError, match=r"headers differ in .*'image' \(i\.nii\) has .*L-P-S.*'label' \(l\.nii\) has"):
        check({"image": volume(affine, "i.nii"), "label": volume(other, "l.nii")})
