import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from skimage.color import combine_stains, rgb_from_hed, separate_stains

from bundle.transforms import RandStainStrengthd, scale_stains

STAINS = rgb_from_hed[:2] / np.linalg.norm(rgb_from_hed[:2], axis=1, keepdims=True)


def stained(haematoxylin, eosin):
    """Pixels of these amounts, by the law of Beer and Lambert; 3×1×N, 0 to 255."""
    absorbed = np.tensordot(STAINS.T, np.array([haematoxylin, eosin], dtype=float), axes=1)
    return torch.from_numpy(256 * np.exp(-absorbed) - 1)[:, None].float()


def random_tile(seed=0, low=60, high=240):
    return torch.randint(low, high, (3, 8, 8), generator=torch.Generator().manual_seed(seed)).float()


def test_amounts_of_stains_are_multiplied():
    amounts = [0.2, 0.9, 0.4, 0.0], [0.1, 0.3, 0.0, 0.5]
    out = scale_stains(stained(*amounts), (1.5, 0.5))
    expected = stained(np.multiply(amounts[0], 1.5), np.multiply(amounts[1], 0.5))
    torch.testing.assert_close(out, expected, atol=1e-3, rtol=0)


def test_what_is_neither_stain_stays():
    residual = np.cross(*STAINS)
    assert residual.min() < 0  # lets light of a colour pass that both stains take: on top of some of both
    tile = stained([0.8], [0.8]) * torch.from_numpy(np.exp(-0.1 * residual)).float()[:, None, None]
    changed = torch.log((scale_stains(tile, (1.4, 0.8)) + 1) / (tile + 1)).flatten().double()
    assert abs(float(changed @ torch.from_numpy(residual / np.linalg.norm(residual)))) < 1e-5


def test_scikit_image_has_the_same():
    """Its logarithm has no grey level added, so dark values differ by a little."""
    tile = random_tile()
    residual = np.cross(*STAINS)
    matrix = np.stack([*STAINS, residual / np.linalg.norm(residual)])
    amounts = separate_stains(tile.numpy().transpose(1, 2, 0) / 255, np.linalg.inv(matrix))
    inside = (amounts > 0).all(axis=-1)  # it cuts negative amounts off
    assert inside.any()
    rgb = combine_stains(amounts * [1.3, 0.7, 1.0], matrix).transpose(2, 0, 1) * 255
    assert np.abs(scale_stains(tile, (1.3, 0.7)).numpy() - rgb)[:, inside].max() < 1.0


def test_there_and_back_in_any_range():
    tile = random_tile()
    assert torch.allclose(scale_stains(tile, (1.0, 1.0)), tile, atol=1e-3)
    there = scale_stains(tile, (1.2, 0.8))
    assert (there - tile).abs().max() > 5
    inside = ((there > 0) & (there < 255)).all(dim=0)
    assert torch.allclose(scale_stains(there, (1 / 1.2, 1 / 0.8))[:, inside], tile[:, inside], atol=0.01)
    scaled = scale_stains(tile / 127.5 - 1, (1.2, 0.8), value_range=(-1, 1))
    assert torch.allclose(scaled, there / 127.5 - 1, atol=1e-4)


def test_black_and_white_stay_in_the_range():
    ends = torch.tensor([0, 255], dtype=torch.uint8).expand(3, 1, 2)
    out = scale_stains(ends, (2.0, 2.0))
    assert out.dtype == torch.float32
    assert torch.isfinite(out).all()
    assert out[:, 0, 0].tolist() == [0, 0, 0]
    assert torch.allclose(out[:, 0, 1], torch.full((3,), 255.0))


def test_factors_are_drawn_for_every_tile():
    restain = RandStainStrengthd(keys="image", prob=1.0, factor=2.0).set_random_state(seed=0)
    tile = random_tile() / 127.5 - 1
    drawn = []
    for _ in range(50):
        out = restain({"image": tile, "label": 3})
        assert out["label"] == 3
        assert torch.equal(out["image"], scale_stains(tile, restain.strengths, (-1, 1)))
        drawn.append(restain.strengths)
    logs = np.log2(drawn)
    assert np.abs(logs).max() <= 1
    assert logs.min(axis=0).max() < -0.7
    assert logs.max(axis=0).min() > 0.7
    assert abs(np.corrcoef(logs.T)[0, 1]) < 0.4
    restain.set_random_state(seed=0)
    restain({"image": tile})
    assert restain.strengths == drawn[0]


def test_probability_and_metadata():
    tile = MetaTensor(torch.zeros(3, 4, 4), meta={"filename_or_obj": "T7"})
    assert RandStainStrengthd(keys="image", prob=0.0)({"image": tile})["image"] is tile
    out = RandStainStrengthd(keys="image", prob=1.0, factor=3)({"image": tile})["image"]
    assert out.meta["filename_or_obj"] == "T7"
    restain = RandStainStrengthd(keys="image", prob=0.3).set_random_state(seed=1)
    changed = sum(restain({"image": tile})["image"] is not tile for _ in range(300))
    assert 60 < changed < 120


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"factor: expected at least 1, got 0\.5"):
        RandStainStrengthd(keys="image", factor=0.5)
    grey = RandStainStrengthd(keys="image", prob=1.0)
    with pytest.raises(ValueError, match=r"case T7.*'image'.*3×X×Y, got shape \(1, 4, 4\)"):
        grey({"image": torch.zeros(1, 4, 4), "case": "T7"})
