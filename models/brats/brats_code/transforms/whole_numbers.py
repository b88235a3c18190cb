"""Numbers that are whole but for the rounding of their storage."""

from __future__ import annotations

import numpy as np

__all__ = ["whole_numbers"]

# A few units in the last place of float32, in which files store values, slopes and intercepts.
TOLERANCE = 1e-6


def whole_numbers(values: np.ndarray) -> np.ndarray | None:
    """The values as whole numbers, if they are such within the rounding of float32; else None.

    A label that stores 2 as 255 times the slope 2/255 reads as 2.0000000298, and one that went through float32
    arithmetic as 1.9999998.

    Args:
        values: any shape, real numbers of any dtype.

    Returns:
        `values` themselves where they are of a whole-number dtype, int64 otherwise; None for fractions and for values
        that are not finite.

    >>> whole_numbers(np.array([0.0, 2.0000000298, 1.9999998])).tolist()
    [0, 2, 2]
    >>> whole_numbers(np.array([0.0, 1.999])) is None
    True
    """
    values = np.asarray(values)
    if values.dtype.kind in "bui":
        return values
    nearest = np.rint(values)
    with np.errstate(invalid="ignore"):  # infinity minus itself
        close = np.abs(values - nearest) <= TOLERANCE * np.maximum(np.abs(nearest), 1)
    # a NaN is close to nothing, infinity neither; beyond 2^53 float64 holds no fractions, and labels no numbers
    return nearest.astype(np.int64) if close.all() and (np.abs(nearest) < 2**53).all() else None
