import torch
from monai.transforms import Compose, Resized

from bundle.transforms import CountForegroundd


def test_counts_are_in_the_pixels_of_the_data():
    label = torch.zeros(1, 20, 20, 3, dtype=torch.uint8)
    label[0, 4:9, 4:9, 1] = 4
    label[0, 0, 0, 2] = 1
    chain = Compose([CountForegroundd(keys="label"), Resized(keys="label", spatial_size=(5, 5, -1), mode="nearest")])
    result = chain({"label": label})
    assert result["foreground_pixels"].tolist() == [0, 25, 1]
    assert result["label"].shape == (1, 5, 5, 3)
    assert type(result["foreground_pixels"]) is torch.Tensor
