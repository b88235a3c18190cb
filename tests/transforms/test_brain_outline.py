import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from bundle.transforms import BrainOutlined
from bundle.transforms.brain_outline import brain_outline


def ellipsoid(shape, radii):
    centre = [(size - 1) / 2 for size in shape]
    axes = np.meshgrid(*(np.arange(size) for size in shape), indexing="ij")
    return sum(((axis - c) / r) ** 2 for axis, c, r in zip(axes, centre, radii, strict=True)) <= 1


def head(shape=(64, 56, 12), noise=0.0, seed=0):
    """A bright ellipsoid with dark ventricles, on zero or noisy background; and where it is."""
    rng = np.random.default_rng(seed)
    radii = [0.4 * size for size in shape[:2]] + [100.0] * (len(shape) - 2)
    inside = ellipsoid(shape, radii)
    ventricles = ellipsoid(shape, [0.4 * radius for radius in radii])
    image = np.where(inside, 100.0, 0.0)
    image[ventricles] = 0.0
    # Magnitude images: the noise is never negative.
    image = np.hypot(image + noise * rng.standard_normal(shape), noise * rng.standard_normal(shape))
    return image.astype(np.float32)[None], inside


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize("shape", [(64, 56), (64, 56, 12)])
def test_zero_background_is_exact(shape):
    image, inside = head(shape)
    assert np.array_equal(brain_outline(image)[0], inside)


@pytest.mark.parametrize("shape", [(64, 56), (64, 56, 12)])
@pytest.mark.parametrize("noise", [3.0, 8.0])
def test_noisy_background(shape, noise):
    image, inside = head(shape, noise)
    assert dice(brain_outline(image)[0], inside) > 0.95


def test_scale_of_intensities_does_not_matter():
    image, _ = head(noise=5.0)
    assert np.array_equal(brain_outline(image), brain_outline(image * 4096))


def test_bright_fat_does_not_hide_dim_brain():
    image, inside = head(noise=4.0)
    rim = inside & ~ellipsoid(inside.shape, [0.36 * size for size in inside.shape[:2]] + [100.0])
    image[0, rim] *= 5
    mask = brain_outline(image)[0]
    assert mask[inside].mean() > 0.99
    # The local average widens so bright a rim by a pixel: 5 % of an image of this size.
    assert dice(mask, inside) > 0.93


def test_specks_are_dropped_and_gaps_closed():
    image, inside = head((128, 112), noise=4.0)
    image[0, 2:5, 2:5] = 100.0
    # A canal through the skin, into the dark middle: all of the middle would count as outside.
    image[0, 63:65, :60] = 2.0
    mask = brain_outline(image)[0]
    assert not mask[:8, :8].any()
    assert dice(mask, inside) > 0.95


def test_all_channels_count():
    image, inside = head()
    left, right = image.copy(), image.copy()
    left[:, 32:] = 0
    right[:, :32] = 0
    mask = brain_outline(np.concatenate([left, right]))
    assert np.array_equal(mask[0], inside)
    item = {"a": torch.from_numpy(left), "b": torch.from_numpy(right)}
    assert np.array_equal(BrainOutlined(keys=["a", "b"])(item)["outline"].numpy(), mask)


def test_dictionary_transform_keeps_the_geometry():
    image, inside = head()
    affine = torch.diag(torch.tensor([1.0, 2.0, 3.0, 1.0]))
    out = BrainOutlined(keys="image", output_key="where")({"image": MetaTensor(image, affine=affine)})
    assert out["where"].dtype == torch.uint8
    assert out["where"].shape == image.shape
    assert torch.equal(out["where"].affine.float(), affine)
    assert out["where"].sum() == inside.sum()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(1, 8, 8), "single value 0"),
        (torch.full((1, 8, 8), float("nan")), "finite"),
        (torch.zeros(8, 8), "expected C×H×W"),
    ],
)
def test_bad_images_are_named(image, message):
    with pytest.raises(ValueError, match=f"x.nii.*'image'.*{message}"):
        BrainOutlined(keys="image")({"image": MetaTensor(image, meta={"filename_or_obj": "x.nii"})})


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"case P1: 'b' has spatial shape"):
        BrainOutlined(keys=["a", "b"])({"a": torch.rand(1, 8, 8), "b": torch.rand(1, 8, 9), "case": "P1"})


@pytest.mark.parametrize("shape", [(1, 16, 16), (2, 16, 16, 1)])
def test_images_that_were_scaled_before_need_no_bright_object(shape):
    dark = torch.full(shape, -1.0)
    transform = BrainOutlined(keys="image")
    assert transform({"image": dark, "intensity_range": [-1.0, 1.0]})["outline"].sum() == 0
    dark[:, 4:8, 4:8] = -0.5
    outline = transform({"image": dark, "intensity_range": [-1.0, 1.0]})["outline"]
    assert outline.shape == (1, *shape[1:])
    assert outline.sum() == 16
