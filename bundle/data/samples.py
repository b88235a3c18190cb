"""Cases to samples: volumes are decoded and prepared once, samples are drawn from the result.

A *sample* is a dictionary of arrays of one training example (``image`` C×H×W float32, ``label`` 1×H×W uint8,
``condition`` X×H×W uint8) and of strings and numbers that say where it is from.
"""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from monai.transforms import Compose
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler
from tqdm import tqdm

from bundle.data.errors import DataError
from bundle.seeding import Draw, draw, drawn_indices
from bundle.transforms import tracking_metadata, varied

__all__ = [
    "AxialSlices",
    "DrawSampler",
    "HeldOutDataset",
    "MixedSampler",
    "SampleDataset",
    "WholeImage",
    "prepare_case",
]

logger = logging.getLogger(__name__)


def prepare_case(item: Mapping, transform: Callable, name: str) -> dict:
    """
    Apply transforms to an item of a data list.

    Raises:
        DataError: naming the data set, the case, its files and the cause.
    """
    try:
        with tracking_metadata(True):
            return transform(dict(item))
    except Exception as error:
        # MONAI wraps the cause in layers that name transforms; the user needs the cause and the files
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise DataError(
            f"{name}: case {item.get('case')} of site {item.get('site')} cannot be prepared "
            f"(image {item.get('image')}, label {item.get('label')}): {cause}"
        ) from error


class HeldOutDataset(Dataset):
    """
    Whole cases for evaluation, prepared when they are asked for. The ``site`` of a case of no site is ``""``.

    Args:
        data: items of a data list.
        transform: MONAI transforms from an item to a prepared case.

    Raises:
        DataError: without items; on access, when an item cannot be read or prepared.
    """

    def __init__(self, data: Sequence[Mapping], transform: Callable) -> None:
        if not data:
            raise DataError("there are no held-out cases: the list 'test' of the data list is empty")
        self.data = list(data)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict:
        return self._prepare(self.data[index])

    def check(self) -> None:
        """
        Prepare every case once, before the hours that come before their evaluation.

        Raises:
            DataError: listing the cases that cannot be prepared.
        """
        problems = []
        for item in tqdm(self.data, desc="preparing held-out cases", unit="case", disable=None, leave=False):
            try:
                self._prepare(item)
            except DataError as error:
                problems.append(str(error))
        if problems:
            raise DataError.listing("held-out cases", problems)

    def _prepare(self, item: Mapping) -> dict:
        # a case of no site: None cannot be collated, and no site is called ""
        return prepare_case({**item, "site": item.get("site") or ""}, self.transform, "held-out cases")


class WholeImage:
    """Sample selection for images that are samples themselves: one sample a case."""

    def __call__(self, case: Mapping) -> list[int | None]:
        return [None]


class AxialSlices:
    """
    Sample selection for volumes: slices along the last axis that hold enough foreground, and some that hold none.

    A volume of one slice is taken as it is: it is a synthetic image, whose condition was such a choice.

    Args:
        min_foreground: foreground pixels that a slice needs, as :class:`bundle.transforms.CountForegroundd` counts
            them; the published setting is 10 tumour pixels (Chang et al. 2020, section 4.2).
        empty: slices without any foreground to take as well, per slice with enough of it, evenly spaced over those that
            show anything. Published: 0. A segmenter that never saw one finds tumours everywhere in whole volumes.
    """

    def __init__(self, min_foreground: int = 10, empty: float = 0.0) -> None:
        self.min_foreground = min_foreground
        self.empty = empty

    def __call__(self, case: Mapping) -> list[int | None]:
        foreground = torch.as_tensor(case["foreground_pixels"])
        if len(foreground) == 1:
            return [0]
        chosen = torch.nonzero(foreground >= self.min_foreground).flatten().tolist()
        image = torch.as_tensor(case["image"])
        shows = torch.amax(image, dim=(0, 1, 2)) > image.min()
        without = torch.nonzero((foreground == 0) & shows).flatten().tolist()
        places = (
            np.linspace(0, len(without) - 1, min(len(without), round(self.empty * len(chosen)))).round().astype(int)
        )
        return sorted({*chosen, *(without[place] for place in places)})


