"""Annotations of nuclei, whatever they come as, to instance maps.

=============================  =========================================================
``.xml``                       outlines, see :mod:`bundle.data.imagescope`
``.png``, ``.tif``, ``.tiff``  one channel: a mask or an instance map
``.npy``                       2-D whole numbers: a mask or an instance map
``.mat``                       the variable ``inst_map``, or the only 2-D numeric one
=============================  =========================================================

A map with one value besides 0 is a mask: its connected pieces become the objects. With more values each of them is
one object, in one piece or a few.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import scipy.io
from skimage.measure import label

from bundle.data.convert import has_suffix
from bundle.data.errors import DataError
from bundle.data.imagescope import Region, RegionCounts, fill_regions, number_instances, read_regions
from bundle.data.tiles import TILE_SUFFIXES, read_pixels

ANNOTATION_SUFFIXES = (".xml", *TILE_SUFFIXES, ".npy", ".mat")
# Share of the regions that may lie wholly outside of the tile; 0 in all 30 tiles of Kumar et al. 2017. Nuclei that the
# edge cuts through reach into the tile, however small it is.
MAX_OUTSIDE = 0.05
# Pieces that the pixels of one value may lie in, on average: 1.0 in the tiles of Kumar et al., and two at times where
# nuclei overlap others. In masks with soft edges and in maps of kinds of nuclei a value lies in dozens.
MAX_PIECES = 3


@dataclass(frozen=True)
class Annotation:
    """The nuclei of a tile.

    Attributes:
        instances: uint16, H×W: 0 is background, 1 to n the nuclei, without gaps.
        counts: what became of the regions, where there were outlines.
        notes: what was decided about the file, one phrase each.
    """

    instances: np.ndarray
    counts: RegionCounts | None = None
    notes: list[str] = field(default_factory=list)


def read_annotation(path: str | os.PathLike, shape: tuple[int, int], image: str | os.PathLike) -> Annotation:
    """Read the annotation of a tile.

    Args:
        path: the file; its suffix tells what it is.
        shape: rows and columns of the tile.
        image: the file of the tile, for messages.

    Raises:
        DataError: unreadable, of another size than the tile, outlines beyond it, values that number no objects, more
            than 65535 objects, or none.
    """
    path, shape = Path(path), tuple(shape)
    if has_suffix(path, (".xml",)):
        regions = read_regions(path)
        _check_extent(regions, shape, path, image)
        instances, counts = fill_regions(regions, shape, path)
        annotation = Annotation(instances, counts)
    else:
        values = _whole(_read_map(path), path)
        if values.shape != shape:
            raise DataError(
                f"{path}: has {_size(values.shape)}, image {image} has {_size(shape)}; expected the same size"
            )
        annotation = _from_values(values, path)
    if not annotation.instances.any():
        raise DataError(f"{path}: holds no nucleus, expected at least one")
    return annotation


def _check_extent(regions: Sequence[Region], shape: tuple[int, int], path: Path, image: str | os.PathLike) -> None:
    outlines = [region.vertices for region in regions if len(region.vertices) >= 3]
    if not outlines:
        return
    low, high = (np.array([bound(vertices, axis=0) for vertices in outlines]) for bound in (np.min, np.max))
    outside = ((high < -0.5) | (low > np.array(shape[::-1]) - 0.5)).any(axis=1)
    if outside.mean() > MAX_OUTSIDE:
        (left, top), (right, bottom) = low.min(axis=0), high.max(axis=0)
        raise DataError(
            f"{path}: {outside.sum()} of {len(outlines)} regions lie outside of image {image}: x runs from {left:g} to "
            f"{right:g} and y from {top:g} to {bottom:g}, expected {_size(shape)}; the annotation of another tile?"
        )


def _read_map(path: Path) -> np.ndarray:
    if has_suffix(path, TILE_SUFFIXES):
        return _one_channel(read_pixels(path), path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if has_suffix(path, (".npy",)):
        try:
            return np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path}: unreadable or truncated, expected an array of numbers ({error})") from error
    if has_suffix(path, (".mat",)):
        return _read_mat(path)
    raise DataError(f"{path}: of unknown kind, expected an annotation in {', '.join(ANNOTATION_SUFFIXES)}")


def _one_channel(pixels: np.ndarray, path: Path) -> np.ndarray:
    # ITK gives TIFF files of one bit, and tiled ones, as grey colours with an opaque fourth channel.
    if pixels.ndim == 3 and pixels.shape[2] == 4 and (pixels[..., 3] == 255).all():
        pixels = pixels[..., :3]
        if (pixels == pixels[..., :1]).all():
            return pixels[..., 0]
    if pixels.ndim != 2:
        raise DataError(
            f"{path}: has shape {pixels.shape}, expected one channel: a mask, or a number for each nucleus (colours, "
            "also those of a palette, number nothing)"
        )
    return pixels


def _read_mat(path: Path) -> np.ndarray:
    try:
        content = scipy.io.loadmat(path)
    except Exception as error:  # damaged files raise a dozen types; version 7.3 is HDF5 and is refused by scipy
        raise DataError(f"{path}: unreadable, expected a MATLAB file up to version 7 ({error})") from error
    maps = {
        name: value
        for name, value in content.items()
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and value.ndim == 2 and min(value.shape) > 1
    }
    if "inst_map" not in maps and len(maps) != 1:
        raise DataError(
            f"{path}: holds the 2-D variables {', '.join(sorted(maps)) or '(none)'}, expected inst_map or a single one"
        )
    return maps["inst_map"] if "inst_map" in maps else next(iter(maps.values()))


def _whole(values: np.ndarray, path: Path) -> np.ndarray:
    if values.ndim != 2 or values.dtype.kind not in "biuf":
        raise DataError(f"{path}: has shape {values.shape} and type {values.dtype}, expected 2-D whole numbers")
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.rint(values)).all()):
        raise DataError(f"{path}: holds fractions, expected whole numbers")
    if values.size and values.min() < 0:
        raise DataError(f"{path}: holds values from {values.min():g}, expected whole numbers from 0")
    return values


def _from_values(values: np.ndarray, path: Path) -> Annotation:
    present = np.unique(values)
    if (present != 0).sum() == 1:
        # Pixels that meet at a corner only are different nuclei.
        pieces = label(values != 0, connectivity=1)
        return Annotation(number_instances(pieces, path), notes=["mask: touching nuclei are one object"])
    instances = number_instances(values, path)
    count, pieces = int(instances.max(initial=0)), int(label(instances, connectivity=2).max(initial=0))
    if pieces > MAX_PIECES * count:
        raise DataError(
            f"{path}: its {count} values lie in {pieces} pieces, expected a value for each nucleus, or one for all "
            "(a mask)"
        )
    return Annotation(instances)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}×{shape[0]} pixels"
