"""Planted outliers, whose rates are known."""

import math

import numpy as np
import pytest
import torch

from bundle.evaluation.fixed_pattern import FixedPattern, outliers

SIZE = 24
N = 200
PLACE = 9, 14


def smooth(rng):
    """An image 1×H×W without outliers."""
    rows, columns = np.mgrid[:SIZE, :SIZE] / SIZE
    return torch.tensor(rng.uniform(-0.5, 0.5) * rows + rng.uniform(-0.5, 0.5) * columns, dtype=torch.float32)[None]


def planted(share, place_of, count=N, spike=0.8):
    """Images of which a share has one spike each."""
    rng = np.random.default_rng(1)
    for number in range(count):
        image = smooth(rng)
        row, column = place_of(rng)
        if number < share * count:
            image[0, row, column] += spike
        yield "A", image, torch.empty(0, SIZE, SIZE)


def score(images, sites=("A",)):
    return FixedPattern(images, SIZE).scores(sites)


def anywhere(rng):
    return tuple(rng.integers(1, SIZE - 1, 2))


def test_a_spike_in_one_place_has_its_rate():
    found = score(planted(0.6, lambda rng: PLACE))
    assert found["fixed_pattern_rate"] == 0.6
    assert found["fixed_pattern"] == pytest.approx((0.6 + 1 / N) / (1 / N))


def test_clean_images_have_none():
    found = score(planted(0, anywhere))
    assert (found["fixed_pattern"], found["fixed_pattern_rate"]) == (1, 0)
    assert found["fixed_texture"] < 1e-3
    # less than a quarter of the range is texture
    assert score(planted(1, lambda rng: PLACE, spike=0.45))["fixed_pattern_rate"] == 0


def test_a_spike_in_another_place_of_every_image_is_no_pattern():
    assert score(planted(1, anywhere))["fixed_pattern_rate"] <= 0.02


def striped(rng, row):
    image = 0.05 * torch.tensor(rng.standard_normal((1, SIZE, SIZE)), dtype=torch.float32)
    image[0, row::4] += 0.2
    return "A", image, torch.empty(0, SIZE, SIZE)


def test_stripes_that_all_images_share_are_in_their_mean():
    rng = np.random.default_rng(0)
    shared = score(striped(rng, 3) for _ in range(N))
    # no pixel is an outlier, and a quarter of all rows differs by 0.2 from its median
    assert shared["fixed_pattern_rate"] == 0
    assert shared["fixed_texture"] == pytest.approx(0.2 / 2, rel=0.05)
    # elsewhere in every image they average out, with the noise
    apart = score(striped(rng, int(rng.integers(4))) for _ in range(N))
    assert apart["fixed_texture"] < 0.2 * shared["fixed_texture"]


def test_outliers_that_are_everywhere_are_no_pattern():
    rng = np.random.default_rng(0)
    noise = ((rng.random((1, SIZE, SIZE)) < 0.05) * 1.0 for _ in range(2000))
    found = score(("A", torch.tensor(one, dtype=torch.float32), torch.empty(0, SIZE, SIZE)) for one in noise)
    assert 1 < found["fixed_pattern"] < 1.6
    assert found["fixed_pattern_rate"] == pytest.approx(0.05, abs=0.025)


def test_the_edge_of_the_outline_does_not_count():
    outline = torch.zeros(1, SIZE, SIZE)
    outline[:, 4:20, 4:20] = 1

    def at(row, column):
        return score((site, image, outline) for site, image, _ in planted(0.5, lambda rng: (row, column)))

    assert at(4, 10)["fixed_pattern_rate"] == at(2, 10)["fixed_pattern_rate"] == 0
    assert at(5, 10)["fixed_pattern_rate"] == 0.5
    empty = torch.zeros(1, SIZE, SIZE)
    found = score((site, image, empty) for site, image, _ in planted(0.5, anywhere))
    assert all(map(math.isnan, found.values()))


def test_sites_are_added_up_and_large_images_are_crops():
    def images():
        for _, image, outline in planted(0.5, lambda rng: PLACE, 40):
            yield "A", image, outline
        for _, image, outline in planted(0, anywhere, 60):
            yield "B", image, outline

    pattern = FixedPattern(images(), SIZE)
    rates = [pattern.scores(sites)["fixed_pattern_rate"] for sites in (["A"], ["B"], ["A", "B"])]
    assert rates == [0.5, 0, 0.2]
    assert math.isnan(pattern.scores(["C"])["fixed_pattern"])
    halves = planted(0.5, lambda rng: PLACE)
    tall = (
        (s, torch.cat([i, smooth(np.random.default_rng(0))], 1), torch.empty(0, 2 * SIZE, SIZE)) for s, i, _ in halves
    )
    assert score(tall)["fixed_pattern_rate"] == 0.25


def test_any_channel_may_stand_out():
    images = np.zeros((1, 3, 5, 5))
    images[0, 1, 2, 2] = -0.6
    images[0, 2, 0, 0] = 0.6
    assert np.argwhere(outliers(images)[0]).tolist() == [[0, 0], [2, 2]]
