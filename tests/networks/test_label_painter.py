"""Label maps painted at random: classes keep their places, and intensities tell nothing of any image."""

import torch

from bundle.engines import SeededInferer
from bundle.networks import LabelPainter


def condition():
    """A tumour of 8×8 in an outline of 20×20, of 32×32 pixels."""
    x = torch.zeros(1, 2, 32, 32)
    x[:, 0, 12:20, 12:20] = 1
    x[:, 1, 6:26, 6:26] = 1
    return x


def test_the_tumour_lies_above_the_outline_that_contains_it():
    x = condition()
    classes = LabelPainter(2, 1)._classes(x[0] > 0.5)
    assert set(classes[x[0, 0] > 0].tolist()) == {1}
    assert set(classes[(x[0, 1] > 0) & (x[0, 0] == 0)].tolist()) == {2}
    assert set(classes[x[0, 1] == 0].tolist()) == {0}
    # whichever channel comes first
    assert (LabelPainter(2, 1)._classes(x[0].flip(0) > 0.5)[x[0, 0] > 0] == 2).all()


def test_intensities_are_drawn_anew_for_every_image_and_stay_in_range():
    painter = LabelPainter(2, 3, noise=0.0, blur=0.0, field=0.0)
    images = SeededInferer()(condition().expand(50, -1, -1, -1), painter, seeds=range(50))
    assert images.shape == (50, 3, 32, 32)
    assert images.abs().max() <= 1
    assert (images[:, :, 0, 0] == -1).all()
    tumour, brain = images[:, :, 16, 16].flatten(), images[:, :, 9, 9].flatten()
    # uniform on [-1, 1], and neither brighter than the other as a rule
    assert min(tumour.std(), brain.std()) > 0.4
    assert 0.3 < (tumour > brain).float().mean() < 0.7


def test_the_same_seed_gives_the_same_image_in_any_batch():
    painter, x = LabelPainter(2, 1), condition()
    alone = SeededInferer()(x, painter, seeds=[7])
    among = SeededInferer()(x.expand(3, -1, -1, -1), painter, seeds=[1, 7, 2])
    assert torch.equal(alone[0], among[1])
    assert not torch.equal(among[0], among[1])


def test_a_background_of_its_own():
    images = SeededInferer()(condition().expand(20, -1, -1, -1), LabelPainter(2, 1, background=None), seeds=range(20))
    assert images[:, 0, 0, 0].std() > 0.3
