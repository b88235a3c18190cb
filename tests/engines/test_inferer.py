import pytest
import torch
from monai.inferers import SliceInferer

from bundle.engines import AutocastInferer, PaddedInferer, SeededBatch, SeededInferer
from bundle.networks import MLPGenerator, ResnetGenerator


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


def test_noise_belongs_to_the_condition_and_not_to_its_batch():
    network = MLPGenerator(2, 1, noise_channels=3)
    items = [{"site": site, "index": index, "copy": copy} for site in "AB" for index in (0, 1) for copy in (0, 1)]
    conditions = torch.ones(len(items), 2, 1, 1)

    def draw(places, seed=0, active=True):
        batch = {key: [items[i][key] for i in places] for key in ("site", "index", "copy")}
        prepared = SeededBatch(seed, active)(batch | {"image": conditions[places]}, "cpu")
        inputs, target, *more = prepared
        assert target is None
        return SeededInferer(AutocastInferer(amp=False))(inputs, network, **(more[1] if more else {}))

    state = torch.get_rng_state()
    whole = draw(list(range(8)))
    assert torch.equal(torch.get_rng_state(), state)
    assert whole.unique().numel() == 8, "every site, condition and copy has its own"
    assert torch.equal(torch.cat([draw([5]), draw([3, 0])]), whole[[5, 3, 0]])
    assert not torch.equal(draw([0, 1], seed=1), whole[:2])
    assert not torch.equal(draw([0, 1], active=False), whole[:2])
