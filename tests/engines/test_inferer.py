import pytest
import torch
from monai.inferers import SliceInferer

from bundle.engines import AutocastInferer, PaddedInferer
from bundle.networks import ResnetGenerator


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


@pytest.mark.parametrize("size", [(8, 8), (9, 15), (6, 5)])
def test_any_size_is_padded_to_multiples_and_comes_back(size):
    seen = []

    def network(x):
        seen.append(tuple(x.shape[2:]))
        return torch.cat([x, -x], dim=1)

    inputs = torch.rand(2, 3, *size)
    outputs = PaddedInferer(divisor=4)(inputs, network)
    assert torch.equal(outputs, torch.cat([inputs, -inputs], dim=1))
    assert all(n % 4 == 0 and 0 <= n - m < 4 for n, m in zip(seen[0], size, strict=True))


def test_a_tile_in_one_piece_has_no_seams_where_windows_would_have_them():
    """Shifting a condition shifts what is drawn: no place of the tile is treated in another way."""
    torch.manual_seed(0)
    generator = ResnetGenerator(2, 3, channels=4, num_blocks=1)
    condition = torch.zeros(1, 2, 96, 96)
    condition[:, :, 40:60, 36:52] = 1
    drawn, shifted = (
        PaddedInferer(divisor=4)(c, generator) for c in (condition, torch.roll(condition, (8, -12), dims=(2, 3)))
    )
    difference = torch.roll(drawn, (8, -12), dims=(2, 3)) - shifted
    # the frame, where reflected padding is near, left out
    assert difference[..., 30:66, 30:66].abs().max() < 0.02 * drawn[..., 30:66, 30:66].std()
