"""Outline of the head or brain in an MR image."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import convert_to_numpy
from scipy import ndimage

from brats_code.transforms.background import bright_value
from brats_code.transforms.background import lift
from brats_code.transforms.source_name import source_name

__all__ = ["BrainOutlined", "brain_outline"]


def brain_outline(
    image: np.ndarray,
    zero_share: float = 0.95,
    smoothing: int = 3,
    opening: int = 1,
    closing: int | None = None,
    min_component: float = 0.05,
) -> np.ndarray:
    """Outline of what stands out from the background of an MR image: 1 inside, 0 outside, without holes.

    Skull-stripped images give the brain, images with the skull give the head: nothing is stripped here.

    Two kinds of background occur and are told apart by the darkest voxels (those up to 5 % of the 99.5th
    percentile). Where at least ``zero_share`` of them are exactly zero in every channel, as in BraTS, someone has
    masked the image already and everything that is not zero is inside. Otherwise the background carries noise, as
    in images that went through JPEG-like compression, and a threshold is needed: Otsu's (1979, IEEE Trans. SMC
    9:62-66) of the square root of the locally averaged intensities. The root, because noise of magnitude images
    grows with the signal and fat is much brighter than brain: on the intensities themselves Otsu separates fat from
    the rest and loses dim slices near the vertex.

    Images that somebody has normalised before (zero mean and unit variance, a range such as -1 to 1, the background at
    any value) are first brought back to a background of 0: :func:`brats_code.transforms.background.lift`.

    Thin bridges of noise are then opened and gaps closed (bone and air leave the skin open in low slices, and all of
    the head would count as outside), both only behind a noisy background: what somebody has masked is taken at its
    word. Small components are dropped, and holes (ventricles, bone, air, resection cavities) are filled slice by slice
    along the last axis (in 2-D: in the image).

    Args:
        image: C×H×W or C×H×W×D, any real dtype; larger than background means tissue.
        zero_share: see above, 0 to 1.
        smoothing: width in pixels of the in-plane average before the threshold; 1 for none.
        opening, closing: radius in pixels of the in-plane opening and closing after the threshold; 0 for none.
            ``closing=None`` takes 1/40 of the shorter side in plane, 6 pixels of 256.
        min_component: a connected component stays when it has at least this share of the largest one's voxels;
            1 keeps the largest only. Temporal lobes in low slices of a 2-D image are components of their own.

    Returns:
        bool array, 1×H×W or 1×H×W×D.

    Raises:
        ValueError: other shapes, values that are not finite, an image of one value only.
    """
    image = np.asarray(image)
    if image.ndim not in (3, 4):
        raise ValueError(f"expected C×H×W or C×H×W×D, got shape {image.shape}")
    # max - min instead of np.isfinite on everything: one pass, and nan and inf both show.
    low, high = float(image.min()), float(image.max())
    if not np.isfinite(high - low):
        share = 1 - np.isfinite(image).mean()
        raise ValueError(
            f"expected finite intensities, found nan or infinity in {share:.2g} of the voxels; is it the background? "
            "Set it to 0"
        )
    if high <= low:
        raise ValueError(f"expected an image with a background and an inside, found the single value {low:g}")

    channels = [lift(channel) for channel in image]
    scales = [bright_value(channel) for channel in channels]
    dark = np.ones(image.shape[1:], dtype=bool)
    background = np.ones(image.shape[1:], dtype=bool)
    for channel, scale in zip(channels, scales, strict=True):
        dark &= channel <= 0.05 * scale
        background &= channel == 0
    number_dark = int(dark.sum())
    if number_dark and int(background.sum()) >= zero_share * number_dark:
        mask = ~background
    else:
        mask = _above_noise(channels, scales, smoothing)
        if opening:
            mask = ndimage.binary_opening(mask, structure=_in_plane(mask.ndim), iterations=opening)
        if closing is None:
            closing = round(min(mask.shape[:2]) / 40)
        mask = _close(_large_components(mask, min_component), closing)
    return _fill_holes(_large_components(mask, min_component))[None]


class BrainOutlined(MapTransform):
    """Add the outline of the head or brain to an item, from all channels of ``keys``.

    The outline is what the generator needs besides the labels: without it, where the brain ends is anyone's guess.
    Must come before intensities are scaled. The method and its arguments: :func:`brain_outline`.

    An item with ``intensity_range: [lo, hi]`` was scaled before (a synthetic image, a single slice and maybe an empty
    one): its outline is what lies above 5 % of that range, and may be empty.

    Args:
        keys: images, C×H×W or C×H×W×D, all of the same spatial shape.
        output_key: where the outline goes: MetaTensor 1×H×W[×D], uint8, 0 or 1, with the first image's metadata.
        zero_share, smoothing, opening, closing, min_component: see :func:`brain_outline`.
        range_key: where an item tells its own range.
        allow_missing_keys: do not raise where a key is missing.

    Raises:
        ValueError: naming file and key: wrong shape, values that are not finite, a constant image, no outline found.

    >>> image = torch.zeros(1, 8, 8)
    >>> image[:, 2:6, 2:6] = 50.0
    >>> BrainOutlined(keys="image")({"image": image})["outline"].sum().item()
    16
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_key: str = "outline",
        zero_share: float = 0.95,
        smoothing: int = 3,
        opening: int = 1,
        closing: int | None = None,
        min_component: float = 0.05,
        range_key: Hashable = "intensity_range",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.range_key = range_key
        self.output_key = output_key
        self.options: dict[str, Any] = {
            "zero_share": zero_share,
            "smoothing": smoothing,
            "opening": opening,
            "closing": closing,
            "min_component": min_component,
        }

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        keys = list(self.key_iterator(item))
        if not keys:
            return item
        first = keys[0]
        shape = tuple(item[first].shape[1:])
        for key in keys:
            if tuple(item[key].shape[1:]) != shape:
                raise ValueError(
                    f"{source_name(item, key)}: '{key}' has spatial shape {tuple(item[key].shape[1:])}, "
                    f"expected {shape} as '{first}' has"
                )
        images = np.concatenate([convert_to_numpy(item[key]) for key in keys])
        if item.get(self.range_key) is not None:
            low, high = item[self.range_key]
            mask = (images > low + 0.05 * (high - low)).any(axis=0, keepdims=True)
        else:
            mask = self._outline_of_raw(images, source_name(item, first), first)
        outline = MetaTensor(torch.from_numpy(mask.astype(np.uint8)))
        if isinstance(item[first], MetaTensor):
            # The same grid, so the same affine and the same spatial operations to undo.
            outline.copy_meta_from(item[first])
        item[self.output_key] = outline
        return item

    def _outline_of_raw(self, images: np.ndarray, source: str, key: Hashable) -> np.ndarray:
        try:
            mask = brain_outline(images, **self.options)
        except ValueError as error:
            raise ValueError(f"{source}: '{key}': {error}") from error
        if not mask.any():
            raise ValueError(f"{source}: '{key}': no outline found, expected a bright object")
        return mask