class SampleDataset(Dataset):
    """
    Samples of some cases, prepared once and kept.

    Every case goes through ``transform`` when the data set is built, so a file that cannot be used is found before
    any training. A share of the cases then stays in memory, the others as uncompressed arrays in a temporary folder
    that are read by memory mapping; neither is decoded again.

    Args:
        data: items of a data list (see :mod:`bundle.data.datalist`).
        transform: deterministic MONAI transforms, from an item to a prepared case (arrays C×H×W or C×H×W×D).
        select: says which samples a case holds: :class:`AxialSlices` or :class:`WholeImage`.
        keys: the arrays of a prepared case that a sample keeps.
        augmentation: random MONAI transforms for the samples that are drawn with a seed; None for none.
        cache_rate: share of the cases, in [0, 1], that is kept in memory.
        cache_dir: folder for the temporary arrays of the others; None for the system's.
        name: what the progress and the messages call this data set.

    Raises:
        DataError: when an item cannot be read or prepared (the message names case and files), or when no sample is
            left.
    """

    def __init__(
        self,
        data: Sequence[Mapping],
        transform: Callable,
        select: Callable[[Mapping], list[int | None]],
        keys: Sequence[str] = ("image", "label", "condition"),
        augmentation: Compose | None = None,
        cache_rate: float = 1.0,
        cache_dir: str | None = None,
        name: str = "data",
    ) -> None:
        self.data = list(data)
        self.transform = transform
        self.select = select
        self.keys = tuple(keys)
        self.augmentation = augmentation
        self.name = name
        self._folder: tempfile.TemporaryDirectory | None = None
        self._samples: list[dict] = []
        self._patients = {item["case"]: item.get("patient", item["case"]) for item in self.data if "case" in item}
        self._change: Callable[[int, dict], dict] | None = None
        in_memory = round(cache_rate * len(self.data))
        for number, item in enumerate(
            tqdm(self.data, desc=f"preparing {name}", unit="case", disable=None, leave=False)
        ):
            samples = self._prepare(item)
            self._samples += samples if number < in_memory else self._to_disk(number, samples, cache_dir)
        if not self._samples:
            raise DataError(f"{name}: none of the {len(self.data)} cases has a sample: {vars(select)} selects none")
        logger.info("%s: %d samples of %d cases", name, len(self._samples), len(self.data))

    def _prepare(self, item: Mapping) -> list[dict]:
        case = prepare_case(item, self.transform, self.name)
        arrays = {key: np.asarray(case[key]) for key in self.keys}
        about = {key: item[key] for key in ("case", "site", "part") if key in item}
        return [
            {key: np.ascontiguousarray(a if index is None else a[..., index]) for key, a in arrays.items()}
            | about
            | ({} if index is None else {"slice": index})
            for index in self.select(case)
        ]

    def _to_disk(self, number: int, samples: list[dict], cache_dir: str | None) -> list[dict]:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="samples-", dir=cache_dir)
        kept = []
        for place, sample in enumerate(samples):
            mapped = dict(sample)
            for key in self.keys:
                path = Path(self._folder.name) / f"{number}-{place}-{key}.npy"
                np.save(path, sample[key])
                mapped[key] = np.load(path, mmap_mode="r")
            kept.append(mapped)
        return kept

    def __len__(self) -> int:
        return len(self._samples)

    def part(self, name: str) -> list[int]:
        """Indices of the samples whose item says that it is of this part."""
        return [index for index, sample in enumerate(self._samples) if sample.get("part") == name]

    def origin(self, index: int) -> tuple[str | int, ...]:
        """
        What a sample was taken from: patient, case and, of a volume, the slice. It is the same whatever the samples'
        size, number and augmentation are.
        """
        sample = self._samples[index]
        case = sample.get("case", "")
        return self._patients.get(case, case), case, *((sample["slice"],) if "slice" in sample else ())

    def changed(self, change: Callable[[int, dict], dict]) -> SampleDataset:
        """
        The same samples, each changed before anything random happens to it.

        Args:
            change: from the index of a sample and the sample to the changed one.
        """
        changed = copy.copy(self)
        changed._change = change
        return changed

    def __getitem__(self, key: int | Draw) -> dict:
        """The sample as it is for an index, or randomly transformed for a :class:`bundle.seeding.Draw`."""
        index, seed = key if isinstance(key, tuple) else (key, None)
        # copied: samples may be read-only memory maps, and a transform may work in place
        sample = {k: torch.from_numpy(np.array(v)) if k in self.keys else v for k, v in self._samples[index].items()}
        if self._change is not None:
            sample = self._change(index, sample)
        if seed is not None and self.augmentation is not None:
            sample = varied(self.augmentation, sample, seed)
        return sample

    def batch(self, seed: int, name: str, first: int, count: int) -> dict[str, torch.Tensor]:
        """
        The arrays of ``count`` draws (:func:`bundle.seeding.draw`) from position ``first`` on, stacked: what drawing
        them one by one gives. Without an augmentation it is much faster for small samples such as the toy's.
        """
        if self.augmentation is None and self._change is None:
            chosen = [self._samples[i] for i in drawn_indices(seed, name, first, count, len(self))]
            return {key: torch.from_numpy(np.stack([sample[key] for sample in chosen])) for key in self.keys}
        chosen = [self[draw(seed, name, first + i, len(self))] for i in range(count)]
        return {key: torch.stack([sample[key] for sample in chosen]) for key in self.keys}


