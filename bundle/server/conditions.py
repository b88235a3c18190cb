"""The conditions that a generator draws from after training: a file at the server, and a data set of it."""

from __future__ import annotations

import logging
import math
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.transforms import Compose
from torch.utils.data import Dataset

from bundle.files import atomic_path
from bundle.seeding import derive_seed, draw
from bundle.server.federation import Federation, SiteUnreachable
from bundle.server.teacher_images import read_teacher_images, write_teacher_images
from bundle.server.teacher_networks import TeacherNetworks
from bundle.settings import OWN, RELEASED
from bundle.transforms import varied
from bundle.transforms.condition import is_told_apart
from bundle.wire.guards import Violation, check_released
from bundle.wire.messages import ConditionRequest, TaughtBatch, TaughtWeights

__all__ = [
    "ConditionBank",
    "ConditionCollector",
    "PublicConditions",
    "read_conditions",
    "read_taught_pairs",
    "write_conditions",
]

logger = logging.getLogger(__name__)

MAX_CONDITIONS = 2**20
"""Of one site; one that released more and more would keep the server for ever."""

MAX_CONDITION_BYTES = 2**26
"""Of one condition, unpacked: 64 channels of 1024×1024."""

MAX_FILE_BYTES = 2**32
"""Of all conditions of a file, unpacked, as a training keeps them: 20,000 of 3×256×256."""

BANK = "bank"
"""In the place of a site's name, for conditions of the server's own."""


class ConditionCollector:
    """
    Ignite handler: before a training, asks every site for the conditions it releases for generation, and keeps them.

    Generation then needs the generator and this file, and no site: they may be out of reach by then. Of a site that
    lets out a teacher's weights in their place, these are kept. A site that does
    not let its conditions be kept, or is out of reach now, is left out of it, with a warning, and takes part in the
    training all the same. One that releases what are no conditions, or too many, gets a strike for it. Where that
    leaves nothing, no file is written.

    Args:
        federation: the sites.
        path: file to write, see :func:`write_conditions`. Nothing is asked for when it is there.
        chunk: conditions per request.
        max_bytes: what the conditions of one site may take in memory, a byte a pixel, and two a pixel of its teacher's
            images; None for no bound.
        images_path: file for the images of sites that have a teacher, see :func:`bundle.server.write_teacher_images`;
            written before ``path``, and only where there are some. None to leave them.
        image_channels: C of those images at most; None for any.
        teachers: where the weights of sites' teachers are kept; None to leave them.
    """

    def __init__(
        self,
        federation: Federation,
        path: str,
        chunk: int = 64,
        max_bytes: int | None = 2**28,
        images_path: str | None = None,
        image_channels: int | None = None,
        teachers: TeacherNetworks | None = None,
    ) -> None:
        self.federation = federation
        self.teachers = teachers
        self.path = Path(path)
        self.images_path = None if images_path is None else Path(images_path)
        self.image_channels = image_channels
        self.chunk = chunk
        self.max_bytes = math.inf if max_bytes is None else max_bytes

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        if self.path.exists():
            return
        conditions, images = {}, {}
        for site in self.federation.sites:
            if self.teachers is not None and site in self.teachers:
                continue
            try:
                conditions[site], images[site] = self._collect(site)
            except SiteUnreachable as error:
                # the training can do without, and so can the others' conditions
                logger.warning("no conditions for generation from site %s: %s", site, error)
            except Violation as error:
                engine.strike(site, f"conditions for generation: {error}")
        if not any(conditions.values()):
            logger.warning("no site released conditions for generation: it will need a bank of the server's own")
            return
        if self.images_path is not None and any(images.values()):
            write_teacher_images(self.images_path, images)
            logger.info("%d images of teachers in %s", sum(map(len, images.values())), self.images_path)
        write_conditions(self.path, conditions)
        logger.info("%d conditions for generation in %s", sum(map(len, conditions.values())), self.path)

    def _collect(self, site: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Conditions of a site, and as many images of its teacher, or none; neither where it lets out weights."""
        found: list[np.ndarray] = []
        taught: list[np.ndarray] = []
        size = 0
        while True:
            request = ConditionRequest(site, len(found), len(found) + self.chunk)
            batch = self.federation.conditions(request)
            check_released(batch, request, self.image_channels)
            if isinstance(batch, TaughtWeights):
                self._keep_weights(batch, len(found))
                return found, taught
            if not len(batch.conditions):
                if taught and len(taught) != len(found):
                    raise Violation(f"{len(taught)} teacher's images for {len(found)} conditions")
                return found, taught
            size += batch.conditions.numel()
            if isinstance(batch, TaughtBatch):
                taught += list(batch.images.numpy().astype(np.float16))
                size += 2 * batch.images.numel()
            if size > self.max_bytes:
                raise Violation(f"they take more than {self.max_bytes} bytes (max_kept_bytes)")
            found += list(batch.conditions.numpy())
            if len(found) > MAX_CONDITIONS:
                raise Violation(f"more than {MAX_CONDITIONS} conditions")

    def _keep_weights(self, batch: TaughtWeights, before: int) -> None:
        if before:
            raise Violation(f"a teacher's weights after {before} conditions")
        if self.teachers is not None:
            self.teachers.keep(batch.site, batch.weights)
            logger.info("weights of the teacher of site %s in %s", batch.site, self.teachers.folder)


def write_conditions(path: str | PathLike, conditions: Mapping[str, Sequence[np.ndarray]]) -> None:
    """
    Args:
        path: file to write: NumPy's ``.npz``, one array ``SITE/NUMBER`` for each condition, numbers from 0.
        conditions: conditions X×H×W uint8 of 0 and 1 by site, or by any other name of where they are from.
    """
    arrays: dict[str, Any] = {
        f"{site}/{number}": array for site, found in conditions.items() for number, array in enumerate(found)
    }
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def read_conditions(path: str | PathLike) -> dict[str, list[np.ndarray]]:
    """
    Args:
        path: file of :func:`write_conditions`.

    Returns:
        Conditions X×H×W uint8 of 0 and 1 by site, in the order of their numbers: that of the site's samples.

    Raises:
        FileNotFoundError: without the file.
        ValueError: when it holds anything else, or by its headers more than :data:`MAX_CONDITION_BYTES` or
            :data:`MAX_FILE_BYTES`; nothing is unpacked then.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no conditions at {path}: train.yaml writes them at the start of a training")
    conditions: dict[str, list[np.ndarray]] = {}
    try:
        with np.load(path, allow_pickle=False) as stored:
            if sum(_unpacked_size(stored, name) for name in stored.files) > MAX_FILE_BYTES:
                raise ValueError(f"more than {MAX_FILE_BYTES} bytes when unpacked")
            names = ((site, number, name) for name in stored.files for site, _, number in [name.rpartition("/")])
            for site, _, name in sorted((site, int(number), name) for site, number, name in names):
                condition = stored[name]
                if condition.max() > 1:
                    raise ValueError(f"{name} has values up to {condition.max()}")
                conditions.setdefault(site, []).append(condition)
    except (ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path}: expected NumPy's .npz of arrays NAME/NUMBER, each X×H×W uint8 of 0 and 1 ({error})"
        ) from error
    return conditions


