"""Outlines of nuclei as Aperio ImageScope writes them (XML), and their rasterisation to an instance map.

::

    <Annotations MicronsPerPixel="0.25"><Annotation Id="1"><Regions>
      <Region Id="1" NegativeROA="0"><Vertices><Vertex X="253.0" Y="15.5"/>...</Vertices></Region>
    </Regions></Annotation></Annotations>

X runs to the right and Y down, in pixels of the tile; a pixel's centre has whole coordinates. This is how outlines lie
in the data of Kumar et al. 2017 (https://doi.org/10.1109/TMI.2017.2677499).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.parsers import expat

import numpy as np
from skimage.draw import polygon

from bundle.data.errors import DataError

MAX_INSTANCES = np.iinfo(np.uint16).max
# Whole slides have some 100,000 pixels a side. Beyond this a coordinate is no position, and the fill would overflow.
MAX_COORDINATE = 1e7


@dataclass(frozen=True)
class Region:
    """One outline.

    Attributes:
        name: its ``Id``, or its number in the file where it has none.
        vertices: float64, N×2 (x, y), in the order of the file; N may be 0.
        negative: ``NegativeROA="1"``: its inside belongs to no object.
    """

    name: str
    vertices: np.ndarray
    negative: bool = False


@dataclass(frozen=True)
class RegionCounts:
    """What became of the regions of a file.

    Attributes:
        regions: all regions that were read, also those counted below.
        skipped: with fewer than three vertices: they have no inside.
        clipped: that reach beyond the edge of the tile; what is inside was filled.
        empty: that cover the centre of no pixel of the tile.
        overlapping: that share a pixel with another region. The later one of the file has it.
        vanished: that covered pixels, all of which went to other regions or were cut out.
        negative: that were cut out of the others (``NegativeROA="1"``).
        instances: objects in the map.
    """

    regions: int
    skipped: int
    clipped: int
    empty: int
    overlapping: int
    vanished: int
    negative: int
    instances: int


def read_regions(path: str | os.PathLike) -> list[Region]:
    """All regions of an ImageScope file, those of every layer (``Annotation``), in the order of the file.

    The file is parsed as a stream, and a document type is refused: with it an entity could expand without bound or
    name another file.

    Raises:
        DataError: unreadable or no ImageScope XML, a document type or entity, a coordinate that is missing, no
            number, or out of range (names the region).
    """
    reader = _Reader(Path(path))
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.StartDoctypeDeclHandler = reader.refuse
    parser.EntityDeclHandler = reader.refuse
    try:
        with open(path, "rb") as file:
            parser.ParseFile(file)
    except OSError as error:
        raise DataError(f"{path}: unreadable, expected ImageScope XML ({error})") from error
    except (expat.ExpatError, LookupError) as error:  # LookupError: an encoding that nobody knows
        raise DataError(f"{path}: corrupt XML, expected the annotations of ImageScope ({error})") from error
    return reader.regions


def fill_regions(
    regions: Sequence[Region], shape: tuple[int, int], origin: str | os.PathLike
) -> tuple[np.ndarray, RegionCounts]:
    """Fill outlines: a pixel belongs to a region if its centre lies inside.

    Regions are filled in their order, so that overlaps go to the later one. Negative regions are cut out at the end,
    wherever in the file they stand.

    Args:
        regions: from :func:`read_regions`.
        shape: rows and columns of the tile.
        origin: where the regions came from, for the message.

    Returns:
        Instance map, uint16, of `shape`: 0 is background, 1 to n the objects in the order of the regions, without
        gaps; and what became of the regions.

    Raises:
        DataError: more than 65535 objects.
    """
    canvas = np.zeros(shape, np.int32)
    skipped = clipped = empty = 0
    overlapping, drawn = set(), set()
    for number, region in enumerate(regions, start=1):
        if len(region.vertices) < 3:
            skipped += 1
            continue
        x, y = region.vertices.T
        # Pixels reach half a pixel beyond their centres.
        clipped += bool(min(x.min(), y.min()) < -0.5 or x.max() > shape[1] - 0.5 or y.max() > shape[0] - 0.5)
        inside = polygon(y, x, shape)
        if not len(inside[0]):
            empty += 1
        elif not region.negative:
            covered = np.unique(canvas[inside])
            covered = covered[covered > 0].tolist()
            overlapping.update(covered, [number] if covered else [])
            canvas[inside] = number
            drawn.add(number)
    for region in regions:
        if region.negative and len(region.vertices) >= 3:
            canvas[polygon(region.vertices[:, 1], region.vertices[:, 0], shape)] = 0
    instances = number_instances(canvas, origin)
    left = int(instances.max(initial=0))
    return instances, RegionCounts(
        regions=len(regions),
        skipped=skipped,
        clipped=clipped,
        empty=empty,
        overlapping=len(overlapping),
        vanished=len(drawn) - left,
        negative=sum(region.negative for region in regions),
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


class _Reader:
    """Handlers of the parser: a stack of open elements, and the regions so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.regions: list[Region] = []
        self._open: list[str] = []
        self._attributes: dict[str, str] = {}
        self._vertices: list[tuple[float, float]] = []

    def start(self, element: str, attributes: dict[str, str]) -> None:
        if not self._open and element != "Annotations":
            raise DataError(f"{self.path}: the root element is {element}, expected Annotations (ImageScope XML)")
        # Other elements, as headers of attributes, are not looked at; Region and Vertex mean what they say only here.
        if element == "Region" and self._open[-1] == "Regions":
            self._attributes, self._vertices = attributes, []
        elif element == "Vertex" and self._open[-2:] == ["Region", "Vertices"]:
            self._vertices.append((self._number(attributes, "X"), self._number(attributes, "Y")))
        self._open.append(element)

    def end(self, element: str) -> None:
        self._open.pop()
        if element == "Region" and self._open[-1] == "Regions":
            vertices = np.array(self._vertices, np.float64).reshape(-1, 2)
            negative = self._attributes.get("NegativeROA", "0").strip() not in ("", "0")
            self.regions.append(Region(self._name(), vertices, negative))

    def refuse(self, name: str, *_) -> None:
        raise DataError(f"{self.path}: declares a document type or entity {name!r}, expected ImageScope XML without")

    def _name(self) -> str:
        return self._attributes.get("Id") or f"number {len(self.regions) + 1}"

    def _number(self, attributes: Mapping[str, str], key: str) -> float:
        text = attributes.get(key)
        try:
            value = float(text)
        except (TypeError, ValueError):
            value = np.nan
        if not abs(value) <= MAX_COORDINATE:
            found = "missing" if text is None else repr(text)
            raise DataError(
                f"{self.path}: region {self._name()}, vertex {len(self._vertices) + 1}: {key} is {found}, expected a "
                "pixel coordinate"
            )
        return value
