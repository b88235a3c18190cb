import pytest
import torch
from monai.data import MetaTensor

from bundle.transforms import NameByCased


@pytest.mark.parametrize(("options", "expected"), [({}, "P7.nii.gz"), ({"suffix": ".png"}, "P7.png")])
def test_the_case_names_the_file(options, expected):
    affine = torch.diag(torch.tensor([2.0, 3.0, 1.0, 1.0]))
    pred = MetaTensor(torch.ones(1, 2, 2), affine=affine, meta={"filename_or_obj": "seg.nii.gz"})
    out = NameByCased(keys="pred", **options)({"pred": pred, "case": "P7"})["pred"]
    assert out.meta["filename_or_obj"] == expected
    assert torch.equal(out.affine, affine)
    assert torch.equal(out.as_tensor(), pred.as_tensor())


def test_arrays_without_metadata():
    out = NameByCased(keys="pred", suffix=".png")({"pred": torch.ones(1, 2, 2), "case": "P7"})["pred"]
    assert out.meta["filename_or_obj"] == "P7.png"
