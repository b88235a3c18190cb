"""Augmentation of what a discriminator sees."""

import pytest
import torch

from bundle.losses import DiscriminatorAugmentation


def batch(size=16, images=4):
    generator = torch.Generator().manual_seed(0)
    condition = torch.randint(0, 2, (images, 2, size, size), generator=generator).float()
    return condition, torch.rand(images, 1, size, size, generator=generator) * 2 - 1


def test_without_any_transformation_nothing_changes():
    condition, image = batch()
    for same, before in zip(DiscriminatorAugmentation()(condition, image), (condition, image), strict=True):
        assert torch.equal(same, before)


def test_brightness_shifts_each_image_by_a_number_of_its_own_and_leaves_the_condition():
    condition, image = batch()
    same, shifted = DiscriminatorAugmentation(brightness=0.5)(condition, image)
    shifts = (shifted - image).flatten(1)
    assert torch.equal(same, condition)
    torch.testing.assert_close(shifts, shifts[:, :1].expand_as(shifts))
    assert len(shifts[:, 0].unique()) == len(image)
    assert shifts.abs().max() <= 0.5


def test_contrast_scales_around_the_mean():
    condition, image = batch()
    _, scaled = DiscriminatorAugmentation(contrast=0.5)(condition, image)
    torch.testing.assert_close(scaled.mean(dim=(1, 2, 3)), image.mean(dim=(1, 2, 3)))
    ratios = scaled.flatten(1).std(dim=1) / image.flatten(1).std(dim=1)
    assert (ratios - 1).abs().max() <= 0.5
    assert len(ratios.unique()) == len(image)


def test_translation_moves_condition_and_image_together():
    _, image = batch()
    # a condition that is the image tells afterwards whether both went the same way
    torch.manual_seed(1)
    moved, also = DiscriminatorAugmentation(translation=0.25)(image, image)
    assert torch.equal(moved, also)
    assert not torch.equal(moved, image)
    for before, after in zip(image, moved, strict=True):
        padded = torch.nn.functional.pad(before[None], (4, 4, 4, 4), mode="reflect")[0, 0]
        windows = padded.unfold(0, 16, 1).unfold(1, 16, 1).reshape(-1, 16, 16)
        assert (windows == after[0]).all(dim=(1, 2)).any()


def test_cutout_blanks_at_most_its_square_in_condition_and_image():
    ones = torch.ones(32, 1, 16, 16)
    condition, image = DiscriminatorAugmentation(cutout=0.5)(ones, ones)
    assert torch.equal(condition, image)
    blank = (image == 0).sum(dim=(1, 2, 3))
    # 8 wide, rounding included; a corner of it, where its middle is at the border
    assert blank.max() <= 9 * 9
    assert blank.min() >= 3 * 3


def test_gradients_pass_to_what_is_seen_and_nowhere_else():
    condition, image = batch()
    image.requires_grad_(True)
    _, seen = DiscriminatorAugmentation(cutout=0.5)(condition, image)
    seen.sum().backward()
    assert torch.equal(image.grad != 0, seen != 0)


def test_the_draws_are_those_of_the_random_stream():
    augmentation = DiscriminatorAugmentation(0.5, 0.5, 0.125, 0.5)
    seen = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        seen.append(augmentation(*batch())[1])
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


@pytest.mark.parametrize("wrong", [{"brightness": -1}, {"contrast": 1.0}, {"translation": -0.1}, {"cutout": 1.5}])
def test_values_out_of_range(wrong):
    with pytest.raises(ValueError, match="expected brightness >= 0"):
        DiscriminatorAugmentation(**wrong)
