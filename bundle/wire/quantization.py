"""Arrays in fewer bytes: floats in 16 or 8 bits with a scale of each array, masks in one bit a voxel.

An *encoding* says how an array was stored, and is all that reading it takes: None as it is, ``{"float16": exponent}``,
``{"int8": scale}`` or ``{"bits": shape}``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["PRECISIONS", "pack_mask", "quantize", "restore", "restored_size"]

PRECISIONS = ("float32", "float16", "int8")

Encoding = dict[str, Any]

# float16 holds up to 2**16, and 2**-14 is its smallest number of full precision
_FLOAT16_TOP = 15
_FLOAT32_MAX = np.finfo(np.float32).max
# of a float32, by which it could have to be shifted to get there
_LARGEST_SHIFT = 200
# what the encoding of a mask costs in a header, with margin: smaller savings are none
_HEADER_OF_A_MASK = 64


def quantize(values: np.ndarray, precision: str, seed: Callable[[], int]) -> tuple[np.ndarray, Encoding | None]:
    """
    Args:
        values: float32 of any shape.
        precision: one of ``PRECISIONS``.
            "float16" shifts the exponents of the whole array, so that its largest magnitude is just below 2**15: an
            error of at most 2**-11 of the value down to 2**-28 of the largest magnitude, and of 2**-39 of that below.
            Gradients of 1e-9 keep their digits, and nothing overflows.
            "int8" stores ``q = floor(x / scale + u)`` with ``scale = max|x| / 127`` and u uniform in [0, 1):
            stochastic rounding, so that the expectation of what :func:`restore` returns is x (Gupta et al. 2015,
            https://arxiv.org/abs/1502.02551). The error is below one scale; 0 stays 0 and the extremes stay.
        seed: the seed of u, asked for where it is needed.

    Returns:
        What to store, in the shape of ``values``, and its encoding. An array that is not finite stays as it is:
        whoever reads it shall find the same infinity or NaN. So does an empty one.
    """
    largest = float(np.abs(values).max(initial=0))
    if precision == "float32" or not values.size or not math.isfinite(largest):
        return values, None
    if precision == "float16":
        shift = _FLOAT16_TOP - math.frexp(largest)[1] if largest else 0
        return np.asarray(np.ldexp(values, shift), np.float16), {"float16": shift}
    # in float64: 127 + u would be 128 in float32, and max|x| / 127 may be below its smallest number
    scale = largest / 127
    uniform = np.random.default_rng(seed()).random(values.shape)
    rounded = np.floor(values.astype(np.float64) / (scale or 1.0) + uniform)
    return np.asarray(rounded.clip(-127, 127), np.int8), {"int8": scale}


def pack_mask(values: np.ndarray) -> tuple[np.ndarray, Encoding | None]:
    """
    Eight voxels to a byte, where an array of uint8 holds 0 and 1 only and it saves something.

    Returns:
        N uint8 and the encoding, or ``values`` and None.
    """
    if values.size - (values.size + 7) // 8 <= _HEADER_OF_A_MASK or values.max() > 1:
        return values, None
    return np.packbits(values), {"bits": list(values.shape)}


def restored_size(stored: np.ndarray, encoding: Encoding | None) -> int:
    """
    Bytes of what :func:`restore` would return.

    Raises:
        ValueError: when ``stored`` is not what the encoding says.
    """
    return _check(stored, encoding)[1]


def restore(stored: np.ndarray, encoding: Encoding | None) -> np.ndarray:
    """
    The inverse of :func:`quantize` and :func:`pack_mask`.

    Returns:
        float32 or uint8; ``stored`` itself where there is no encoding.

    Raises:
        ValueError: when ``stored`` is not what the encoding says.
    """
    name, size = _check(stored, encoding)
    if encoding is None:
        return stored
    # of what no quantize() wrote come infinities or NaN, which the receiver's check finds
    with np.errstate(over="ignore", invalid="ignore"):
        if name == "float16":
            shifted = np.ldexp(stored.astype(np.float32), -encoding[name])
            # the largest numbers of float32 round up to 2**128 in float16
            return np.where(np.isfinite(stored), shifted.clip(-_FLOAT32_MAX, _FLOAT32_MAX), shifted)
        if name == "int8":
            return np.asarray(stored * np.float64(encoding[name]), np.float32)
    return np.unpackbits(stored, count=size).reshape(encoding[name])


def _check(stored: np.ndarray, encoding: Encoding | None) -> tuple[str, int]:
    """The name of the encoding and the bytes of the restored array; both come from a message: nothing is believed."""
    if encoding is None:
        if stored.dtype not in (np.float32, np.uint8):
            raise ValueError(f"expected a tensor of float32 or uint8, got {stored.dtype}")
        return "", stored.nbytes
    if not isinstance(encoding, dict) or len(encoding) != 1:
        raise ValueError(f"expected an encoding by name, got {encoding!r}")
    ((name, value),) = encoding.items()
    if name == "float16" and stored.dtype == np.float16 and _is_whole(value) and abs(value) <= _LARGEST_SHIFT:
        return name, 4 * stored.size
    if name == "int8" and stored.dtype == np.int8 and type(value) is float and 0 <= value < math.inf:
        return name, 4 * stored.size
    if name == "bits" and stored.dtype == np.uint8 and isinstance(value, list) and len(value) <= 8:
        size = math.prod(value) if all(_is_whole(length) and length >= 0 for length in value) else -1
        if stored.shape == ((size + 7) // 8,):
            return name, size
    raise ValueError(f"expected an array of float16, int8 or bits, got {encoding!r} for {stored.dtype}{stored.shape}")


def _is_whole(value: object) -> bool:
    return type(value) is int  # True is an int to isinstance