def _unpacked_size(stored: np.lib.npyio.NpzFile, name: str) -> int:
    """Bytes of a condition by its header, which NumPy would otherwise believe."""
    assert stored.zip is not None  # it is open
    with stored.zip.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(member)
    if len(shape) != 3 or dtype != np.uint8 or not 0 < math.prod(shape) <= MAX_CONDITION_BYTES:
        raise ValueError(f"{name} is {dtype} {shape}")
    return math.prod(shape)


def transformed(condition: np.ndarray, augmentation: Compose | None, seed: int) -> torch.Tensor:
    """
    A condition X×H×W uint8 after random transforms.

    Args:
        condition: X×H×W uint8 of 0 and 1.
        augmentation: MONAI transforms of ``image``, the condition; None for none.
        seed: of the transforms.
    """
    if augmentation is None:
        return torch.from_numpy(condition)
    return varied(augmentation, {"image": torch.from_numpy(condition)}, seed)["image"].to(torch.uint8)


class PublicConditions:
    """
    Conditions of the server's own to train with, for sites whose label maps stay where they are.

    Args:
        path: file of :func:`write_conditions`; ``asyndgan bank`` makes one.
        augmentation: random MONAI transforms of ``image``, the condition; None for none.

    Raises:
        FileNotFoundError: without the file.
        ValueError: when it holds no conditions, or such of different shapes.
    """

    def __init__(self, path: str | PathLike, augmentation: Compose | None = None) -> None:
        if not Path(path).is_file():
            raise FileNotFoundError(f"public_conditions: no file {path}; asyndgan bank makes one")
        self.conditions = [condition for found in read_conditions(path).values() for condition in found]
        if len({condition.shape for condition in self.conditions}) != 1:
            raise ValueError(f"public_conditions: expected conditions of one shape in {path}, found none or several")
        self.augmentation = augmentation

    def batch(self, seed: int, site: str, step: int, count: int) -> torch.Tensor:
        """
        Those of a step, B×X×H×W uint8 of 0 and 1: a function of the arguments alone.

        Args:
            seed: seed of the run.
            site: name of the site that they are for.
            step: from 1.
            count: B.
        """
        first = (step - 1) * count
        draws = [
            draw(seed, f"public conditions, {site}", first + place, len(self.conditions)) for place in range(count)
        ]
        return torch.stack([transformed(self.conditions[index], self.augmentation, own) for index, own in draws])


