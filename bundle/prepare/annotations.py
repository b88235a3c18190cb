"""Annotations of nuclei, whatever they come as, to instance maps.

=============================  ===================================================================
``.xml``                       outlines: :mod:`bundle.prepare.imagescope`, :mod:`bundle.prepare.asap`
``.geojson``, ``.json``        outlines: :mod:`bundle.prepare.geojson`
all others                     a mask or an instance map: :mod:`bundle.prepare.label_maps`
=============================  ===================================================================

A map with one value besides 0 is a mask: its connected pieces become the objects. With more values each of them is
one object, in one piece or a few.

Another format of outlines: a function (path) → regions in :data:`OUTLINE_READERS`, or, for XML, a
:class:`bundle.prepare.markup.MarkupReader` in :data:`MARKUP`. Another one of maps: a function (path) → array in
:data:`bundle.prepare.label_maps.MAP_READERS`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from skimage.measure import label

from bundle.data.errors import DataError
from bundle.prepare.asap import Asap
from bundle.prepare.geojson import read_geojson
from bundle.prepare.imagescope import ImageScope
from bundle.prepare.label_maps import MAP_READERS
from bundle.prepare.markup import MarkupReader, read_markup
from bundle.prepare.outlines import Region, RegionCounts, fill_regions, number_instances

MARKUP: tuple[type[MarkupReader], ...] = (ImageScope, Asap)
OUTLINE_READERS: dict[str, Callable[[Path], list[Region]]] = {
    ".xml": functools.partial(read_markup, formats=MARKUP),
    ".geojson": read_geojson,
    ".json": read_geojson,
}
ANNOTATION_SUFFIXES = (*OUTLINE_READERS, *MAP_READERS)
# What is not read, and what to do.
FOREIGN_ANNOTATIONS = {
    **dict.fromkeys((".jpg", ".jpeg"), "a JPEG file, which changes values: save the mask as PNG"),
    **dict.fromkeys((".bmp", ".gif", ".webp"), "an image in a format that is not read: save the mask as PNG"),
    **dict.fromkeys((".zip", ".roi"), "ImageJ's regions of interest: save an instance map as TIFF (ImageJ's ROI map)"),
    **dict.fromkeys((".qpdata", ".ndpa"), "of a viewer: export the outlines as GeoJSON from QuPath"),
    **dict.fromkeys((".h5", ".hdf5"), "an HDF5 file: save the instance map as .npy"),
    **dict.fromkeys((".csv", ".txt"), "a table, expected outlines or an instance map"),
}
# Share of the regions that may lie wholly outside of the tile; 0 in all 30 tiles of Kumar et al. 2017. Nuclei that the
# edge cuts through reach into the tile, however small it is.
MAX_OUTSIDE = 0.05
# Share of the regions that may vanish below later ones; 0 in all 30 tiles. Nuclei that were outlined twice give a half.
MAX_VANISHED = 0.5
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
        DataError: unreadable, of another size than the tile, outlines beyond it or around each other, values that
            number no objects, more than 65535 objects, or none.
    """
    path, shape = Path(path), (shape[0], shape[1])
    suffix = path.suffix.lower()
    if suffix in OUTLINE_READERS:
        regions = OUTLINE_READERS[suffix](path)
        _check_extent(regions, shape, path, image)
        instances, counts = fill_regions(regions, shape, path)
        annotation = Annotation(instances, counts)
        _check_counts(counts, path)
    elif suffix not in MAP_READERS:
        raise DataError(f"{path}: of unknown kind, expected an annotation in {', '.join(ANNOTATION_SUFFIXES)}")
    elif not path.is_file():
        raise DataError(f"{path}: no such file")
    else:
        values = _whole(MAP_READERS[suffix](path), path)
        if values.shape != shape:
            raise DataError(
                f"{path}: has {_size(values.shape)}, image {image} has {_size(shape)}; expected the same size"
            )
        annotation = _from_values(values, path)
    if not annotation.instances.any():
        raise DataError(f"{path}: holds no nucleus, expected at least one")
    return annotation


def _check_counts(counts: RegionCounts, path: Path) -> None:
    """Some regions may be left out, or go to others; most of them may not."""
    if counts.frames and not counts.instances:
        raise DataError(f"{path}: holds {counts.frames} rectangles or frames and no nucleus, expected outlines")
    if counts.vanished > MAX_VANISHED * counts.regions:
        raise DataError(
            f"{path}: {counts.vanished} of {counts.regions} regions vanish below later ones, expected an outline "
            "for each nucleus and none around several"
        )


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
