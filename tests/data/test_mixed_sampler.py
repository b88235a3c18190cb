"""How many of a batch are the site's own images, and which."""

from collections import Counter

import pytest
import torch
from torch.utils.data import Dataset

from bundle.data import DrawSampler, MixedSampler


class Numbers(Dataset):
    """Samples that are numbers: ``own`` of them come first."""

    def __init__(self, own, synthetic):
        self.name, self.own, self.synthetic = "numbers", own, synthetic

    def __len__(self):
        return self.own + self.synthetic

    def part(self, name):
        return list(range(self.own)) if name == "own" else list(range(self.own, len(self)))


def batches(sampler, epochs, batch_size):
    drawn = []
    for epoch in range(1, epochs + 1):
        sampler.set_epoch(epoch)
        drawn += list(sampler)
    return [drawn[start : start + batch_size] for start in range(0, len(drawn), batch_size)]


@pytest.mark.parametrize(("own", "synthetic"), [(3, 200), (200, 3), (1, 1)])
def test_every_batch_holds_its_share_however_many_images_there_are(own, synthetic):
    sampler = MixedSampler(Numbers(own, synthetic), 40, 8, [(0, 0.25)], seed=3)
    for batch in batches(sampler, 3, 8):
        assert [draw.index < own for draw in batch] == [True] * 2 + [False] * 6


def test_every_image_of_a_part_is_seen_once_a_lap():
    sampler = MixedSampler(Numbers(5, 7), 48, 4, [(0, 0.5)], seed=1)
    drawn = [draw.index for batch in batches(sampler, 2, 4) for draw in batch]
    for part in (range(5), range(5, 12)):
        seen = [index for index in drawn if index in part]
        laps = len(seen) // len(part)
        for lap in range(laps):
            assert Counter(seen[lap * len(part) : (lap + 1) * len(part)]) == Counter(part)


def test_fine_tuning_begins_at_its_step_wherever_that_lies_in_an_epoch():
    sampler = MixedSampler(Numbers(6, 9), 12, 3, [(0, 0.0), (5, 1.0)], seed=0)
    made = batches(sampler, 3, 3)
    assert [{draw.index < 6 for draw in batch} for batch in made] == [{False}] * 5 + [{True}] * 7
    # the first lap over its own images begins there
    assert Counter(draw.index for batch in made[5:7] for draw in batch) == Counter(range(6))


def test_draws_depend_on_the_step_and_not_on_epochs_or_processes():
    of_one = batches(MixedSampler(Numbers(5, 50), 24, 6, [(0, 0.5)], seed=7), 4, 6)
    long = batches(MixedSampler(Numbers(5, 50), 96, 6, [(0, 0.5)], seed=7), 1, 6)
    assert of_one == long
    two = [batches(MixedSampler(Numbers(5, 50), 24, 6, [(0, 0.5)], 7, "train", 2, rank), 4, 3) for rank in (0, 1)]
    merged = [[pair for place in zip(*both, strict=True) for pair in place] for both in zip(*two, strict=True)]
    assert merged == of_one


def test_without_shares_it_draws_as_any_training():
    data = torch.utils.data.TensorDataset(torch.arange(9))
    plain, mixed = DrawSampler(data, 12, 5), MixedSampler(data, 12, 4, None, 5)
    assert list(plain) == list(mixed)


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_a_share_that_is_no_image_is_refused(share):
    with pytest.raises(ValueError, match=r"own_share: .* of a batch of 4 images is [04],? expected some of both"):
        MixedSampler(Numbers(3, 3), 4, 4, [(0, share)])


@pytest.mark.parametrize(("own", "synthetic", "missing"), [(0, 5, "own"), (5, 0, "synthetic")])
def test_a_part_without_images_is_refused(own, synthetic, missing):
    with pytest.raises(ValueError, match=f"numbers: no {missing} images to mix"):
        MixedSampler(Numbers(own, synthetic), 4, 4, [(0, 0.5)])