class Guide(Protocol):
    """Images that teachers predicted for conditions (:class:`bundle.server.TaughtImages`)."""

    channels: int

    def knows(self, condition: np.ndarray) -> bool: ...

    def __call__(self, conditions: torch.Tensor) -> torch.Tensor: ...


class ConditionBank(Dataset):
    """
    Every condition that sites released, or of a bank of the server's own, or of both, ``copies`` times.

    Items: ``{"image": condition X×H×W uint8, "site": str, "index": number of the condition at its site, "copy": int,
    "condition_source": "released by site" or "bank of the server"}``; the condition is called ``image`` because it is
    the network's input, and MONAI's engines look for that key. The ``site`` of the server's own is ``"bank"``.
    ``conditions`` holds them all by ``site``.

    Args:
        path: file of a :class:`ConditionCollector`; there is none where no site released any. None to leave what sites
            released.
        copies: synthetic images per condition. Copy 0 is made from the condition as it is, the others from randomly
            transformed ones: a generator without noise would give the same image again.
        augmentation: random MONAI transforms of ``image`` for copies 1, 2, …; needed when ``copies`` > 1.
        transform_first: whether there is no copy 0, and copies 1 to ``copies`` in its place, so that no synthetic label
            map is the very one of a patient.
        seed: seed of the transforms, together with site, index and copy.
        bank: file of :func:`write_conditions` with conditions of the server's own; None for none.
        channels: X that the generator takes; None for any.
        batch_size: conditions that are to fit into one array.
        guide: teachers' images, for a generator that sees them: an item has that of its condition as ``guide``, C×H×W
            in [-1, 1], transformed as the condition is; zeros where its site has no teacher. None for none.
        num_classes: channels that are classes, the first ones: a condition of a site whose labels leave open which of
            several a pixel is of has no label map, and is left out. None where there are none such.

    Raises:
        FileNotFoundError: when there are no conditions at all, or no such bank.
        ValueError: when copies or transforms are asked for without an augmentation; when a file holds no conditions, or
            of other channels, or of different sizes for one batch.
    """

    def __init__(
        self,
        path: str | None,
        copies: int = 1,
        augmentation: Compose | None = None,
        seed: int = 0,
        bank: str | None = None,
        channels: int | None = None,
        batch_size: int = 1,
        transform_first: bool = False,
        num_classes: int | None = None,
        guide: Guide | None = None,
    ) -> None:
        if copies > 1 and augmentation is None:
            raise ValueError(f"copies={copies} needs an augmentation: without one the copies would be the same image")
        if transform_first and augmentation is None:
            raise ValueError("transform_first needs an augmentation: there is nothing to transform conditions by")
        self.conditions = read_conditions(path) if path is not None and Path(path).is_file() else {}
        if bank is not None:
            self._add_bank(bank)
        if not self.conditions:
            missing = "those of the sites are left out" if path is None else f"{path} is missing or empty"
            raise FileNotFoundError(
                f"no conditions to generate from: {missing}. train.yaml writes what sites release when a training "
                "begins (keep_conditions: true lets a site release them); or name a bank of the server's own "
                "(condition_bank: FILE, asyndgan bank makes one)"
            )
        self._check(channels, batch_size)
        clear = _told_apart(self.conditions, num_classes)
        self.augmentation = augmentation
        self.seed = seed
        self.guide = guide
        self._unguided = self._without_teacher()
        self.data: list[dict[str, Any]] = [
            {
                "site": site,
                "index": index,
                "copy": copy,
                "condition_source": OWN if bank is not None and site == BANK else RELEASED,
            }
            for site in self.conditions
            for index in clear[site]
            for copy in range(transform_first, copies + transform_first)
        ]

    def _add_bank(self, bank: str) -> None:
        if not Path(bank).is_file():
            raise FileNotFoundError(f"condition_bank: no file {bank}; asyndgan bank makes one")
        if BANK in self.conditions:
            raise ValueError(f"a site is called {BANK!r}, which stands for the bank of the server")
        # whatever groups it has: they are no sites of this run
        own = [condition for found in read_conditions(bank).values() for condition in found]
        if not own:
            raise ValueError(f"condition_bank: {bank} holds no conditions")
        self.conditions[BANK] = own

    def _without_teacher(self) -> set[str]:
        """Sites whose conditions have no teacher's image: as in training, G sees zeros there."""
        if self.guide is None:
            return set()
        known = self.guide.knows
        without = {site for site, own in self.conditions.items() if own and not all(known(one) for one in own)}
        if BANK in without:
            raise ValueError(
                "condition_bank: generator_guide has G draw where there is a teacher's image, and no teacher has "
                "predicted one of these conditions: leave the bank out"
            )
        for site in sorted(without):
            logger.warning("site %s has no teacher: images of its conditions are drawn without a guide", site)
        return without

    def _check(self, channels: int | None, batch_size: int) -> None:
        shapes = {site: Counter(condition.shape for condition in found) for site, found in self.conditions.items()}
        for site, counted in shapes.items():
            for shape in counted:
                if channels is not None and shape[0] != channels:
                    raise ValueError(f"conditions of {site}: {shape[0]} channels, the generator takes {channels}")
        if batch_size > 1 and len(set().union(*shapes.values())) > 1:
            found = ", ".join(f"{site} {h}×{w}" for site, counted in shapes.items() for _, h, w in counted)
            raise ValueError(
                f"conditions of different sizes do not fit into one batch of {batch_size}: {found}. "
                "Make the bank with the configs of the training, or set generation_batch_size to 1"
            )

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: int) -> dict:
        item = dict(self.data[key])
        condition = item["image"] = torch.from_numpy(self.conditions[item["site"]][item["index"]])
        guided = self.guide is not None and item["site"] not in self._unguided
        if self.guide is not None:
            # as channels of one, so that no transform can move them apart; 0 is what it fills with
            taught = self.guide(condition[None])[0] if guided else torch.zeros_like(condition[:1])
            item["image"] = torch.cat([condition.float(), (taught + 1).expand(self.guide.channels, -1, -1)])
        if item["copy"]:
            seed = derive_seed(self.seed, "copy", item["site"], item["index"], item["copy"])
            assert self.augmentation is not None
            item = varied(self.augmentation, item, seed)
        if self.guide is not None:
            item["guide"] = (item["image"][len(condition) :] - 1) * guided
            item["image"] = item["image"][: len(condition)].round()
        # as copy 0 is: a batch may hold it beside copy 1 of another condition
        item["image"] = item["image"].to(torch.uint8)
        return item


