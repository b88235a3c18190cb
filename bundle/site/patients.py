"""The patients of a site, as units that are drawn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bundle.seeding import Draw
from bundle.site.samples import Samples

__all__ = ["Patients"]

WORDS = 3
"""Random numbers for a patient: whether he is drawn, which of his samples, and the seed of what happens to it."""


class Patients:
    """
    Args:
        samples: the site's data; every one is of one patient (:meth:`bundle.site.samples.Samples.origin`).

    ``largest`` is the number of samples of the patient with the most.
    """

    def __init__(self, samples: Samples) -> None:
        self.samples = samples
        of: dict[str, list[int]] = {}
        for index in range(len(samples)):
            of.setdefault(str(samples.origin(index)[0]), []).append(index)
        self._indices = [of[patient] for patient in sorted(of)]
        self.largest = max(map(len, self._indices), default=0)

    def __len__(self) -> int:
        return len(self._indices)

    def drawn(self, rate: float, source: Callable[[int], bytes]) -> list[Draw]:
        """
        One random sample of every patient who is drawn: each by himself, with probability ``rate`` (Poisson sampling).
        Their number is random, and may be 0.

        Args:
            rate: q, in (0, 1].
            source: returns as many random bytes as it is asked for.
        """
        words = np.frombuffer(source(WORDS * 8 * len(self)), dtype="<u8").reshape(WORDS, len(self))
        chosen = (words[0] >> np.uint64(11)) * 2.0**-53 < rate
        return [
            Draw(own[int(which) % len(own)], int(seed) % 2**32)
            for own, which, seed, taken in zip(self._indices, words[1], words[2], chosen, strict=True)
            if taken
        ]
