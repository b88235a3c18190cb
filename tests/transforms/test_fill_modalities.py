"""Modalities that a site lacks: passed over, and filled."""

import pytest
import torch
from monai.data import MetaTensor

from bundle.transforms import FillModalitiesd, SelectModalitiesd

ALL = ("flair", "t1", "t2")


def item(**about):
    image = MetaTensor(torch.arange(2.0).view(2, 1, 1) + 1, meta={"filename_or_obj": "b.nii.gz"})
    return {"image": image, "modality": ("t2", "flair"), **about}


def test_what_the_list_says_is_absent_is_passed_over_and_then_filled():
    chosen = SelectModalitiesd(keys="image", modalities=ALL)(item(absent=("t1",)))
    assert (chosen["image"].flatten().tolist(), chosen["modality"]) == ([2, 1], ("flair", "t2"))
    filled = FillModalitiesd(keys="image", modalities=ALL)(chosen)
    assert (filled["image"].flatten().tolist(), filled["modality"]) == ([2, -1, 1], ALL)
    assert filled["image"].meta["filename_or_obj"] == "b.nii.gz"


def test_what_is_missing_otherwise_is_refused():
    with pytest.raises(ValueError, match=r"b.nii.gz.*no modality \['t1'\]"):
        SelectModalitiesd(keys="image", modalities=ALL)(item())
    with pytest.raises(ValueError, match=r"has none of \['t1'\]"):
        SelectModalitiesd(keys="image", modalities=["t1"])(item(absent=("t1",)))


def test_an_item_that_lacks_nothing_asked_for_is_left_as_it_is():
    for about in ({}, {"absent": ("pd",)}):
        whole = item(**about)
        assert FillModalitiesd(keys="image", modalities=("t2", "flair"))(whole)["image"] is whole["image"]
