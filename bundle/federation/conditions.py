"""The conditions that sites release for generation: a file at the server, and a data set of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.transforms import Compose
from torch.utils.data import Dataset

from bundle.federation.base import Federation, SiteUnreachable
from bundle.federation.guards import Violation, check_released
from bundle.federation.messages import ConditionRequest
from bundle.files import atomic_path
from bundle.seeding import derive_seed

__all__ = ["ConditionBank", "ConditionCollector", "read_conditions"]

logger = logging.getLogger(__name__)

MAX_CONDITIONS = 2**20
"""Of one site; one that released more and more would keep the server for ever."""


class ConditionCollector:
    """
    Ignite handler: before a training, asks every site for the conditions it releases for generation, and keeps them.

    Generation then needs the generator and this file, and no site: they may be out of reach by then. A site that is out
    of reach now, or releases what are no conditions, is left out of it, with a warning.

    Args:
        federation: the sites.
        path: file to write: NumPy's ``.npz``, one X×H×W uint8 array ``SITE/NUMBER`` for each condition. Nothing is
            asked for when it is there.
        chunk: conditions per request.
    """

    def __init__(self, federation: Federation, path: str, chunk: int = 64) -> None:
        self.federation = federation
        self.path = Path(path)
        self.chunk = chunk

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        if self.path.exists():
            return
        conditions = {}
        for site in self.federation.sites:
            try:
                found = self._collect(site)
            except (SiteUnreachable, Violation) as error:
                # the training can do without, and so can the others' conditions
                logger.warning("no conditions for generation from site %s: %s", site, error)
                continue
            conditions |= {f"{site}/{number}": condition for number, condition in enumerate(found)}
        if not conditions:
            raise SiteUnreachable(f"no site released conditions for generation: {', '.join(self.federation.sites)}")
        with atomic_path(self.path) as temporary:
            np.savez_compressed(temporary, **conditions)
        logger.info("%d conditions for generation in %s", len(conditions), self.path)

    def _collect(self, site: str) -> list[np.ndarray]:
        found: list[np.ndarray] = []
        while True:
            request = ConditionRequest(site, len(found), len(found) + self.chunk)
            batch = self.federation.conditions(request)
            check_released(batch, request)
            if not len(batch.conditions):
                return found
            found += list(batch.conditions.numpy())
            if len(found) > MAX_CONDITIONS:
                raise Violation(f"more than {MAX_CONDITIONS} conditions")


def read_conditions(path: str | PathLike) -> dict[str, list[np.ndarray]]:
    """
    Args:
        path: file of a :class:`ConditionCollector`.

    Returns:
        Conditions X×H×W uint8 by site, in the order of the site's samples.

    Raises:
        FileNotFoundError: without the file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no conditions at {path}: train.yaml writes them at the start of a training")
    conditions: dict[str, list[np.ndarray]] = {}
    with np.load(path, allow_pickle=False) as stored:
        places = sorted((site, int(number)) for site, _, number in (name.rpartition("/") for name in stored.files))
        for site, number in places:
            conditions.setdefault(site, []).append(stored[f"{site}/{number}"])
    return conditions


class ConditionBank(Dataset):
    """
    Every condition in a file of :class:`ConditionCollector`, ``copies`` times.

    Items: ``{"image": condition X×H×W uint8, "site": str, "index": number of the sample at its site, "copy": int}``;
    the condition is called ``image`` because it is the network's input, and MONAI's engines look for that key.

    Args:
        path: file of a :class:`ConditionCollector`.
        copies: synthetic images per condition. Copy 0 is made from the condition as it is, the others from randomly
            transformed ones: a generator without noise would give the same image again.
        augmentation: random MONAI transforms of ``image`` for copies 1, 2, …; needed when ``copies`` > 1.
        seed: seed of the transforms, together with site, index and copy.

    Raises:
        FileNotFoundError: without the file.
        ValueError: when copies are asked for without an augmentation.
    """

    def __init__(
        self, path: str, copies: int = 1, augmentation: Compose | Callable | None = None, seed: int = 0
    ) -> None:
        if copies > 1 and augmentation is None:
            raise ValueError(f"copies={copies} needs an augmentation: without one the copies would be the same image")
        self.conditions = read_conditions(path)
        self.augmentation = augmentation
        self.seed = seed
        self.data = [
            {"site": site, "index": index, "copy": copy}
            for site, conditions in self.conditions.items()
            for index in range(len(conditions))
            for copy in range(copies)
        ]

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: int) -> dict:
        item = dict(self.data[key])
        item["image"] = torch.from_numpy(self.conditions[item["site"]][item["index"]])
        if item["copy"]:
            seed = derive_seed(self.seed, "copy", item["site"], item["index"], item["copy"])
            item = self.augmentation.set_random_state(seed=seed)(item)
            # plain uint8 throughout: a batch may hold copy 0 of one condition and copy 1 of another
            item["image"] = torch.as_tensor(item["image"]).as_subclass(torch.Tensor).to(torch.uint8)
        return item
