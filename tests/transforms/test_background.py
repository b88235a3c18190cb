"""MRI that somebody has normalised has the outline and the scaling of the raw image, whatever its background became."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from bundle.transforms import BrainOutlined, ScaleIntensityForegroundd
from bundle.transforms.background import is_raw, lift
from bundle.transforms.brain_outline import brain_outline

SHAPE = (72, 64, 6)


def volume(stripped):
    """A head with dark and bright tissue, whole numbers as from a scanner; background 0, or noise around the skin."""
    rng = np.random.default_rng(3)
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE), indexing="ij")
    radius = (x / 0.8) ** 2 + (y / 0.8) ** 2
    tissue = 90 + 60 * ndimage.gaussian_filter(rng.standard_normal(SHAPE), (5, 5, 0)) / 0.06
    tissue = np.clip(np.where((x - 0.3) ** 2 + y**2 < 0.02, 230, tissue), 25, 240)
    image = np.where(radius < 1, tissue, 0)
    if stripped:
        return np.rint(image).astype(np.float32)
    skin = (radius >= 1) & (radius < 1.15)
    image = np.where(skin, 220, image)
    return np.rint(np.hypot(image + 2 * rng.standard_normal(SHAPE), 2 * rng.standard_normal(SHAPE))).astype(np.float32)


def standard(image, where):
    return (image - image[where].mean()) / image[where].std()


def scaled(image, low, high):
    return low + (image - image.min()) / (image.max() - image.min()) * (high - low)


def inside_standard(image, background):
    return np.where(image != 0, standard(image, image != 0), background)


def padded(image, value):
    return np.pad(image, ((9, 9), (9, 9), (0, 0)), constant_values=value)


NORMALISED = {
    "zero mean, all voxels": lambda image: standard(image, np.ones(SHAPE, dtype=bool)),
    "zero mean, background 0": lambda image: inside_standard(image, 0),
    "zero mean, background minimum": lambda image: inside_standard(image, inside_standard(image, 0).min()),
    "zero mean, background -5": lambda image: inside_standard(image, -5),
    "zero mean, background -9": lambda image: inside_standard(image, -9),
    "clipped, zero mean, background 0": lambda image: inside_standard(
        np.where(image != 0, np.clip(image, *np.percentile(image[image != 0], [0.5, 99.5])), 0), 0
    ),
    "0 to 1": lambda image: scaled(image, 0, 1),
    "-1 to 1": lambda image: scaled(image, -1, 1),
    "zero mean, background 0, 0 to 1": lambda image: scaled(inside_standard(image, 0), 0, 1),
    "zero mean, background 0, -1 to 1": lambda image: scaled(inside_standard(image, 0), -1, 1),
    "negative brain, background 0": lambda image: np.where(image != 0, image - image.max() - 1, 0),
    "background -1024": lambda image: np.where(image != 0, image, -1024),
    "raw, padded by -1024": lambda image: padded(image, -1024),
    "zero mean, padded by -9": lambda image: padded(standard(image, np.ones(SHAPE, dtype=bool)), -9),
}


def outline_and_scaled(image):
    item = BrainOutlined(keys="image")({"image": torch.from_numpy(image[None].astype(np.float32))})
    item = ScaleIntensityForegroundd(keys="image", invertible=False)(item)
    crop = tuple(
        slice((have - want) // 2, (have - want) // 2 + want) for have, want in zip(image.shape, SHAPE, strict=True)
    )
    return np.asarray(item["outline"])[0].astype(bool)[crop], np.asarray(item["image"])[0][crop]


@pytest.mark.parametrize("stripped", [True, False], ids=["stripped", "whole head"])
@pytest.mark.parametrize("kind", NORMALISED)
def test_the_outline_and_the_scaling_are_those_of_the_raw_image(kind, stripped):
    raw = volume(stripped)
    outline, image = outline_and_scaled(raw)
    found, other = outline_and_scaled(NORMALISED[kind](raw))
    assert 2 * (found & outline).sum() / (found.sum() + outline.sum()) >= 0.98
    both = found & outline
    # padding may take or leave a rim, and percentiles with it; "clipped" was clipped
    assert np.abs(other - image)[both].mean() < 0.05
    assert (other[~found] == -1).all()


@pytest.mark.parametrize("stripped", [True, False])
def test_raw_images_are_left_alone(stripped):
    raw = volume(stripped)
    ringing = raw.copy()
    ringing[10:12, 30, 2] = -60  # as resampling leaves at edges
    for image in (raw, raw.astype(np.int16), raw / 7, raw * 4096, ringing):
        assert is_raw(image)
        assert lift(image) is image


def test_the_background_inside_of_a_brain_is_dark_whatever_it_was_set_to():
    raw = volume(stripped=True)
    raw[30:36, 20:26] = 0  # a cavity that a mask has left out
    _, expected = outline_and_scaled(raw)
    for background in (0, -5):
        outline, image = outline_and_scaled(inside_standard(raw, background))
        assert outline[30:36, 20:26].all()
        assert (image[30:36, 20:26] == expected[30:36, 20:26]).all()


def test_padding_that_hardly_reaches_the_border_is_no_tissue():
    raw = volume(stripped=False)
    image = standard(raw, np.ones(SHAPE, dtype=bool))
    image[10:14, 3:8] = -9  # somebody has taken a thing beside the head out
    found, expected = brain_outline(image[None])[0], brain_outline(raw[None])[0]
    assert 2 * (found & expected).sum() / (found.sum() + expected.sum()) >= 0.98


def test_every_channel_has_a_background_of_its_own():
    raw = volume(stripped=True)
    channels = np.stack([inside_standard(raw, 0), inside_standard(raw, -9), raw]).astype(np.float32)
    assert np.array_equal(brain_outline(channels), brain_outline(raw[None]))


def test_nan_is_refused_with_what_helps():
    raw = volume(stripped=True)
    with pytest.raises(ValueError, match=r"case P1: 'image': expected finite .* Set it to 0"):
        BrainOutlined(keys="image")({"image": torch.from_numpy(np.where(raw > 0, raw, np.nan)[None]), "case": "P1"})
