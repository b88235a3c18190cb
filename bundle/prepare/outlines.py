"""Outlines of nuclei, whatever file they come from, and their rasterisation to an instance map."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from skimage.draw import polygon

from bundle.data.errors import DataError

MAX_INSTANCES = np.iinfo(np.uint16).max
# Whole slides have some 100,000 pixels a side. Beyond this a coordinate is no position, and the fill would overflow.
MAX_COORDINATE = 1e7
# Of a file of outlines. The largest of Kumar et al. 2017 has 4 MB.
MAX_BYTES = 64 * 2**20
# How many other outlines may have their centres inside of one. Nuclei that overlap contain one other at most in the 30
# tiles of Kumar et al. 2017; frames and outlines of tissue contain dozens.
MAX_ENCLOSED = 3


@dataclass(frozen=True)
class Region:
    """One outline.

    Attributes:
        name: its name in the file, or its number there.
        vertices: float64, N×2 (x, y), in the order of the file; N may be 0. X runs to the right and Y down, in pixels
            of the tile; a pixel's centre has whole coordinates.
        rings: further outlines, of holes or of further pieces: a pixel is inside if an odd number of all contain it.
        negative: its inside belongs to no object.
        rectangle: drawn with a tool for rectangles, which outlines no nucleus.
        ambiguous: said to be so, as in MoNuSAC: an area that nobody outlined the nuclei of.
    """

    name: str
    vertices: np.ndarray
    rings: tuple[np.ndarray, ...] = ()
    negative: bool = False
    rectangle: bool = False
    ambiguous: bool = False


@dataclass(frozen=True)
class RegionCounts:
    """What became of the regions of a file.

    Attributes:
        regions: all regions that were read, also those counted below.
        skipped: with fewer than three vertices: they have no inside.
        ambiguous: left out because the file calls them so.
        frames: left out because they are rectangles, or enclose more than :data:`MAX_ENCLOSED` others.
        clipped: that reach beyond the edge of the tile; what is inside was filled.
        empty: that cover the centre of no pixel of the tile.
        overlapping: that share a pixel with another region. The later one of the file has it.
        vanished: that covered pixels, all of which went to other regions or were cut out.
        negative: that were cut out of the others.
        instances: objects in the map.
    """

    regions: int
    skipped: int
    ambiguous: int
    frames: int
    clipped: int
    empty: int
    overlapping: int
    vanished: int
    negative: int
    instances: int


def check_file(path: str | os.PathLike, kind: str) -> None:
    """Raise before a file of outlines is read.

    Raises:
        DataError: no such file, or one of more than :data:`MAX_BYTES`.
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: unreadable, expected {kind} (no such file)")
    size = Path(path).stat().st_size
    if size > MAX_BYTES:
        raise DataError(
            f"{path}: has {size:,} bytes, expected at most {MAX_BYTES:,}: the annotation of a whole slide? Export "
            "that of the tile"
        )


def check_number(regions: Sequence[Region], path: str | os.PathLike) -> None:
    """Raise while a file of outlines is read.

    Raises:
        DataError: more than 65535 regions.
    """
    if len(regions) > MAX_INSTANCES:
        raise DataError(f"{path}: holds more than {MAX_INSTANCES} regions, expected at most as many")


def is_ambiguous(*names: object) -> bool:
    """Whether a layer, class or region is called ambiguous, whatever the case of the letters."""
    return any("ambiguous" in str(name).lower() for name in names)


def fill_regions(
    regions: Sequence[Region], shape: tuple[int, int], origin: str | os.PathLike
) -> tuple[np.ndarray, RegionCounts]:
    """Fill outlines: a pixel belongs to a region if its centre lies inside, also where an outline crosses itself.

    Regions are filled in their order, so that overlaps go to the later one. Negative regions are cut out at the end,
    wherever in the file they stand.

    Args:
        regions: from a reader of outlines.
        shape: rows and columns of the tile.
        origin: where the regions came from, for the message.

    Returns:
        Instance map, uint16, of `shape`: 0 is background, 1 to n the objects in the order of the regions, without
        gaps; and what became of the regions.

    Raises:
        DataError: more than 65535 objects.
    """
    areas = [region for region in regions if len(region.vertices) >= 3]
    named = [region for region in areas if not region.ambiguous]
    outlines = _without_frames(named, shape)
    canvas = np.zeros(shape, np.int32)
    clipped = empty = 0
    overlapping: set[int] = set()
    drawn: set[int] = set()
    for number, region in enumerate(outlines, start=1):
        x, y = region.vertices.T
        # Pixels reach half a pixel beyond their centres.
        clipped += bool(min(x.min(), y.min()) < -0.5 or x.max() > shape[1] - 0.5 or y.max() > shape[0] - 0.5)
        inside = _inside(region, shape)
        if not len(inside[0]):
            empty += 1
        elif not region.negative:
            covered = np.unique(canvas[inside])
            covered = covered[covered > 0].tolist()
            overlapping.update(covered, [number] if covered else [])
            canvas[inside] = number
            drawn.add(number)
    for region in outlines:
        if region.negative:
            canvas[_inside(region, shape)] = 0
    instances = number_instances(canvas, origin)
    left = int(instances.max(initial=0))
    return instances, RegionCounts(
        regions=len(regions),
        skipped=len(regions) - len(areas),
        ambiguous=len(areas) - len(named),
        frames=len(named) - len(outlines),
        clipped=clipped,
        empty=empty,
        overlapping=len(overlapping),
        vanished=len(drawn) - left,
        negative=sum(region.negative for region in outlines),
        instances=left,
    )


def number_instances(values: np.ndarray, origin: str | os.PathLike) -> np.ndarray:
    """Number objects 1 to n in the order of their values; 0 stays 0.

    Args:
        values: whole numbers from 0.
        origin: where they came from, for the message.

    Returns:
        uint16, of the same shape.

    Raises:
        DataError: more than 65535 objects.
    """
    present, inverse = np.unique(values, return_inverse=True)
    if present[0] != 0:
        inverse = inverse + 1
    count = int((present != 0).sum())
    if count > MAX_INSTANCES:
        raise DataError(f"{origin}: holds {count} objects, expected at most {MAX_INSTANCES}")
    return inverse.reshape(values.shape).astype(np.uint16)


def _inside(region: Region, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels whose centres lie inside."""
    rows, columns = polygon(region.vertices[:, 1], region.vertices[:, 0], shape)
    if not region.rings:
        return rows, columns
    flat = np.ravel_multi_index((rows, columns), shape)
    for ring in region.rings:
        more = polygon(ring[:, 1], ring[:, 0], shape)
        flat = np.setxor1d(flat, np.ravel_multi_index(more, shape), assume_unique=True)
    return np.unravel_index(flat, shape)


def _without_frames(regions: Sequence[Region], shape: tuple[int, int]) -> list[Region]:
    """Regions that can be nuclei, and the negative ones."""
    regions = [region for region in regions if not region.rectangle]
    middles = [np.rint(region.vertices.mean(axis=0)).astype(np.int64) for region in regions if not region.negative]
    centres = np.zeros(shape, np.int32)
    for x, y in middles:
        if 0 <= y < shape[0] and 0 <= x < shape[1]:
            centres[y, x] += 1
    # An outline contains its own centre as well.
    return [
        region for region in regions if region.negative or centres[_inside(region, shape)].sum() <= MAX_ENCLOSED + 1
    ]
