"""Robust scaling of intensities to the range a generator draws in."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor, get_track_meta
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import convert_to_numpy, convert_to_tensor

from brats_code.transforms.background import darken
from brats_code.transforms.source_name import source_name

__all__ = ["ScaleIntensityForegroundd"]


class ScaleIntensityForegroundd(MapTransform, InvertibleTransform):
    """Scale each channel linearly so that percentiles of its foreground become ``b_min`` and ``b_max``; clip.

    MR intensities have no unit, and a few bright voxels set the maximum: percentiles of what is inside the outline
    make scanners comparable. Outside the outline the result is ``b_min`` exactly, so that no generator has to learn
    a site's background noise. What somebody normalised before is scaled to the same, whatever its background was set
    to: inside the outline (a resection cavity that a mask left out) it is ``b_min`` as well.

    An item with ``intensity_range: [lo, hi]`` was scaled before (synthetic images): that range
    is mapped linearly, by mask and percentiles of nobody.

    The inverse undoes the linear map. What was clipped or masked is lost: voxels outside the range come back as the
    nearest end of it, and the background as the lower one. It is meant for images, in ``Invertd(keys=<an image>,
    orig_keys="image")``. A pipeline whose ``Invertd`` acts on *segmentations* with the image's history must say
    ``invertible=False``, or class indices would be rescaled; whole numbers other than the ends are refused.

    Args:
        keys: images, C×H×W or C×H×W×D, any real dtype, raw or normalised intensities; become float32 in
            [b_min, b_max].
        mask_key: the foreground, 1×H×W[×D], non-zero inside; not needed with ``intensity_range``.
        lower, upper: percentiles, 0 <= lower < upper <= 100.
        b_min, b_max: the range of the result.
        range_key: where an item tells its own range.
        invertible: whether the inverse does anything.
        allow_missing_keys: do not raise where a key is missing.

    Raises:
        ValueError: naming file and key: no mask or one of another shape, an empty or constant foreground, values
            that are not finite, a range that is not lo < hi; from the inverse: a segmentation, see above.

    >>> item = {"image": torch.tensor([[[0.0, 10.0, 20.0, 30.0]]]), "outline": torch.tensor([[[0, 1, 1, 1]]])}
    >>> ScaleIntensityForegroundd(keys="image", lower=0, upper=100)(item)["image"].tolist()
    [[[-1.0, -1.0, 0.0, 1.0]]]
    """

    def __init__(
        self,
        keys: KeysCollection,
        mask_key: Hashable = "outline",
        lower: float = 0.5,
        upper: float = 99.5,
        b_min: float = -1.0,
        b_max: float = 1.0,
        range_key: Hashable = "intensity_range",
        invertible: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        if not 0 <= lower < upper <= 100:
            raise ValueError(f"lower, upper: expected percentiles with 0 <= lower < upper <= 100, got {lower}, {upper}")
        if not b_min < b_max:
            raise ValueError(f"b_min, b_max: expected b_min < b_max, got {b_min}, {b_max}")
        self.mask_key = mask_key
        self.lower, self.upper = lower, upper
        self.b_min, self.b_max = float(b_min), float(b_max)
        self.range_key = range_key
        self.invertible = invertible

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            image = item[key]
            try:
                scaled, lows, highs = self._scale(convert_to_numpy(image), item)
            except ValueError as error:
                raise ValueError(f"{source_name(item, key)}: '{key}': {error}") from error
            result = convert_to_tensor(torch.from_numpy(scaled), track_meta=get_track_meta())
            if isinstance(result, MetaTensor):
                if isinstance(image, MetaTensor):
                    result.copy_meta_from(image)
                if self.invertible:
                    result = self.push_transform(result, extra_info={"low": lows, "high": highs})
            item[key] = result
        return item

    def _scale(self, image: np.ndarray, item: Mapping[Hashable, Any]) -> tuple[np.ndarray, list[float], list[float]]:
        inside, channels = None, list(image)
        if item.get(self.range_key) is not None:
            given = [float(value) for value in item[self.range_key]]
            if len(given) != 2 or not given[0] < given[1] or not np.isfinite(given).all():
                raise ValueError(f"expected '{self.range_key}' to be [lo, hi] with lo < hi, got {given}")
            lows, highs = [given[0]] * len(image), [given[1]] * len(image)
        else:
            inside = self._mask(image.shape[1:], item)
            channels = [darken(channel) for channel in image]
            lows, highs = [], []
            for number, channel in enumerate(channels):
                low, high = (float(value) for value in np.percentile(channel[inside], [self.lower, self.upper]))
                if not np.isfinite(high - low):
                    raise ValueError(f"channel {number}: expected finite intensities in the foreground")
                if not low < high:
                    raise ValueError(
                        f"channel {number}: expected intensities that vary in the foreground, "
                        f"percentiles {self.lower:g} and {self.upper:g} are both {low:g}"
                    )
                lows.append(low)
                highs.append(high)
        scaled = np.empty((len(channels), *channels[0].shape), dtype=np.float32)
        for out, channel, low, high in zip(scaled, channels, lows, highs, strict=True):
            slope = (self.b_max - self.b_min) / (high - low)
            np.multiply(channel, slope, out=out, casting="unsafe")
            out += self.b_min - low * slope
            np.clip(out, self.b_min, self.b_max, out=out)
            if inside is not None:
                out[~inside] = self.b_min
        if not np.isfinite(scaled).all():
            raise ValueError("expected finite intensities, found nan")
        return scaled, lows, highs

    def _mask(self, shape: tuple[int, ...], item: Mapping[Hashable, Any]) -> np.ndarray:
        if self.mask_key not in item:
            raise ValueError(f"expected the foreground in '{self.mask_key}' or a range in '{self.range_key}'")
        mask = convert_to_numpy(item[self.mask_key])
        if mask.shape != (1, *shape):
            raise ValueError(f"expected '{self.mask_key}' of shape {(1, *shape)}, got {mask.shape}")
        inside = mask[0] != 0
        if not inside.any():
            raise ValueError(f"the foreground in '{self.mask_key}' is empty")
        return inside

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        if not self.invertible:
            return item
        for key in self.key_iterator(item):
            extra = self.pop_transform(item[key])["extra_info"]
            scaled = item[key].to(torch.float32)
            if bool(((scaled == scaled.round()) & (scaled != self.b_min) & (scaled != self.b_max)).any()) and bool(
                (scaled == scaled.round()).all()
            ):
                raise ValueError(
                    f"{source_name(item, key)}: '{key}' holds whole numbers only: a segmentation? Expected an image in "
                    f"[{self.b_min:g}, {self.b_max:g}]. Pipelines that invert segmentations say invertible=False."
                )
            if len(scaled) not in (1, len(extra["low"])):
                raise ValueError(
                    f"{source_name(item, key)}: '{key}' has {len(scaled)} channels, expected {len(extra['low'])}"
                )
            view = (-1,) + (1,) * (scaled.ndim - 1)
            low = torch.tensor(extra["low"], device=scaled.device)[: len(scaled)].view(view)
            high = torch.tensor(extra["high"], device=scaled.device)[: len(scaled)].view(view)
            item[key] = low + (scaled - self.b_min) * ((high - low) / (self.b_max - self.b_min))
        return item
