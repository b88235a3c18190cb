"""What the background of an MR image was set to by whoever prepared it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

__all__ = ["bright_value", "darken", "is_raw", "lift", "split_background"]

# Of the bright value: what is as dark as air in a raw image.
DARK = 0.05
# Share of the voxels besides the background that may be darker than air: resampling leaves some that ring.
RINGING = 0.02
# Values that interpolation and storage keep apart though they were one, of the range of an image.
SAME = 1e-5
# A value was set, not measured, if it is that frequent at the border, and that many times as all that are near it.
SHARE, COUNT, TIMES, NEAR = 0.01, 8, 4, 0.05
# Share of the border that tells a background above 0 from tissue that ends there, in an image that may be raw.
CERTAIN = 0.1
# How often another frame is looked for within one: a brain on 0 that was padded by -1024 has two.
FRAMES = 3
# Share of what lies next to a background that was set, that is brighter than noise where it was set all around tissue.
TISSUE = 0.25
# Percentile of what is no background that stands for the zero of a raw image.
FLOOR = 0.5


def bright_value(channel: np.ndarray) -> float:
    """About the 99.5th percentile: of every nth voxel, which is enough for a scale and much faster."""
    value = _percentile(channel, 99.5)
    # A small object in a large image may lie above the percentile entirely.
    return value if value > 0 else float(channel.max())


def is_raw(channel: np.ndarray) -> bool:
    """Whether an image has the intensities of a scanner: 0 is air, and tissue is above it.

    An image that was normalised has tissue below 0 (zero mean and unit variance, -1 to 1), a background far below it
    (-5, -1024), or one that is constant and above 0 (scaled to 0..1 after that).

    Args:
        channel: H×W or H×W×D, any real dtype, finite; a constant one counts as raw.
    """
    low, high, bright = float(channel.min()), float(channel.max()), bright_value(channel)
    if low == high:
        return True
    if bright <= 0:
        return False
    values = _set_values(channel, CERTAIN)
    if any(value > DARK * bright for value in values):
        return False
    if low >= -DARK * bright:
        return True
    below = channel < -DARK * bright
    return int(below.sum()) <= RINGING * (channel.size - int(_equal(channel, values).sum()))


def split_background(channel: np.ndarray) -> tuple[np.ndarray, float]:
    """The background of an image that is not raw, and the intensity that stands for the zero of a raw one.

    What the background was set to says nothing about how dark it is: with zero mean and unit variance 0 is as bright
    as the average of the brain. But it is one value, exactly, that is frequent where the image ends in plane and has
    no neighbours there, as noise would have.

    Args:
        channel: as for :func:`is_raw`, not constant.

    Returns:
        bool array, where the background was set (nowhere, if noise was left everywhere); the darkest of the rest.
    """
    background = np.zeros(channel.shape, dtype=bool)
    inner, share = channel, SHARE
    for _ in range(FRAMES):
        values = _set_values(inner, share)
        background |= _equal(channel, values)
        box = ndimage.find_objects((~background).astype(np.uint8))
        if not values or not box:
            break
        # a brain touches its own frame: what is set there must be most of it
        inner, share = channel[box[0]], CERTAIN
    # padding may reach the border in so few places that it is not frequent there
    low = float(channel.min())
    lowest, others = _equal(channel, [low]), channel[channel <= low + _near(channel)].size
    if int(lowest.sum()) >= max(COUNT, TIMES * (others - int(lowest.sum()))):
        background |= lowest
    rest = channel[~background]
    return background, _percentile(rest if rest.size else channel, FLOOR)


def lift(channel: np.ndarray) -> np.ndarray:
    """An image as a scanner would have it, but for a linear map: itself if it is raw, else with a background of 0.

    Args:
        channel: as for :func:`is_raw`.

    Returns:
        `channel`, or float32 of its shape: 0 exactly in the background that was set, above 0 elsewhere, and brighter
        than air where tissue is all that is left.
    """
    if is_raw(channel):
        return channel
    background, floor = split_background(channel)
    lifted = channel.astype(np.float32) - np.float32(floor)
    # not 0: somebody who set the background has said that this is none
    np.maximum(lifted, np.finfo(np.float32).tiny, out=lifted)
    bright = bright_value(lifted[~background])
    beside = ndimage.binary_dilation(background, _in_plane(channel.ndim)) & ~background
    if beside.any() and (lifted[beside] > DARK * bright).mean() >= TISSUE:
        lifted += 2 * DARK * bright
    lifted[background] = 0
    return lifted


def darken(channel: np.ndarray) -> np.ndarray:
    """An image whose background is no brighter than the darkest of the rest: itself if it is raw.

    Args:
        channel: as for :func:`is_raw`.

    Returns:
        `channel`, or a copy of its dtype, or float32 in the place of whole numbers.
    """
    if is_raw(channel):
        return channel
    background, floor = split_background(channel)
    return np.where(background, np.float32(floor), channel)


def _in_plane(ndim: int) -> np.ndarray:
    cross = ndimage.generate_binary_structure(2, 1)
    return cross.reshape(3, 3, *(1,) * (ndim - 2))


def _percentile(values: np.ndarray, percentile: float) -> float:
    step = max(1, values.size // 200_000)
    return float(np.percentile(values.reshape(-1)[::step], percentile))


def _set_values(channel: np.ndarray, least: float) -> list[float]:
    """Values that were set and not measured, by what is at the border in plane; above and below it may be the head."""
    sides = (channel[0], channel[-1], channel[:, 0], channel[:, -1])
    border = np.concatenate([side.reshape(-1) for side in sides]).astype(np.float64)
    unit = SAME * _range(channel)
    if unit == 0:
        return []
    bins, first, counts = np.unique(np.rint(border / unit), return_index=True, return_counts=True)
    near = _near(channel) / unit
    total = np.concatenate([[0], np.cumsum(counts)])
    around = total[np.searchsorted(bins, bins + near, "right")] - total[np.searchsorted(bins, bins - near, "left")]
    found = (counts >= COUNT) & (counts >= least * border.size) & (counts >= TIMES * (around - counts))
    return border[first[found]].tolist()


def _equal(channel: np.ndarray, values: list[float]) -> np.ndarray:
    equal = np.zeros(channel.shape, dtype=bool)
    for value in values:
        equal |= np.abs(channel - value) <= SAME * _range(channel)
    return equal


def _near(channel: np.ndarray) -> float:
    return NEAR * (_percentile(channel, 99.5) - _percentile(channel, 0.5))


def _range(channel: np.ndarray) -> float:
    return float(channel.max()) - float(channel.min())
