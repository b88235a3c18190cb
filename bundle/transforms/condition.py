"""What the generator draws from: labels, one channel per class, and the anatomical outline."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from monai.utils import convert_to_numpy

from bundle.transforms.source_name import source_name

__all__ = ["ConditionFromLabeld", "candidates", "is_told_apart", "label_from_condition", "pixel_classes"]


class ConditionFromLabeld(Transform):
    """Add the condition x to an item: one-hot foreground classes and, as the last channel, the outline.

    Where a site's labels do not tell classes apart, every class that a voxel may be is 1: several at once say that it
    is unknown which, as one says that it is known, and none that it is background. A generator, and a discriminator,
    can tell these apart, and nothing but 0 and 1 has to travel.

    The background has no channel of its own: it is where the others are 0. The outline is joined with the
    foreground, because a tumour that the outline had missed would otherwise float outside the head.

    Args:
        label_key: class indices 0..num_classes, 1×H×W or 1×H×W×D, any dtype (:class:`GroupLabelsd` makes them); above
            them, those that ``label_candidates`` of the item says several classes for.
        outline_key: 1×H×W[×D], non-zero inside; None where nothing but labels is drawn from (nuclei).
        num_classes: number of foreground classes, without the background.
        output_key: the condition goes here: uint8 0 or 1, (num_classes + 1)×H×W[×D], or num_classes×H×W[×D]
            without outline; a MetaTensor with the label's metadata.

    Raises:
        ValueError: naming the file: a missing key, a label that is not 1×..., holds other values or does not fit
            the outline's shape.

    >>> item = {"label": torch.tensor([[[0, 0, 1, 2]]]), "outline": torch.tensor([[[0, 1, 1, 0]]])}
    >>> ConditionFromLabeld(num_classes=2)(item)["condition"].tolist()
    [[[0, 0, 1, 0]], [[0, 0, 0, 1]], [[0, 1, 1, 1]]]
    """

    def __init__(
        self,
        label_key: Hashable = "label",
        outline_key: Hashable | None = "outline",
        num_classes: int = 1,
        output_key: Hashable = "condition",
    ) -> None:
        if not 1 <= num_classes <= 255:
            raise ValueError(f"num_classes: expected 1 to 255 foreground classes, got {num_classes}")
        self.label_key = label_key
        self.outline_key = outline_key
        self.num_classes = num_classes
        self.output_key = output_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in (self.label_key, self.outline_key):
            if key is not None and key not in item:
                held = sorted(map(str, item))
                raise ValueError(f"{source_name(item, self.label_key)}: the item has no '{key}', got {held}")
        label = convert_to_numpy(item[self.label_key])
        file = source_name(item, self.label_key)
        if label.shape[0] != 1:
            raise ValueError(f"{file}: '{self.label_key}' has shape {label.shape}, expected one channel")
        condition = np.zeros((self.num_classes + (self.outline_key is not None), *label.shape[1:]), dtype=np.uint8)
        for index in range(self.num_classes):
            np.equal(label[0], index + 1, out=condition[index], casting="unsafe")
        for place, classes in enumerate(item.get("label_candidates", ()), start=self.num_classes + 1):
            for index in classes:
                condition[index - 1] |= label[0] == place
        foreground = condition[: self.num_classes].any(axis=0)
        if ((label[0] != 0) & ~foreground).any():
            raise ValueError(
                f"{file}: '{self.label_key}' holds {np.unique(label)[:10].tolist()}, "
                f"expected class indices 0 to {self.num_classes}"
            )
        if self.outline_key is not None:
            outline = convert_to_numpy(item[self.outline_key])
            if outline.shape != label.shape:
                raise ValueError(
                    f"{file}: '{self.label_key}' has shape {label.shape}, "
                    f"expected {outline.shape} as '{self.outline_key}' has"
                )
            condition[-1] = foreground | (outline[0] != 0)
        result = MetaTensor(torch.from_numpy(condition))
        if isinstance(item[self.label_key], MetaTensor):
            result.copy_meta_from(item[self.label_key])
        item[self.output_key] = result
        return item


def is_told_apart(condition: torch.Tensor, num_classes: int) -> bool:
    """
    Whether every voxel of a condition is of one class at most; not where a site's labels leave it open which.

    Args:
        condition: C×H×W[×D] of 0 and 1, any dtype.
        num_classes: number of foreground classes, which come first.

    >>> is_told_apart(torch.tensor([[[0, 1]], [[0, 1]], [[1, 1]]]), num_classes=2)
    False
    """
    return num_classes < 2 or not bool(((condition[:num_classes] != 0).sum(dim=0) > 1).any())


def candidates(condition: torch.Tensor, num_classes: int | None) -> torch.Tensor | None:
    """
    What pixels may be of, where several classes are possible.

    Args:
        condition: B×X×H×W of 0 and 1, any dtype.
        num_classes: number of foreground classes, which come first; None where no pixel may be of several.

    Returns:
        B×(X + 1)×H×W bool, the classes that a pixel may be of, one where it is known as in :func:`pixel_classes`; None
        where all are known.
    """
    if num_classes is None or num_classes < 2 or condition.is_meta:
        return None  # a network without numbers is asked for shapes alone
    classes = condition[:, :num_classes] != 0
    several = classes.sum(dim=1, keepdim=True) > 1
    if not bool(several.any()):
        return None
    known = torch.zeros(len(condition), condition.shape[1] + 1, *condition.shape[2:], device=condition.device)
    known = known.scatter(1, pixel_classes(condition), 1).bool()
    rest = torch.zeros_like(known[:, num_classes:])
    return torch.where(several, torch.cat([classes, rest], dim=1), known)


def label_from_condition(condition: torch.Tensor, num_classes: int, channel_dim: int = 0) -> torch.Tensor:
    """The label map that a condition was made from: the inverse of :class:`ConditionFromLabeld`.

    Args:
        condition: C×H×W[×D] with C = num_classes or num_classes + 1 (the outline, which is not looked at), 0 or 1
            in any dtype; with ``channel_dim=1`` a batch of them.
        num_classes: number of foreground classes.
        channel_dim: which dimension the channels are in.

    Returns:
        uint8 class indices 0..num_classes, with one channel; a MetaTensor where the condition is one.

    Raises:
        ValueError: another number of channels, values other than 0 and 1, or a voxel of two classes.

    >>> label_from_condition(torch.tensor([[[0, 1, 0]], [[0, 0, 1]], [[1, 1, 1]]]), num_classes=2).tolist()
    [[[0, 1, 2]]]
    """
    if condition.shape[channel_dim] not in (num_classes, num_classes + 1):
        raise ValueError(
            f"condition: expected {num_classes} or {num_classes + 1} channels in dimension {channel_dim}, "
            f"got shape {tuple(condition.shape)}"
        )
    classes = condition.narrow(channel_dim, 0, num_classes)
    present = classes != 0
    if not bool((present == classes).all()):
        raise ValueError("condition: expected 0 or 1 everywhere")
    if num_classes > 1 and bool((present.sum(dim=channel_dim) > 1).any()):
        raise ValueError("condition: expected at most one class in a voxel")
    label = torch.zeros_like(classes.narrow(channel_dim, 0, 1), dtype=torch.uint8)
    for index in range(num_classes):
        label += present.narrow(channel_dim, index, 1).to(torch.uint8) * (index + 1)
    return label


def pixel_classes(condition: torch.Tensor) -> torch.Tensor:
    """What a pixel is of: the first channel that is 1, so that the outline is what has no class of its own.

    Args:
        condition: B×X×H×W of 0 and 1, any dtype.

    Returns:
        B×1×H×W int64: the channel, or X where all are 0, the background.

    >>> pixel_classes(torch.tensor([[[[0, 1, 0]], [[0, 1, 1]]]])).tolist()
    [[[[2, 0, 1]]]]
    """
    background = torch.ones_like(condition[:, :1])
    return torch.cat([condition, background], dim=1).argmax(dim=1, keepdim=True)
