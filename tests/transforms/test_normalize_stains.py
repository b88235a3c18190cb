import re

import numpy as np
import pytest
import torch
from monai.apps.pathology.transforms.stain.array import NormalizeHEStains
from monai.data import MetaTensor

from bundle.transforms import NormalizeStainsd

# absorbances of haematoxylin and eosin in two laboratories; columns are stains
ONE = np.array([[0.65, 0.07], [0.70, 0.99], [0.29, 0.11]])
OTHER = np.array([[0.50, 0.25], [0.75, 0.85], [0.43, 0.46]])


def tile(stains=ONE, strength=1.0, shape=(40, 30), seed=0):
    """Random amounts of the two stains, by the law of Beer and Lambert; 3×X×Y, uint8."""
    rng = np.random.default_rng(seed)
    amounts = rng.gamma(2.0, 0.35, size=(2, *shape)) * strength
    absorbed = np.tensordot(stains, amounts, axes=1)
    return torch.from_numpy((240 * np.exp(-absorbed)).clip(0, 255).astype(np.uint8))


def normalized(image, item=None, **options):
    return NormalizeStainsd(keys="image", **options)({"image": image} | (item or {}))["image"]


def monais(image, **options):
    """MONAI 1.6 takes the two stains for each other: with its references exchanged, it is right."""
    normalize = NormalizeHEStains(**options)
    normalize.target_he, normalize.max_cref = normalize.target_he[:, ::-1], normalize.max_cref[::-1]
    return normalize(image.numpy().transpose(1, 2, 0)).transpose(2, 0, 1)


def test_layout_and_values_are_monais():
    image = tile()
    out = normalized(image)
    assert out.dtype == torch.float32
    assert out.shape == image.shape
    assert np.abs(out.numpy() - monais(image)).max() <= 1  # rounding
    assert torch.equal(normalized(image.float()), out)
    options = {"alpha": 5, "beta": 0.2, "tli": 245}
    assert np.abs(normalized(image, **options).numpy() - monais(image, **options)).max() <= 1


@pytest.mark.parametrize("stains", [ONE, OTHER])
def test_each_stain_becomes_its_own_reference(stains):
    amounts = np.random.default_rng(0).gamma(2.0, 0.5, size=(2, 20, 40))
    amounts[1, :, :20] = amounts[0, :, 20:] = 0  # haematoxylin alone on one half, eosin alone on the other
    image = (240 * np.exp(-np.tensordot(stains, amounts, axes=1))).astype(np.uint8)
    out = normalized(torch.from_numpy(image)).numpy()
    for half, reference in ((out[..., :20], (0.5626, 0.7201, 0.4062)), (out[..., 20:], (0.2159, 0.8012, 0.5581))):
        absorbed = -np.log((half.reshape(3, -1) + 1).clip(max=240) / 240).mean(axis=1)
        np.testing.assert_allclose(absorbed / np.linalg.norm(absorbed), reference, atol=0.06)


def test_two_laboratories_come_closer():
    pair = tile(ONE, 1.0), tile(OTHER, 1.6)
    before = [image.float().mean(dim=(1, 2)) for image in pair]
    after = [normalized(image).as_tensor().mean(dim=(1, 2)) for image in pair]
    assert (after[0] - after[1]).norm() < 0.2 * (before[0] - before[1]).norm()
    apart = (pair[0].float() - pair[1].float()).abs().mean()
    assert (normalized(pair[0]) - normalized(pair[1])).abs().mean() < 0.3 * apart


def test_turns_go_through():
    image = tile()
    assert torch.equal(normalized(image.transpose(1, 2)).as_tensor(), normalized(image).as_tensor().transpose(1, 2))


def test_what_passes():
    image = tile()
    assert normalized(image, enabled=False) is image
    assert normalized(image, {"intensity_range": [0, 255]}) is image
    assert normalized(image, {"intensity_range": None}) is not image


def test_metadata_stays():
    image = MetaTensor(tile(), affine=torch.diag(torch.tensor([2.0, 3.0, 1.0, 1.0])), meta={"filename_or_obj": "T7"})
    out = normalized(image)
    assert torch.equal(out.affine, image.affine)
    assert out.meta["filename_or_obj"] == "T7"


def one_stain():
    return tile(np.repeat(ONE[:, :1], 2, axis=1))


def one_pixel():
    image = torch.full((3, 8, 8), 255)
    image[:, 3, 3] = torch.tensor([90, 60, 150])
    return image


# NumPy warns of a covariance of one pixel before it fails
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.full((3, 8, 8), 255), "two stains"),
        (torch.full((3, 8, 8), 0), "two stains"),
        (torch.tensor([90, 60, 150]).reshape(3, 1, 1).expand(3, 8, 8), "two stains"),
        (one_pixel(), "two stains"),
        (one_stain(), "two stains"),
        (tile()[:1], "3×X×Y"),
        (tile().float() - 200, "from 0 to 255"),
        (tile().float() * 2, "from 0 to 255"),
        (torch.full((3, 8, 8), float("nan")), "from 0 to 255"),
    ],
)
def test_bad_tiles_are_named(image, message):
    with pytest.raises(ValueError, match=f"case T7.*'image'.*{message}"):
        normalized(image, {"case": "T7"})


def test_a_white_tile_may_pass(caplog):
    white = torch.full((3, 8, 8), 250, dtype=torch.uint8)
    out = normalized(white, {"case": "T7"}, required=False)
    (record,) = caplog.records
    assert re.search("case T7.*two stains.*stay as they are", record.getMessage())
    assert out.dtype == torch.float32
    assert torch.equal(out, white.float())
    with pytest.raises(ValueError, match="3×X×Y"):
        normalized(white[:1], required=False)
    assert torch.equal(normalized(tile(), required=False), normalized(tile()))
