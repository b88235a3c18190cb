"""The reminding loss: what a generator has learned from sites that have left, kept by its own images of before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.inferers import Inferer, SimpleInferer
from monai.transforms import Compose

from bundle.files import atomic_path, below, digest, write_torch
from bundle.seeding import Draw, derive_seed, draw, forked_rng
from bundle.server.conditions import read_conditions, transformed, write_conditions

__all__ = ["Replay", "read_replay", "write_replay"]

FILE = "conditions.npz"

_Kept = tuple[list[np.ndarray], Mapping[str, Any]]
"""Conditions of a site that has left, and the weights of the generator when it did."""


def write_replay(folder: str | PathLike, kept: Mapping[str, _Kept]) -> None:
    """
    Args:
        folder: to write ``conditions.npz`` (:func:`bundle.server.write_conditions`) and ``SITE.pt``, weights of a
            generator, to. What else of these is there is deleted.
        kept: by site, conditions X×H×W uint8 of 0 and 1, and the generator's ``state_dict``.
    """
    for path in (*Path(folder).glob("*.pt"), Path(folder, FILE)):
        path.unlink(missing_ok=True)
    if not kept:
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    for site, (_, weights) in kept.items():
        with atomic_path(below(folder, f"{site}.pt")) as temporary:
            write_torch(temporary, dict(weights))
    write_conditions(Path(folder, FILE), {site: conditions for site, (conditions, _) in kept.items()})


def read_replay(folder: str | PathLike) -> dict[str, _Kept]:
    """
    What :func:`write_replay` wrote; nothing where there is nothing.

    Raises:
        ValueError: when a file holds something else; FileNotFoundError when a site has conditions and no generator.
    """
    if not Path(folder, FILE).is_file():
        return {}
    return {
        site: (conditions, torch.load(below(folder, f"{site}.pt"), map_location="cpu", weights_only=True))
        for site, conditions in read_conditions(Path(folder, FILE)).items()
    }


class Replay:
    """
    weight · mean |G(x, z) − G'(x, z)|, over kept conditions x of sites that have left; G' is the generator as it was
    when the site of x left, and z the same for both.

    This is the reminding loss of Qu, Zhang, Chang et al., "Learn Distributed GAN with Temporary Discriminators", ECCV
    2020, https://arxiv.org/abs/2007.09221; what the sites that are there return is their digesting loss. As in the
    authors' code (huiqu18/TDGAN-PyTorch) it is an L1 distance; the paper's is squared. It differs in two ways: their
    code adds up a batch of every earlier site, here one batch is drawn from all their conditions, so that a step costs
    the same however many have left; and their G' is always that of the time before, here that of the time when the site
    left, so that errors do not add up over times.

    Args:
        folder: of :func:`write_replay`; there may be nothing. Read when it is needed first.
        weight: λ, at least 0; 0 switches the loss off.
        batch_size: conditions of a step.
        augmentation: random MONAI transforms of ``image``, the condition, as of public conditions; None for none.
        inferer: how generators are called.
        seed: seed of the run.

    Raises:
        ValueError: for a weight below 0 or a batch below 1.
    """

    def __init__(
        self,
        folder: str | PathLike,
        weight: float = 10.0,
        batch_size: int = 8,
        augmentation: Compose | None = None,
        inferer: Inferer | None = None,
        seed: int = 0,
    ) -> None:
        if not weight >= 0:
            raise ValueError(f"replay_weight: expected a number of at least 0, got {weight!r}")
        if batch_size < 1:
            raise ValueError(f"replay_batch_size: expected at least 1, got {batch_size!r}")
        self.folder = Path(folder)
        self.weight = weight
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.inferer = SimpleInferer() if inferer is None else inferer
        self.seed = seed
        self._pool: list[tuple[str, np.ndarray]] | None = None
        self._before: dict[str, torch.nn.Module] = {}

    def describe(self) -> str:
        """What is added to the losses of sites, in words; empty where nobody has left."""
        return f" + {self.weight:g}·L1 to the generator of before" if self._is_on else ""

    @property
    def _is_on(self) -> bool:
        return bool(self.weight) and Path(self.folder, FILE).is_file()

    def loss(self, network: torch.nn.Module, step: int, device: torch.device | str) -> torch.Tensor | None:
        """
        Args:
            network: G.
            step: from 1.
            device: where G computes.

        Returns:
            mean |G(x, z) − G'(x, z)|, a float32 scalar without its weight; None where nobody has left.
        """
        if not self._is_on:
            return None
        if self._pool is None:
            self._pool = self._read(network, device)
        first = (step - 1) * self.batch_size
        draws = [draw(self.seed, "replay", first + place, len(self._pool)) for place in range(self.batch_size)]
        terms = []
        for number, (site, conditions) in enumerate(self._groups(self._pool, draws)):
            inputs = torch.stack(conditions).to(device, torch.float32)
            seed = derive_seed(self.seed, "replay", site, step, number)
            with torch.no_grad(), forked_rng(seed, device):
                expected = self.inferer(inputs, self._before[site])
            with forked_rng(seed, device):
                found = self.inferer(inputs, network)
            terms.append(F.l1_loss(found.float(), expected.float()) * (len(conditions) / self.batch_size))
        return torch.stack(terms).sum()

    def _groups(
        self, pool: Sequence[tuple[str, np.ndarray]], draws: Sequence[Draw]
    ) -> list[tuple[str, list[torch.Tensor]]]:
        """What one call of a generator takes: conditions of one site and shape."""
        groups: dict[tuple[str, torch.Size], list[torch.Tensor]] = {}
        for index, seed in draws:
            site, condition = pool[index]
            changed = transformed(condition, self.augmentation, seed)
            groups.setdefault((site, changed.shape), []).append(changed)
        return [(site, groups[site, shape]) for site, shape in sorted(groups)]

    def _read(self, network: torch.nn.Module, device: torch.device | str) -> list[tuple[str, np.ndarray]]:
        kept = read_replay(self.folder)
        same: dict[str, torch.nn.Module] = {}  # sites that left together have one
        for site, (_, weights) in kept.items():
            key = digest(below(self.folder, f"{site}.pt"))
            if key not in same:
                before = deepcopy(network)
                before.load_state_dict(weights)
                same[key] = before.eval().requires_grad_(False).to(device)
            self._before[site] = same[key]
        return [(site, condition) for site, (conditions, _) in kept.items() for condition in conditions]
