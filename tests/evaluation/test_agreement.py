"""Images whose label maps are known, read by segmenters of which the answer is known."""

import math

import pytest
import torch

from bundle.evaluation.agreement import Agreement

SIZE = 8


def bright(images):
    """A segmenter of two classes: above 0 the first, above 0.5 the second."""
    first, second = images > 0, images > 0.5
    return torch.cat([~first, first & ~second, second], dim=1).float()


def shown(label, value=0.25):
    return torch.where(label.bool().any(dim=0, keepdim=True), value, -1.0)


def label_map(rows, class_index=0, size=SIZE):
    label = torch.zeros(2, size, size, dtype=torch.uint8)
    label[class_index, :rows] = 1
    return label


def test_images_that_show_what_they_were_drawn_for():
    labels = [label_map(2), label_map(3, class_index=1), label_map(0)]
    agreement = Agreement(bright, [("A", shown(label), label) for label in labels], SIZE)
    assert agreement.dice(["A"]) == 1, "which of the classes it is does not count"
    assert agreement.false_share(["A"]) == 0


def test_half_of_it_and_something_else():
    asked = label_map(4)
    agreement = Agreement(bright, [("A", shown(label_map(2)), asked)], SIZE)
    assert agreement.dice(["A"]) == pytest.approx(2 * 2 / (4 + 2))
    assert math.isnan(agreement.false_share(["A"])), "there is no empty one"
    agreement = Agreement(bright, [("A", shown(label_map(2)), label_map(0))], SIZE)
    assert agreement.false_share(["A"]) == pytest.approx(2 / SIZE)
    assert math.isnan(agreement.dice(["A"]))


def test_sites_and_their_union():
    asked = label_map(4)
    images = [("A", shown(asked), asked), ("B", shown(label_map(0)), asked), ("B", shown(asked), asked)]
    agreement = Agreement(bright, images, SIZE, batch_size=2)
    assert (agreement.dice(["A"]), agreement.dice(["B"])) == (1, 0.5)
    assert agreement.dice(["A", "B"]) == pytest.approx(2 / 3)
    assert math.isnan(agreement.dice(["C"]))


def test_large_images_are_read_by_crops():
    asked = label_map(SIZE, size=2 * SIZE + 3)
    seen = []

    def segmenter(images):
        seen.append(tuple(images.shape))
        return bright(images)

    agreement = Agreement(segmenter, [("A", shown(asked), asked)], SIZE)
    assert seen == [(4, 1, SIZE, SIZE)]
    assert (agreement.dice(["A"]), agreement.false_share(["A"])) == (1, 0)


def test_a_segmenter_of_other_classes():
    with pytest.raises(ValueError, match="expected scores of 2 classes and the background, got 2 in all"):
        Agreement(lambda images: torch.cat([images, -images], dim=1), [("A", shown(label_map(1)), label_map(1))], SIZE)
