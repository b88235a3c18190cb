import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Flipd, Invertd

from bundle.transforms import ScaleIntensityForegroundd


def item(spatial=(16, 12, 6), channels=2, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.gamma(3.0, 200.0, size=(channels, *spatial)).astype(np.float32)
    outline = np.zeros((1, *spatial), dtype=np.uint8)
    outline[:, 2:-2, 2:-2] = 1
    return {
        "image": MetaTensor(torch.from_numpy(image), meta={"filename_or_obj": "P1.nii.gz"}),
        "outline": torch.from_numpy(outline),
    }


@pytest.mark.parametrize("spatial", [(16, 12), (16, 12, 6)])
def test_percentiles_of_the_foreground_become_the_ends(spatial):
    given = item(spatial)
    out = ScaleIntensityForegroundd(keys="image", lower=10, upper=90)(given)["image"]
    assert out.dtype == torch.float32
    assert out.min() == -1
    assert out.max() == 1
    inside = given["outline"][0].bool()
    assert bool((out[:, ~inside] == -1).all())
    for raw, scaled in zip(given["image"].as_tensor(), out.as_tensor(), strict=True):
        low, high = np.percentile(raw[inside].numpy(), [10, 90])
        expected = np.interp(raw[inside].numpy(), [low, high], [-1, 1])  # linear and clipped, written by others
        np.testing.assert_allclose(scaled[inside].numpy(), expected, atol=1e-5)


def test_background_does_not_count():
    given = item()
    other = item()
    other["image"][:, ~other["outline"][0].bool()] = 1e6
    transform = ScaleIntensityForegroundd(keys="image")
    assert torch.equal(transform(given)["image"].as_tensor(), transform(other)["image"].as_tensor())


def test_known_range_is_mapped_linearly_without_a_mask():
    image = torch.tensor([[[0, 51, 102, 255]]], dtype=torch.uint8)
    out = ScaleIntensityForegroundd(keys="image")({"image": image, "intensity_range": [0, 255]})["image"]
    assert out.dtype == torch.float32
    np.testing.assert_allclose(out.flatten().numpy(), [-1, -0.6, -0.2, 1], atol=1e-6)


def test_inverse_undoes_the_linear_map():
    given = item()
    transform = Compose(
        [ScaleIntensityForegroundd(keys="image", lower=0, upper=100), Flipd(keys="image", spatial_axis=0)]
    )
    back = transform.inverse(transform(given))["image"]
    inside = given["outline"][0].bool()
    np.testing.assert_allclose(back[:, inside].numpy(), given["image"][:, inside].numpy(), rtol=1e-4, atol=1e-2)


def test_invertd_brings_a_synthetic_image_to_the_scale_of_the_real_one():
    given = item()
    transform = ScaleIntensityForegroundd(keys="image", lower=0, upper=100)
    out = transform(given)
    out["synthetic"] = MetaTensor(torch.full_like(out["image"].as_tensor(), 1.0))
    back = Invertd(keys="synthetic", transform=transform, orig_keys="image")(out)["synthetic"]
    inside = given["outline"][0].bool()
    for channel, raw in zip(back.as_tensor(), given["image"].as_tensor(), strict=True):
        assert channel[0, 0, 0].item() == pytest.approx(raw[inside].max().item(), rel=1e-5)


def test_segmentations_are_not_rescaled_by_the_inverse():
    given = item(channels=1)
    transform = ScaleIntensityForegroundd(keys="image")
    out = transform(given)
    out["pred"] = MetaTensor((out["image"].as_tensor() > 0).float())
    with pytest.raises(ValueError, match="segmentation"):
        Invertd(keys="pred", transform=transform, orig_keys="image")(out)
    transform = ScaleIntensityForegroundd(keys="image", invertible=False)
    out = transform(given) | {"pred": out["pred"]}
    assert torch.equal(Invertd(keys="pred", transform=transform, orig_keys="image")(out)["pred"], out["pred"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outline": torch.zeros(1, 16, 12, 6)}, "empty"),
        ({"outline": torch.ones(1, 16, 12)}, "of shape"),
        ({"image": torch.full((1, 16, 12, 6), 7.0)}, "are both 7"),
        ({"image": torch.full((1, 16, 12, 6), float("nan"))}, "finite"),
        ({"intensity_range": [5, 5]}, "lo < hi"),
        ({"intensity_range": [5]}, "lo < hi"),
    ],
)
def test_bad_data_is_named(change, message):
    with pytest.raises(ValueError, match=f"(P1.nii.gz|case P1).*'image'.*{message}"):
        ScaleIntensityForegroundd(keys="image")(item() | {"case": "P1"} | change)


def test_missing_outline():
    given = item()
    del given["outline"]
    with pytest.raises(ValueError, match=r"P1.nii.gz.*'outline'.*'intensity_range'"):
        ScaleIntensityForegroundd(keys="image")(given)


@pytest.mark.parametrize("options", [{"lower": 60, "upper": 40}, {"upper": 101}, {"b_min": 1, "b_max": 0}])
def test_construction(options):
    with pytest.raises(ValueError, match="expected"):
        ScaleIntensityForegroundd(keys="image", **options)
