"""Choice of an image's channels by the names of their modalities."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from bundle.transforms.source_name import source_name

__all__ = ["SelectModalitiesd"]


class SelectModalitiesd(MapTransform):
    """Keep the channels named by ``modalities``, in that order, and note them in the item.

    Args:
        keys: images, C×H×W or C×H×W×D, any dtype; the channels of each are named by ``item[names_key]``.
        modalities: one name or several, e.g. ``"t2"`` (as published) or ``("flair", "t2")``. Upper and lower case
            differ, as they do in file names.
        names_key: where the item holds its channels' names; replaced by the chosen ones.
        absent_key: where the item names the modalities that its data list says its site lacks: these are passed over,
            and :class:`FillModalitiesd` can put something in their place.
        allow_missing_keys: do not raise where a key is missing.

    Raises:
        ValueError: naming the file: no names in the item, as many names as channels do not exist, a modality that
            the item does not have; at construction: no modality, or one named twice.

    >>> item = {"image": torch.arange(3.0).view(3, 1, 1), "modality": ("t1", "flair", "t2")}
    >>> out = SelectModalitiesd(keys="image", modalities=("t2", "t1"))(item)
    >>> out["image"].flatten().tolist(), out["modality"]
    ([2.0, 0.0], ('t2', 't1'))
    """

    def __init__(
        self,
        keys: KeysCollection,
        modalities: str | Sequence[str],
        names_key: Hashable = "modality",
        absent_key: Hashable = "absent",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.modalities = (modalities,) if isinstance(modalities, str) else tuple(modalities)
        self.names_key = names_key
        self.absent_key = absent_key
        if not self.modalities or len(set(self.modalities)) != len(self.modalities):
            raise ValueError(f"modalities: expected at least one name and none twice, got {list(self.modalities)}")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            file = source_name(item, key)
            names = item.get(self.names_key)
            names = (names,) if isinstance(names, str) else tuple(names or ())
            image = item[key]
            if len(names) != image.shape[0]:
                raise ValueError(
                    f"{file}: '{key}' has {image.shape[0]} channel(s), expected one name for each in "
                    f"'{self.names_key}', got {list(names)}"
                )
            absent = item.get(self.absent_key) or ()
            missing = [name for name in self.modalities if name not in names and name not in absent]
            if missing:
                raise ValueError(
                    f"{file}: '{key}' has no modality {missing}: wanted {list(self.modalities)}, "
                    f"available {list(names)}"
                )
            chosen = tuple(name for name in self.modalities if name in names)
            if not chosen:
                raise ValueError(f"{file}: '{key}' has none of {list(self.modalities)}, available {list(names)}")
            if chosen != names:
                item[key] = image[[names.index(name) for name in chosen]]
        # After the loop: several images of one item share the names.
        item[self.names_key] = tuple(name for name in self.modalities if name not in (item.get(self.absent_key) or ()))
        return item
