"""Label values of a data set to class indices, and back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor, get_track_meta
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import convert_to_numpy, convert_to_tensor

from bundle.transforms.source_name import source_name
from bundle.transforms.whole_numbers import whole_numbers

__all__ = ["GroupLabelsd"]


class GroupLabelsd(MapTransform, InvertibleTransform):
    """Map groups of label values to the class indices 1..G, in the order of ``groups``, and everything else to 0.

    Data sets number their labels in their own ways: BraTS has 1 (necrotic core), 2 (oedema) and 4 (enhancing
    tumour), and the published experiment joins them to one whole tumour. A value that nobody has named means a file
    of another kind or another version of the data set, so it stops the run.

    The inverse writes each class as the first value of its group, so that a prediction can be saved in the data
    set's own numbers; what the groups had joined or ``ignore`` had dropped stays so. For a prediction, through
    MONAI's ``Invertd(keys="pred", transform=..., orig_keys="label")``, or, where the item has no label,
    :meth:`ungroup` by hand.

    Args:
        keys: label maps, 1×H×W or 1×H×W×D, whole numbers in any dtype, within the rounding of float32; become uint8,
            MetaTensors.
        groups: name of the class -> its label value or values, at most 255 classes.
        ignore: values that are allowed and become background.
        own_key: where an item of a site whose labels tell less apart has, by label value, the names of the groups that
            it may be: its values are those, and one that may be several becomes an index above G. What these mean is
            added under ``label_candidates``, for :class:`ConditionFromLabeld`: for G + 1, G + 2, … the class indices.
        allow_missing_keys: do not raise where a key is missing.

    Raises:
        ValueError: naming the file, the values seen and those expected; at construction: no groups, a group without
            values, a value that is 0 or in two places. From the inverse: a class that does not exist.

    >>> whole = GroupLabelsd(keys="label", groups={"whole tumour": [1, 2, 4]})
    >>> whole({"label": torch.tensor([[[0, 1, 2, 4]]])})["label"].tolist()
    [[[0, 1, 1, 1]]]
    >>> whole.ungroup(torch.tensor([0, 1])).tolist()
    [0, 1]
    >>> parts = GroupLabelsd(keys="label", groups={"core": 1, "oedema": 2})
    >>> item = {"label": torch.tensor([[[0, 1]]]), "label_groups": {1: ("core", "oedema")}}
    >>> parts(item)["label"].tolist(), parts(item)["label_candidates"]
    ([[[0, 3]]], ((1, 2),))
    """

    def __init__(
        self,
        keys: KeysCollection,
        groups: Mapping[str, int | Sequence[int]],
        ignore: Sequence[int] = (),
        own_key: Hashable = "label_groups",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.groups = {
            name: tuple(int(value) for value in ([values] if isinstance(values, int) else values))
            for name, values in groups.items()
        }
        self.ignore = tuple(int(value) for value in ignore)
        self.own_key = own_key
        if not 1 <= len(self.groups) <= 255 or not all(self.groups.values()):
            raise ValueError(f"groups: expected 1 to 255 groups with at least one value each, got {dict(groups)}")
        named = [value for values in self.groups.values() for value in values] + list(self.ignore)
        if 0 in named or len(set(named)) != len(named):
            raise ValueError(
                "groups, ignore: expected every value once and 0 nowhere (it is the background), "
                f"got {self.groups} and {list(self.ignore)}"
            )
        self._index = {0: 0} | dict.fromkeys(self.ignore, 0)
        for index, values in enumerate(self.groups.values(), start=1):
            self._index |= dict.fromkeys(values, index)
        self._first = np.array([0] + [values[0] for values in self.groups.values()])

    @property
    def num_classes(self) -> int:
        """Number of foreground classes."""
        return len(self.groups)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        own = item.get(self.own_key)
        index = self._index
        if own is not None:
            index, item["label_candidates"] = self._own(own)
        for key in self.key_iterator(item):
            label = item[key]
            values, positions = _distinct(convert_to_numpy(label))
            unknown = [f"{value:.10g}" for value in values if value not in index]
            if unknown:
                raise ValueError(
                    f"{source_name(item, key)}: '{key}' holds the value(s) {', '.join(unknown[:10])}; expected 0, "
                    f"{self.groups if own is None else dict(own)}"
                    + (f" and, ignored, {list(self.ignore)}" if self.ignore else "")
                )
            table = np.array([index[value] for value in values.tolist()], dtype=np.uint8)
            grouped = convert_to_tensor(torch.from_numpy(table[positions]), track_meta=get_track_meta())
            if isinstance(grouped, MetaTensor):
                if isinstance(label, MetaTensor):
                    grouped.copy_meta_from(label)
                grouped = self.push_transform(grouped, extra_info={"dtype": _dtype_name(label)})
            item[key] = grouped
        return item

    def _own(self, own: Mapping[int, Sequence[str]]) -> tuple[dict[int, int], tuple[tuple[int, ...], ...]]:
        """Indices by label value of a site with labels of its own, and the classes of those above G."""
        names = list(self.groups)
        classes = {value: tuple(sorted(names.index(name) + 1 for name in may_be)) for value, may_be in own.items()}
        several = tuple(dict.fromkeys(found for found in classes.values() if len(found) > 1))
        if self.num_classes + len(several) > 255:
            raise ValueError(f"{self.own_key}: more than 255 classes and sets of them")
        codes: dict[tuple[int, ...], int] = {(number,): number for number in range(1, self.num_classes + 1)}
        codes |= {found: self.num_classes + place for place, found in enumerate(several, start=1)}
        return {0: 0} | dict.fromkeys(self.ignore, 0) | {
            value: codes[found] for value, found in classes.items()
        }, several

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            transform = self.pop_transform(item[key])
            item[key] = self.ungroup(item[key]).to(getattr(torch, transform["extra_info"]["dtype"]))
        return item

    def ungroup(self, classes: torch.Tensor) -> torch.Tensor:
        """Class indices 0..G, of any shape and dtype, to the data set's values (the first of each group); int64."""
        found = convert_to_numpy(classes)
        indices = found.astype(np.int64)
        if (indices != found).any() or indices.min(initial=0) < 0 or indices.max(initial=0) > self.num_classes:
            raise ValueError(f"expected class indices 0 to {self.num_classes}, got {np.unique(found)[:10].tolist()}")
        values = torch.from_numpy(self._first[indices]).to(classes.device)
        return MetaTensor(values).copy_meta_from(classes) if isinstance(classes, MetaTensor) else values


def _distinct(label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values and, for every voxel, which of them it is. Counting beats sorting by far on small numbers."""
    whole = whole_numbers(label)
    label = label if whole is None else whole
    if label.dtype.kind in "iub" and label.size and label.min() >= 0 and label.max() < 65536:
        values = np.flatnonzero(np.bincount(label.reshape(-1)))
        position = np.zeros(int(values[-1]) + 1, dtype=np.intp)
        position[values] = np.arange(len(values))
        return values, position[label.astype(np.intp)]
    values, positions = np.unique(label, return_inverse=True)
    return values, positions.reshape(label.shape)


def _dtype_name(label: Any) -> str:
    # As a string: what a transform leaves behind must pass through MONAI's collate functions.
    return str(convert_to_tensor(label).dtype).removeprefix("torch.")
