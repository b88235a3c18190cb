import pytest
import torch

from bundle.transforms import CheckSameShaped


def test_channels_may_differ_and_space_may_not():
    check = CheckSameShaped(keys=["image", "label"])
    check({"image": torch.zeros(4, 5, 6, 7), "label": torch.zeros(1, 5, 6, 7)})
    with pytest.raises(ValueError, match=r"image \(5, 6, 7\), label \(5, 6, 8\)"):
        check({"image": torch.zeros(1, 5, 6, 7), "label": torch.zeros(1, 5, 6, 8)})
