"""Synthetic images with their labels, drawn when they are asked for: no file is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset, default_collate

from bundle.engines import PaddedInferer, SeededBatch, SeededInferer
from bundle.generators.packed import PackedGenerator, read_model
from bundle.shapes import ALL, draw_conditions, model_of, style_of
from bundle.transforms import label_from_condition

__all__ = ["DrawnConditions", "SyntheticDataset"]

DIVISOR = 4
"""Of the sides that a generator takes; others are padded by reflection."""


class DrawnConditions(Dataset):
    """
    Conditions that are drawn from the shapes of a packed generator, as generation takes them.

    Args:
        model: the generator.
        num: how many.
        seed: which.
        style: whose shapes they have: a site of the training, or ``all``.
        size: height and width; None for those of the training. Organs have no other.
        controls: of the label maps, see :func:`bundle.shapes.draw_conditions`.

    Raises:
        bundle.generators.ModelError: the generator has no shapes.
        ValueError: another style, size or control than it has; said before anything is drawn.
    """

    def __init__(
        self,
        model: PackedGenerator,
        num: int,
        seed: int = 0,
        style: str = ALL,
        size: int | None = None,
        **controls: Any,
    ) -> None:
        self.statistics = style_of(model.shapes(), style)
        if size is not None and size != model.image_size and not model_of(self.statistics).any_size:
            raise ValueError(f"size: this generator draws images of {model.image_size} pixels, got {size}")
        self.size = model.image_size if size is None else size
        self.num = num
        self.seed = seed
        self.style = style
        self.controls = controls
        first = draw_conditions(self.statistics, num and 1, self.size, seed, **controls)[0]
        if len(first) != model.channels:
            raise ValueError(
                f"{model.folder}: its shapes are of label maps of {len(first)} channels, its network takes "
                f"{model.channels}"
            )

    def __len__(self) -> int:
        return self.num

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``image``, the condition X×N×N uint8, and what the writer of a synthetic data set wants to know of it."""
        if not 0 <= index < self.num:
            raise IndexError(index)
        condition = draw_conditions(self.statistics, 1, self.size, self.seed, first=index, **self.controls)[0]
        about = {"site": self.style, "index": index, "copy": 0, "condition_source": "drawn from shapes of label maps"}
        return {"image": torch.from_numpy(condition)} | about


class SyntheticDataset(Dataset):
    """
    Synthetic images and their labels from a packed generator, by their number: the same wherever they are drawn.

    Args:
        model: name of a generator that comes with this project, or the folder of a packed one.
        num: how many images the data set has.
        seed: which images.
        style, size, controls: see :class:`DrawnConditions`.
        transform: of an item, such as MONAI's ``Compose``.
        device: where the network is called.

    Raises:
        bundle.generators.ModelError, ValueError: see :func:`bundle.generators.read_model` and :class:`DrawnConditions`.

    Example:
        >>> dataset = SyntheticDataset("brats", num=500)     # doctest: +SKIP
        >>> dataset[0]["image"].shape, dataset[0]["label"].dtype     # doctest: +SKIP
        (torch.Size([1, 64, 64]), torch.uint8)
    """

    def __init__(
        self,
        model: str | Path = "brats",
        num: int = 100,
        seed: int = 0,
        style: str = ALL,
        size: int | None = None,
        transform: Callable[[dict], Any] | None = None,
        device: torch.device | str = "cpu",
        **controls: Any,
    ) -> None:
        self.model = read_model(model)
        self.conditions = DrawnConditions(self.model, num, seed, style, size, **controls)
        self.transform = transform
        self.device = torch.device(device)
        self._network = self.model.network(self.device)
        self._inferer = SeededInferer(PaddedInferer(DIVISOR))
        self._prepare = SeededBatch(seed, self.model.noise)

    def __len__(self) -> int:
        return len(self.conditions)

    def __getitem__(self, index: int) -> Any:
        """``image`` C×N×N float32 in [-1, 1], ``label`` 1×N×N uint8: 0, and the classes from 1 on; transformed."""
        batch = default_collate([self.conditions[index]])
        inputs, _, *noise = self._prepare(batch, self.device, dtype=torch.float32)
        with torch.no_grad():
            image = self._inferer(inputs, self._network, **(noise[1] if noise else {}))[0].cpu()
        condition = batch["image"][0]
        label = label_from_condition(condition, len(self.model.label_groups))
        item = {"image": image.float(), "label": label}
        return item if self.transform is None else self.transform(item)
