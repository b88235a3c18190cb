"""Clipping and noise: the Gaussian mechanism on image gradients."""

from __future__ import annotations

import math
import os
from collections.abc import Callable

import numpy as np
import torch

__all__ = ["add_noise", "clip_per_example", "privatize", "release_sensitivity", "standard_normal"]

SUMMANDS = 4
LARGEST = 1e37  # a draw reaches 17.2 standard deviations: what is above that has no float32
# of a standard deviation, to a power of two: coarse against what float64 resolves, fine against the noise
GRID = 2.0**-20
# float32 rounds a number by at most 2^-24 of itself
HAIR = 1 - 2.0**-23


def clip_per_example(gradient: torch.Tensor, clip_norm: float) -> torch.Tensor:
    """
    Scale each example's gradient to an L2 norm of at most ``clip_norm``.

    Args:
        gradient: B×C×H×W float32.
        clip_norm: C, from 1e-30 to 1e30.

    Returns:
        B×C×H×W float32, a new tensor. Gradients within the bound keep every bit; of longer ones the norm of what is
        returned, in float64, is never above the bound after rounding either, but up to 2e-7 of it below. An example
        with a number that is not finite becomes zeros: an error in its place would be an answer about the site's data
        that no noise hides, and a server can choose a training in which it depends on them.

    Raises:
        ValueError: when the gradient is not as said, or ``clip_norm`` is out of its range.
    """
    if not isinstance(gradient, torch.Tensor) or gradient.dtype != torch.float32 or gradient.ndim != 4:
        got = f"{gradient.dtype} {tuple(gradient.shape)}" if isinstance(gradient, torch.Tensor) else repr(gradient)[:40]
        raise ValueError(f"gradient: expected torch.float32 of shape B×C×H×W, got {got}")
    if not 1e-30 <= clip_norm <= 1e30:
        raise ValueError(f"clip_norm: expected a number from 1e-30 to 1e30, got {clip_norm!r}")
    # in float64, where no sum of squares of finite float32 numbers overflows
    wide = gradient.detach().double()
    norm = torch.linalg.vector_norm(wide.flatten(1), dim=1)
    finite = torch.isfinite(norm)
    factor = torch.where(finite & (norm > clip_norm), clip_norm * HAIR / norm, 1.0)
    # chosen, not multiplied: 0 · ∞ is no number
    return torch.where(finite.view(-1, 1, 1, 1), wide * factor.view(-1, 1, 1, 1), 0.0).float()


def release_sensitivity(clip_norm: float, batch_size: int) -> float:
    """
    How far apart, in L2 norm, two releases of one batch of clipped gradients can be: 2·C·sqrt(B).

    All B gradients of a release come from one discriminator, which has seen every local image. So a change in the
    site's data, of one image or of all, may move every one of the B clipped gradients from any point of the ball of
    radius C to any other: at most 2C each, and sqrt(B·(2C)²) together. Nothing smaller holds in general: that an image
    is not in the batch does not keep it out of the discriminator's weights. Because the bound holds for any change,
    what follows from it protects the site's data as a whole, each patient's among them.

    Args:
        clip_norm: C, the bound on each gradient's L2 norm, > 0.
        batch_size: B, >= 1.

    Raises:
        ValueError: when an argument is out of its range.
    """
    if not 0 < clip_norm < math.inf:
        raise ValueError(f"clip_norm: expected a finite number > 0, got {clip_norm!r}")
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size!r}")
    return 2 * clip_norm * math.sqrt(batch_size)


def privatize(
    gradient: torch.Tensor,
    clip_norm: float,
    noise_multiplier: float,
    source: Callable[[int], bytes] = os.urandom,
) -> torch.Tensor:
    """
    The Gaussian mechanism on the image gradients of one release: clip each, then add N(0, (σ·2C·sqrt(B))²) to every
    element. :func:`bundle.site.release.epsilon` (σ, T, δ) is what T of these cost; whatever else a site lets out, such
    as losses and conditions, is not covered by it.

    Args:
        gradient: B×C×H×W float32.
        clip_norm: C, from 1e-30 to 1e30.
        noise_multiplier: σ, >= 0 and finite; 0 clips only.
        source: for tests only; see :func:`standard_normal`.

    Returns:
        B×C×H×W float32, on the gradient's device.

    Raises:
        ValueError: when the gradient is not as said, or a number is out of its range.
    """
    if not 0 <= noise_multiplier < math.inf:
        raise ValueError(f"noise_multiplier: expected a finite number >= 0, got {noise_multiplier!r}")
    clipped = clip_per_example(gradient, clip_norm)
    std = noise_multiplier * release_sensitivity(clip_norm, len(clipped))
    if noise_multiplier == 0:
        return clipped
    return add_noise(clipped, std, source).to(gradient.device)


def add_noise(values: torch.Tensor, std: float, source: Callable[[int], bytes]) -> torch.Tensor:
    """
    Add N(0, std²) to every number.

    Numbers and noise are added in float64 and rounded to a grid of 2^-21 to 2^-20 standard deviations that does not
    depend on the data, then to float32. Added in float32, the sum would be a multiple of the numbers' last bit, and
    tell their magnitude through any noise (Mironov 2012, https://doi.org/10.1145/2382196.2382264).

    Args:
        values: float32 or float64, of any shape.
        std: from 1e-37 to 1e37.
        source: see :func:`standard_normal`.

    Returns:
        float32 on the CPU.

    Raises:
        ValueError: when ``std`` is out of its range.
    """
    if not 1 / LARGEST <= std <= LARGEST:
        raise ValueError(
            f"noise_multiplier: expected a standard deviation from {1 / LARGEST:g} to {LARGEST:g}, got {std:g}"
        )
    noisy = values.double().cpu() + standard_normal(tuple(values.shape), source) * std
    step = 2.0 ** math.floor(math.log2(std * GRID))
    return (torch.round(noisy / step) * step).float()


def standard_normal(shape: tuple[int, ...], source: Callable[[int], bytes] = os.urandom) -> torch.Tensor:
    """
    Independent standard normal draws, float64, from a cryptographic source: by default the operating system's.

    A generator with a seed or a readable state will not do: who knows its state subtracts the noise. Each draw is half
    the sum of 4 by Box and Muller, of which no two share their uniforms, so that its last bits do not betray which of
    few possible draws it was (Holohan and Braghin 2021, https://arxiv.org/abs/2107.10138, section 5; Opacus' secure
    mode does the same). A draw is within 17.2 standard deviations.

    Args:
        shape: of the result.
        source: returns as many random bytes as it is asked for.

    Raises:
        ValueError: when the source returns another number of bytes.
    """
    size = math.prod(shape)
    pairs = -(-size // 2)
    length = SUMMANDS * 2 * pairs * 8
    words = source(length)
    if len(words) != length:
        raise ValueError(f"source: expected {length} random bytes, got {len(words)}")
    # the upper 53 bits, from 1 on: a logarithm is taken of it
    uniform = ((np.frombuffer(words, dtype="<u8") >> np.uint64(11)) + np.uint64(1)) * 2.0**-53
    radius, turn = uniform.reshape(2, SUMMANDS, pairs)
    radius = np.sqrt(-2 * np.log(radius))
    angle = 2 * np.pi * turn
    # the two draws of a pair go to different elements
    draws = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return torch.from_numpy(draws.sum(axis=0)[:size] / math.sqrt(SUMMANDS)).reshape(shape)
