"""Errors of transforms name the files."""

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, MetaTensor
from monai.transforms import Compose, Lambdad, LoadImaged, RandFlipd, Randomizable

from bundle.transforms import NamedCompose


def test_a_file_that_cannot_be_read_is_named_once(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"nothing")
    transform = NamedCompose([LoadImaged(keys=["image", "label"])])
    with pytest.raises(ValueError, match=r"a\.npy") as caught:
        transform({"image": str(tmp_path / "a.npy"), "label": str(tmp_path / "b.npy")})
    assert str(caught.value).count("a.npy") == 1
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "item",
    [
        {"image": MetaTensor(torch.zeros(1, 2), meta={"filename_or_obj": "in/x.nii"})},
        {"image": "in/x.nii", "label": np.zeros(2)},
        {"image": ["in/x.nii", "in/y.nii"]},
    ],
)
def test_arrays_are_named_by_the_file_that_they_are_from(item):
    with pytest.raises(ValueError, match=r"^in/x\.nii cannot be used: division by zero$"):
        NamedCompose([Lambdad(keys="image", func=lambda _: 1 / 0)])(item)


def test_it_is_a_compose_in_all_else():
    """A cache keeps what comes before the first random transform, and seeds reach those behind."""
    steps = [Lambdad(keys="image", func=lambda x: x + 1), RandFlipd(keys="image", prob=0.5, spatial_axis=0)]
    data = [{"image": torch.arange(4.0)[None]} for _ in range(4)]
    results = []
    for kind in (Compose, NamedCompose):
        cached = CacheDataset(data, kind(steps).set_random_state(seed=3), progress=False)
        assert torch.equal(cached._cache[0]["image"], torch.arange(1.0, 5.0)[None])
        results.append(torch.stack([cached[place]["image"] for place in range(4)]))
    assert torch.equal(*results)
    assert isinstance(NamedCompose(steps), Randomizable)