class DrawSampler(DistributedSampler):
    """
    Epochs of a fixed number of draws, the same for data sets of every size.

    MONAI's engines tell a ``DistributedSampler`` the number of each epoch that starts; with it the draws of an epoch
    depend on (seed, name, epoch) only, so a training that resumes after epoch ``e`` goes on with the draws of ``e +
    1``.

    Args:
        dataset: a :class:`SampleDataset`, or another whose items can be had by :class:`bundle.seeding.Draw`.
        num_draws: draws per epoch: steps per epoch × batch size.
        seed: seed of the run.
        name: who draws.
        num_replicas, rank: of several processes, which one this is: it takes every ``num_replicas``-th draw, so that
            the batches of all make up that of a process alone.
    """

    def __init__(
        self,
        dataset: Dataset,
        num_draws: int,
        seed: int = 0,
        name: str = "train",
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, shuffle=True, seed=seed)
        self.num_draws = num_draws
        self.name = name
        self.set_epoch(1)

    def __iter__(self) -> Iterator[Draw]:
        first = (self.epoch - 1) * self.num_draws
        mine = range(self.rank, self.num_draws, self.num_replicas)
        return (draw(self.seed, self.name, first + i, len(self.dataset)) for i in mine)

    def __len__(self) -> int:
        return len(range(self.rank, self.num_draws, self.num_replicas))


class MixedSampler(DrawSampler):
    """
    A :class:`DrawSampler` that says how much of every batch is the site's own real images, the others being synthetic.

    Each part is a stream of its own, shuffled anew on each lap through it, so every batch holds the same number of its
    own images however many there are. What a step draws depends on (seed, name, step) alone.

    Args:
        dataset: a :class:`SampleDataset` whose items say their ``part``: ``own`` or ``synthetic``.
        num_draws, seed, name, num_replicas, rank: see :class:`DrawSampler`.
        batch_size: draws of a step.
        own_shares: (first step, share in [0, 1]) in the order of steps, from step 0 on: the share of a batch is rounded
            to whole images. None for a data set that is not mixed, whose draws are those of a :class:`DrawSampler`.

    Raises:
        ValueError: for a share of no whole image of a part that it promises, and for a part without samples.
    """

    def __init__(
        self,
        dataset: SampleDataset,
        num_draws: int,
        batch_size: int,
        own_shares: Sequence[tuple[int, float]] | None = None,
        seed: int = 0,
        name: str = "train",
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        super().__init__(dataset, num_draws, seed, name, num_replicas, rank)
        self.batch_size = batch_size
        self._phases = [(step, _whole_images(share, batch_size)) for step, share in own_shares or []]
        self._parts = {part: dataset.part(part) for part in ("own", "synthetic")} if own_shares else {}
        if empty := [part for part, indices in self._parts.items() if not indices]:
            raise ValueError(f"{dataset.name}: no {empty[0]} images to mix, every item has to say its part")

    def __iter__(self) -> Iterator[Draw]:
        if not self._phases:
            yield from super().__iter__()
            return
        first = (self.epoch - 1) * self.num_draws
        for position in range(first + self.rank, first + self.num_draws, self.num_replicas):
            yield self._mixed(*divmod(position, self.batch_size))

    def _mixed(self, step: int, place: int) -> Draw:
        """The draw at a place of a step's batch: its own images come first."""
        own, own_before = 0, 0
        for (start, count), end in zip(self._phases, [*(s for s, _ in self._phases[1:]), None], strict=True):
            if start > step:
                break
            own = count
            own_before += count * ((step if end is None else min(step, end)) - start)
        before = {"own": own_before, "synthetic": step * self.batch_size - own_before}
        part, position = ("own", place) if place < own else ("synthetic", place - own)
        indices = self._parts[part]
        drawn = draw(self.seed, f"{self.name} {part}", before[part] + position, len(indices))
        return Draw(indices[drawn.index], drawn.seed)


def _whole_images(share: float, batch_size: int) -> int:
    count = round(share * batch_size)
    if 0 < share < 1 and count in (0, batch_size):
        raise ValueError(f"own_share: {share} of a batch of {batch_size} images is {count}, expected some of both")
    return count
