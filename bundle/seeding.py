"""Random draws as pure functions of (seed, who, position).

No part of a training draws from a generator's running state: what is drawn at a step depends on the run's seed, on the
name of the site that draws and on the step alone. That is what lets a run resume, a site rejoin, and two federations
agree bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

__all__ = ["Draw", "derive_seed", "draw", "drawn_indices", "forked_rng", "seeded"]


class Draw(NamedTuple):
    """One random draw from a data set: which sample, and the seed of everything random that happens to it."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a draw
    seed: int


def derive_seed(seed: int, *path: int | str) -> int:
    """
    A seed that depends on nothing but its arguments.

    Args:
        seed: seed of the run, >= 0.
        path: what the seed is for, such as ``("site", "CS", 17)``.

    Returns:
        An integer in [0, 2**32), by :class:`numpy.random.SeedSequence`, whose hash spreads near arguments apart.
    """
    entropy = [int(seed)]
    for part in path:
        words = part.encode() if isinstance(part, str) else int(part).to_bytes(8, "little")
        # the length keeps ("ab", "c") and ("a", "bc") apart
        entropy += [len(words), *words]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


@lru_cache(maxsize=64)
def _order(seed: int, name: str, lap: int, length: int) -> np.ndarray:
    return np.random.default_rng(derive_seed(seed, "order", name, lap)).permutation(length)


def draw(seed: int, name: str, position: int, length: int) -> Draw:
    """
    The draw at a position of an endless stream that shuffles a data set anew on each lap through it.

    Args:
        seed: seed of the run.
        name: who draws, such as the name of a site.
        position: place in the stream, >= 0; step ``s`` (from 0) of batch size ``b`` uses ``s*b ... s*b + b - 1``.
        length: number of samples in the data set, > 0.
    """
    lap, place = divmod(position, length)
    return Draw(int(_order(seed, name, lap, length)[place]), derive_seed(seed, "draw", name, position))


def drawn_indices(seed: int, name: str, first: int, count: int, length: int) -> np.ndarray:
    """
    The indices of ``count`` draws of :func:`draw` from position ``first`` on, where nothing else happens to the samples
    that would need a seed: to derive those takes longer than all else of a draw.
    """
    places = np.arange(first, first + count)
    laps = places // length
    # a lap at a time: their orders differ
    orders = [
        _order(seed, name, lap, length)[places[laps == lap] % length] for lap in range(int(laps[0]), int(laps[-1]) + 1)
    ]
    return np.concatenate(orders)


@contextmanager
def forked_rng(seed: int, device: torch.device | str = "cpu"):
    """Run a block with torch's random state set from ``seed``, and put the state back as it was."""
    device = torch.device(device)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        # not torch.manual_seed: where CUDA is not in use, that keeps the call and its whole stack for later, every time
        torch.default_generator.manual_seed(seed)
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def seeded(make: Callable[[], torch.nn.Module], seed: int, *role: str) -> torch.nn.Module:
    """
    Make a network whose initial weights depend on the seed and on its role, and on nothing that was drawn before.

    Args:
        make: makes the network; in a config a component with ``_mode_: callable``.
        seed: seed of the run.
        role: what the network is, such as ``"generator"``, or ``"discriminator", "CS"``.

    Raises:
        ValueError: when ``make`` is a network already, whose weights have been drawn.
    """
    if isinstance(make, torch.nn.Module):
        raise ValueError(f"the definition of the {role[0]} needs `_mode_: callable`, so that its weights can be seeded")
    with forked_rng(derive_seed(seed, "weights", *role)):
        return make()
