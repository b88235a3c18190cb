"""What D_j and its losses look at where a site does not know which of several classes a pixel is of."""

from functools import partial

import pytest
import torch

from bundle.losses import AdversarialLoss, SiteLoss
from bundle.networks import SegmentationDiscriminator
from bundle.transforms.condition import candidates

KNOWN = torch.tensor([1.0, 0, 0, 1]).view(1, 4, 1, 1).expand(2, 4, 8, 8)
UNKNOWN = torch.tensor([1.0, 1, 0, 1]).view(1, 4, 1, 1).expand(2, 4, 8, 8)
BACKGROUND = torch.zeros(2, 4, 8, 8)


def test_what_a_pixel_may_be():
    assert candidates(KNOWN, 3) is None
    assert candidates(UNKNOWN, None) is None
    mixed = torch.cat([UNKNOWN[..., :2], KNOWN[..., :2], BACKGROUND[..., :2]], dim=3)
    found = candidates(mixed, 3)[0, :, 0, ::2].T.int().tolist()
    assert found == [[1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1]]


def test_the_segmentation_discriminator_judges_by_the_probability_of_any():
    torch.manual_seed(0)
    make = partial(SegmentationDiscriminator, 4, 1, channels=[4, 8])
    network = make(num_classes=3).eval()
    image = torch.randn(2, 1, 8, 8)
    chances = network.network(image).double().softmax(dim=1)
    either = chances[:, :2].sum(dim=1, keepdim=True)
    logits = network(torch.cat([UNKNOWN, image], dim=1))
    torch.testing.assert_close(logits.double(), torch.log(either / (1 - either)), rtol=1e-4, atol=1e-4)
    # where all is known, the same bits as without the word
    plain = make().eval()
    plain.load_state_dict(network.state_dict())
    pair = torch.cat([KNOWN, image], dim=1)
    assert torch.equal(network(pair), plain(pair))


@pytest.mark.parametrize(("condition", "weight"), [(KNOWN, 2.0), (UNKNOWN, 3.0), (BACKGROUND, 1.0)])
def test_class_weights_are_the_mean_of_what_a_pixel_may_be(condition, weight):
    loss = SiteLoss(AdversarialLoss(), l1_weight=0.0, class_weights=[2, 4, 8, 1, 1], num_classes=3)
    (found,) = loss._weights(torch.zeros(2, 1, 8, 8), condition)
    assert torch.allclose(found, torch.full_like(found, weight))
