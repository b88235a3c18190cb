import pytest
import torch

from bundle.transforms import RandWarpd

ARGUMENTS = {"wavelength": (0.5, 1.0), "magnitude": (0.02, 0.04), "rotate": 0.2, "scale": 0.1, "translate": 0.03}


def warp(image, seed=0, unit=None, **kwargs):
    transform = RandWarpd("image", unit or image.shape[-1], **ARGUMENTS | kwargs)
    return transform.set_random_state(seed=seed)({"image": image})["image"]


def disc(size, radius=0.25, middle=(0.45, 0.55)):
    rows, columns = torch.meshgrid(*[(torch.arange(size) + 0.5) / size] * 2, indexing="ij")
    return ((rows - middle[0]) ** 2 + (columns - middle[1]) ** 2 < radius**2)[None].to(torch.uint8)


def dice(one, other):
    return 2 * (one.bool() & other.bool()).sum().item() / (one.sum() + other.sum()).item()


def test_without_ranges_nothing_moves():
    image = torch.rand(3, 12, 17)
    still = dict.fromkeys(("rotate", "scale", "translate"), 0.0) | {"magnitude": (0.0, 0.0)}
    torch.testing.assert_close(warp(image, **still), image, atol=1e-5, rtol=0)
    mask = disc(16)
    assert torch.equal(warp(mask, mode="nearest", **still), mask)


@pytest.mark.parametrize("size", [62, 63, 66, 96, 128, 256])
def test_a_resampled_image_is_warped_alike(size):
    for seed in range(5):
        small = warp(disc(64), seed, mode="nearest", padding_mode="zeros")
        other = warp(disc(size), seed, mode="nearest", padding_mode="zeros")
        again = torch.nn.functional.interpolate(other[None].float(), (64, 64), mode="nearest-exact")[0]
        assert dice(small, again) > 0.95
        assert dice(small, disc(64)) < 0.95, "it is warped at all"


@pytest.mark.parametrize("margin", [1, 2, 9, 40])
def test_a_padded_image_is_warped_alike(margin):
    image = disc(64)
    padded = torch.nn.functional.pad(image, [margin] * 4)
    for seed in range(5):
        plain, wide = (warp(x, seed, 64, mode="nearest", padding_mode="zeros") for x in (image, padded))
        assert torch.equal(plain, wide[:, margin:-margin, margin:-margin])


def test_seeds_differ_and_images_of_a_pair_do_not():
    mask = disc(64)
    warped = [warp(mask, seed, mode="nearest") for seed in range(4)]
    assert all(dice(one, other) < 0.99 for place, one in enumerate(warped) for other in warped[:place])
    assert torch.equal(warp(mask, 3, mode="nearest"), warped[3])
    transform = RandWarpd(["image", "condition"], 64, **ARGUMENTS, mode=["bilinear", "nearest"])
    pair = transform.set_random_state(seed=1)({"image": mask.float(), "condition": mask})
    assert (pair["image"].dtype, pair["condition"].dtype) == (torch.float32, torch.uint8)
    assert dice((pair["image"] > 0.5), pair["condition"]) > 0.97
    assert set(pair["condition"].unique().tolist()) == {0, 1}