def _told_apart(conditions: Mapping[str, Sequence[np.ndarray]], num_classes: int | None) -> dict[str, list[int]]:
    """
    Numbers of the conditions by site that have a label map.

    Raises:
        ValueError: when there are none.
    """
    clear = {
        site: [i for i, c in enumerate(own) if num_classes is None or is_told_apart(torch.from_numpy(c), num_classes)]
        for site, own in conditions.items()
    }
    for site, own in conditions.items():
        if left_out := len(own) - len(clear[site]):
            logger.info("%d conditions of %s do not tell classes apart, and are not drawn on", left_out, site)
    if not any(clear.values()):
        raise ValueError(
            "no condition tells all classes apart, so none has a label map (label_groups of the sites' data lists): "
            "name a bank of the server's own (condition_bank: FILE, asyndgan bank makes one)"
        )
    return clear


def read_taught_pairs(
    conditions: str | PathLike, images: str | PathLike
) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """
    Conditions X×H×W as they left, each with the teacher's image C×H×W float16 of it, by site that has a teacher.

    Raises:
        ValueError: when a file holds anything else, or the images are not those of the conditions.
    """
    released = read_conditions(conditions)
    pairs = {}
    for site, taught in read_teacher_images(images).items():
        known = released.get(site, [])
        if [one.shape[1:] for one in known] != [one.shape[1:] for one in taught]:
            raise ValueError(f"{images}: the images of site {site} are not those of the conditions in {conditions}")
        pairs[site] = list(zip(known, taught, strict=True))
    return pairs