def _above_noise(channels: list[np.ndarray], scales: list[float], smoothing: int) -> np.ndarray:
    signal = np.zeros(channels[0].shape, dtype=np.float32)
    for channel, scale in zip(channels, scales, strict=True):
        if scale > 0:
            signal += np.clip(channel, 0, scale).astype(np.float32) / scale
    signal /= len(scales)
    if smoothing > 1:
        size = (smoothing, smoothing) + (1,) * (signal.ndim - 2)
        signal = ndimage.uniform_filter(signal, size=size, mode="nearest")
    root = np.sqrt(np.clip(signal, 0, 1))
    return root > _otsu(root)


def _otsu(values: np.ndarray, bins: int = 256) -> float:
    """Otsu's threshold of values in [0, 1]: the one that maximises the variance between the two classes."""
    counts, edges = np.histogram(values, bins=bins, range=(0.0, 1.0))
    centres = 0.5 * (edges[:-1] + edges[1:])
    below = np.cumsum(counts)[:-1].astype(np.float64)
    above = counts.sum() - below
    moment = np.cumsum(counts * centres)
    total = moment[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (moment[:-1] / below - (total - moment[:-1]) / above) ** 2
    return float(edges[1 + int(np.nanargmax(between))])


def _in_plane(ndim: int) -> np.ndarray:
    """The cross of 4-neighbours in the first two axes; scipy wants it 3 wide in a third as well."""
    cross = ndimage.generate_binary_structure(2, 1)
    if ndim == 2:
        return cross
    nothing = np.zeros_like(cross)
    return np.stack([nothing, cross, nothing], axis=2)


def _close(mask: np.ndarray, radius: int) -> np.ndarray:
    if not radius or not mask.any():
        return mask
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    # Padded by the radius, or the erosion would eat what touches the border of the image.
    padding = [(radius, radius)] * 2 + [(0, 0)] * (mask.ndim - 2)
    inner = ndimage.binary_closing(np.pad(mask[box], padding), structure=_in_plane(mask.ndim), iterations=radius)
    closed = mask.copy()
    closed[box] = inner[radius:-radius, radius:-radius]
    return closed


def _large_components(mask: np.ndarray, min_component: float) -> np.ndarray:
    labels, number = ndimage.label(mask)
    if number <= 1:
        return mask
    sizes = np.bincount(labels.reshape(-1))
    sizes[0] = 0
    return (sizes >= max(1.0, min_component * sizes.max()))[labels]


def _fill_holes(mask: np.ndarray) -> np.ndarray:
    """Fill what the outside cannot reach within its own slice: all slices in one labelling."""
    filled = mask.copy()
    # Only the bounding box: background beyond it is outside anyway. One voxel more in plane joins the outside.
    box = ndimage.find_objects(mask.astype(np.uint8))
    if not box:
        return filled
    inner = mask[box[0]]
    padding = [(1, 1), (1, 1)] + [(0, 0)] * (mask.ndim - 2)
    outer = np.pad(~inner, padding, constant_values=True)
    labels, number = ndimage.label(outer, structure=_in_plane(mask.ndim))
    outside = np.zeros(number + 1, dtype=bool)
    outside[np.unique(labels[0, 0])] = True
    outside[0] = False
    filled[box[0]] = ~outside[labels][1:-1, 1:-1]
    return filled
