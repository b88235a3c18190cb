import torch
from monai.inferers import SliceInferer

from bundle.engines import AutocastInferer


def test_lists_of_layers_come_back_in_float32():
    conv = torch.nn.Conv2d(1, 2, 3, padding=1)
    x = torch.randn(1, 1, 8, 8)
    seen = []
    outputs = AutocastInferer()(x, lambda t: [seen.append(conv(t).dtype) or conv(t), conv(t) * 2])
    assert seen == [torch.bfloat16]
    assert [o.dtype for o in outputs] == [torch.float32] * 2


def test_another_inferer_can_be_wrapped():
    conv = torch.nn.Conv2d(1, 2, 3, padding=1)
    volume = torch.randn(1, 1, 8, 8, 5)
    slices = SliceInferer(spatial_dim=2, roi_size=(8, 8), sw_batch_size=2)
    whole = AutocastInferer(slices, amp=False)(volume, conv)
    expected = torch.stack([conv(volume[..., k]) for k in range(5)], dim=-1)
    torch.testing.assert_close(whole, expected)
