import pytest
import torch
from monai.data import MetaTensor

from bundle.transforms import SelectModalitiesd
from bundle.transforms.source_name import source_name


def item(spatial=(4, 5, 3)):
    image = torch.arange(4.0).view(4, *[1] * len(spatial)).expand(4, *spatial).clone()
    return {
        "image": MetaTensor(image, meta={"filename_or_obj": "P1/P1_t1.nii.gz"}),
        "modality": ("flair", "t1", "t1ce", "t2"),
    }


@pytest.mark.parametrize("spatial", [(4, 5), (4, 5, 3)])
def test_keeps_and_reorders(spatial):
    out = SelectModalitiesd(keys="image", modalities=["t2", "flair"])(item(spatial))
    assert out["modality"] == ("t2", "flair")
    assert out["image"].shape == (2, *spatial)
    assert out["image"].flatten(1)[:, 0].tolist() == [3.0, 0.0]
    assert out["image"].meta["filename_or_obj"] == "P1/P1_t1.nii.gz"


def test_one_name_is_a_modality_and_the_input_is_untouched():
    given = item()
    out = SelectModalitiesd(keys="image", modalities="t1")(given)
    assert out["image"].shape[0] == 1
    assert given["image"].shape[0] == 4
    assert given["modality"] == ("flair", "t1", "t1ce", "t2")


def test_missing_modality_names_file_wanted_and_available():
    with pytest.raises(ValueError, match=r"P1_t1.nii.gz.*'adc'.*wanted.*available.*'flair'"):
        SelectModalitiesd(keys="image", modalities=("flair", "adc"))(item())


def test_names_must_fit_the_channels():
    broken = item() | {"modality": ("flair",)}
    with pytest.raises(ValueError, match=r"P1_t1.nii.gz.*4 channel"):
        SelectModalitiesd(keys="image", modalities="flair")(broken)
    with pytest.raises(ValueError, match="none twice"):
        SelectModalitiesd(keys="image", modalities=("t1", "t1"))


def test_source_name_finds_a_name():
    assert source_name(item(), "image") == "P1/P1_t1.nii.gz"
    assert source_name({"image": "a/b.nii"}, "image") == "a/b.nii"
    assert source_name({"image": torch.zeros(1), "case": "P7"}, "image") == "case P7"
    assert source_name({}, "image") == "an unnamed file"
