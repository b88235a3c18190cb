import hashlib
import math

import numpy as np
import pytest
import torch
from scipy import stats

from bundle.site.release import clip_per_example, privatize, release_sensitivity
from bundle.site.release.noise import GRID, standard_normal


class Stream:
    """A fixed source of random bytes: SHA-256 of a counter."""

    def __init__(self, key=b"noise"):
        self.key, self.count = key, 0

    def __call__(self, length):
        blocks = range(self.count, self.count + -(-length // 32))
        self.count = blocks.stop
        return b"".join(hashlib.sha256(self.key + n.to_bytes(8, "big")).digest() for n in blocks)[:length]


def norms(gradient):
    return gradient.double().flatten(1).norm(dim=1)


def test_the_draws_are_normal():
    draws = standard_normal((200, 250), Stream()).flatten().numpy()
    assert stats.kstest(draws, "norm").pvalue > 0.01
    # four standard errors of the first four moments
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert np.mean(draws**power) == pytest.approx(moment, abs=4 * math.sqrt(variance / draws.size))


def test_the_draws_are_independent_of_each_other():
    draws = standard_normal((2, 20_000), Stream()).double()
    # the cosines of the first half have their sines in the second; neighbours come from neighbouring bytes
    pairs = [(draws[0], draws[1]), (draws[0, 1:], draws[0, :-1])]
    for one, two in pairs:
        for f in (lambda x: x, torch.square):
            correlation = torch.corrcoef(torch.stack([f(one), f(two)]))[0, 1].item()
            assert abs(correlation) < 4 / math.sqrt(len(one))


def test_the_extremes_of_the_source_are_finite():
    # the smallest uniform is 2^-53 and not 0, of which there is no logarithm; the largest is 1
    low, high = (standard_normal((3,), lambda length, byte=byte: byte * length) for byte in (b"\0", b"\xff"))
    assert low[0].item() == pytest.approx(2 * math.sqrt(2 * 53 * math.log(2)))
    assert torch.isfinite(low).all()
    assert (high == 0).all()


@pytest.mark.parametrize("shape", [(), (1,), (7,), (2, 3, 5), (0, 4)])
def test_shapes(shape):
    drawn = standard_normal(shape)
    assert drawn.shape == shape
    assert drawn.dtype == torch.float64
    assert drawn.unique().numel() == drawn.numel()


def test_the_system_gives_other_draws_each_time():
    one, two = standard_normal((1000,)), standard_normal((1000,))
    assert not (one == two).any()
    torch.manual_seed(0)
    first = standard_normal((4,))
    torch.manual_seed(0)
    assert not torch.equal(standard_normal((4,)), first)


def test_a_source_that_runs_dry_is_noticed():
    with pytest.raises(ValueError, match="source: expected 64 random bytes, got 63"):
        standard_normal((2,), lambda length: b"x" * (length - 1))


@pytest.mark.parametrize("clip_norm", [1e-25, 1e-6, 1.0, 0.1, 1 / 3, 1e20])
def test_clipped_gradients_never_exceed_the_bound(clip_norm):
    generator = torch.Generator().manual_seed(0)
    for shape in ((64, 1, 1, 1), (16, 3, 8, 8), (4, 1, 64, 64)):
        gradient = torch.randn(shape, generator=generator) * clip_norm
        gradient *= torch.logspace(-3, 6, len(gradient)).view(-1, 1, 1, 1)
        clipped = clip_per_example(gradient, clip_norm)
        before, after = norms(gradient), norms(clipped)
        assert (after <= clip_norm).all()
        short = before <= clip_norm
        assert short.any()
        assert not short.all()
        assert torch.equal(clipped[short], gradient[short])
        assert (after[~short] >= clip_norm * (1 - 2e-7)).all()
        # the direction stays
        cosine = (clipped.double() * gradient.double()).flatten(1).sum(1) / (before * after)
        assert cosine.min() > 1 - 1e-10


def test_clipping_keeps_every_bit_of_short_gradients():
    special = torch.tensor([0.0, -0.0, 1e-45, -1e-40, 0.5, 1 / 3]).view(1, 1, 2, 3)
    bits = clip_per_example(special, 1.0).view(torch.int32)
    assert torch.equal(bits, special.view(torch.int32))
    # squares that no float32 holds
    huge = clip_per_example(torch.full((1, 1, 2, 2), 3e38), 1.0)
    assert huge.unique().item() == pytest.approx(0.5, rel=3e-7)


@pytest.mark.parametrize(
    ("gradient", "clip_norm", "message"),
    [
        (torch.zeros(1, 1, 2, 2).double(), 1.0, r"expected torch.float32 of shape B×C×H×W, got torch.float64"),
        (torch.zeros(2, 2), 1.0, r"got torch.float32 \(2, 2\)"),
        ([0.0], 1.0, r"got \[0.0\]"),
        (torch.zeros(1, 1, 1, 1), 0.0, "clip_norm: expected a number from 1e-30 to 1e30, got 0.0"),
        (torch.zeros(1, 1, 1, 1), math.nan, "clip_norm: .* got nan"),
        (torch.zeros(1, 1, 1, 1), math.inf, "clip_norm: .* got inf"),
    ],
)
def test_what_cannot_be_clipped(gradient, clip_norm, message):
    with pytest.raises(ValueError, match=message):
        clip_per_example(gradient, clip_norm)
    with pytest.raises(ValueError, match=message):
        privatize(gradient, clip_norm, 1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_zeros_and_noise_so_that_no_error_tells_of_it(value):
    gradient = torch.ones(2, 1, 2, 2)
    gradient[1, 0, 1, 1] = value
    clipped = clip_per_example(gradient, 1.0)
    assert torch.equal(clipped[1], torch.zeros(1, 2, 2))
    assert clipped[0].norm().item() == pytest.approx(1, rel=3e-7)
    assert torch.isfinite(privatize(gradient, 1.0, 1.0)).all()


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_the_sensitivity_is_reached_and_not_exceeded(batch_size):
    bound = release_sensitivity(0.7, batch_size)
    generator = torch.Generator().manual_seed(batch_size)
    shape = (batch_size, 2, 4, 4)
    for scale in (0.01, 0.1, 100.0):
        pair = [clip_per_example(torch.randn(shape, generator=generator) * scale, 0.7) for _ in range(2)]
        assert (pair[0] - pair[1]).double().norm() <= bound
    # a discriminator that turned about: every gradient goes to the other side of its ball
    one = torch.randn(shape, generator=generator) * 100
    distance = (clip_per_example(one, 0.7) - clip_per_example(-one, 0.7)).double().norm().item()
    assert bound * (1 - 1e-6) <= distance <= bound


@pytest.mark.parametrize("arguments", [(0.0, 1), (math.inf, 1), (1.0, 0)])
def test_impossible_sensitivities(arguments):
    with pytest.raises(ValueError, match=r"clip_norm: expected|batch_size: expected at least 1, got 0"):
        release_sensitivity(*arguments)


def test_the_noise_has_the_spread_that_the_sensitivity_asks_for():
    gradient = torch.randn(4, 1, 100, 100, generator=torch.Generator().manual_seed(1))
    noisy = privatize(gradient, 0.5, 3.0, Stream())
    assert noisy.dtype == torch.float32
    added = (noisy - clip_per_example(gradient, 0.5)).double().flatten().numpy()
    expected = 3.0 * 2 * 0.5 * math.sqrt(4)
    assert added.std() == pytest.approx(expected, rel=4 / math.sqrt(2 * added.size))
    assert stats.kstest(added / expected, "norm").pvalue > 0.01
    assert torch.equal(privatize(gradient, 0.5, 3.0, Stream()), noisy)
    assert not torch.equal(privatize(gradient, 0.5, 3.0), privatize(gradient, 0.5, 3.0))


def test_without_noise_it_clips():
    gradient = torch.randn(2, 1, 4, 4)
    assert torch.equal(privatize(gradient, 0.5, 0.0), clip_per_example(gradient, 0.5))


@pytest.mark.parametrize("noise_multiplier", [0.01, 1.0, 50.0])
def test_the_last_bits_do_not_tell_the_gradient(noise_multiplier):
    """A float32 sum is a multiple of its larger summand's last bit; what is released lies on one grid for all data."""
    std = noise_multiplier * 2 * 0.9
    step = 2.0 ** math.floor(math.log2(std * GRID))
    for value in (0.0, 0.7, 0.7 + 2**-24, 1e-30):
        noisy = privatize(torch.full((1, 1, 1, 1), value).expand(1, 1, 64, 64) / 64, 0.9, noise_multiplier, Stream())
        places = noisy.double() / step
        assert torch.equal(places, places.round())
        # as fine for small values as for none: odd places occur, also near 0
        near = places[noisy.abs() < std / 8]
        assert 0.4 < (near % 2).mean() < 0.6


@pytest.mark.parametrize("noise_multiplier", [-1.0, math.nan, math.inf, 1e-40, 1e38])
def test_impossible_noise(noise_multiplier):
    with pytest.raises(ValueError, match="noise_multiplier: expected"):
        privatize(torch.zeros(1, 1, 2, 2), 1.0, noise_multiplier)
