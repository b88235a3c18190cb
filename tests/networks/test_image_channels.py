"""Discriminators for sites that lack modalities."""

from functools import partial

import pytest
import torch
from monai.networks.nets import PatchDiscriminator

from bundle.networks import MLPDiscriminator, SegmentationDiscriminator, for_image_channels, spectrally_normalized

PATCH = partial(PatchDiscriminator, spatial_dims=2, channels=4, in_channels=5, num_layers_d=1)


@pytest.mark.parametrize(
    "makes",
    [
        PATCH,
        partial(SegmentationDiscriminator, condition_channels=2, image_channels=3, channels=[4, 8]),
        spectrally_normalized(PATCH),
    ],
)
def test_a_site_that_lacks_one_of_three_channels_has_a_network_of_two(makes):
    logits = for_image_channels(makes, 1)()(torch.rand(2, 4, 16, 16))
    assert len(logits[-1] if isinstance(logits, list) else logits)
    with pytest.raises((RuntimeError, ValueError)):
        for_image_channels(makes, 1)()(torch.rand(2, 5, 16, 16))


def test_both_numbers_fall_where_both_are_given():
    made = for_image_channels(partial(MLPDiscriminator, in_channels=5, image_channels=3), 2)()
    assert made.image_channels == 1
    assert made(torch.rand(2, 3, 1, 1)).shape[0] == 2


def test_a_site_with_all_has_the_very_definition():
    assert for_image_channels(PATCH, 0) is PATCH


@pytest.mark.parametrize(
    ("makes", "lacking"), [(lambda: torch.nn.Identity(), 1), (partial(SegmentationDiscriminator, 2, 3), 1), (PATCH, 5)]
)
def test_a_definition_that_does_not_say_its_channels(makes, lacking):
    with pytest.raises(ValueError, match=r"in_channels.*discriminator_def"):
        for_image_channels(makes, lacking)
