"""Outlines of nuclei as Aperio ImageScope writes them (XML).

::

    <Annotations MicronsPerPixel="0.25"><Annotation Id="1" Name=""><Attributes/><Regions>
      <Region Id="1" Type="0" NegativeROA="0"><Vertices><Vertex X="253.0" Y="15.5"/>...</Vertices></Region>
    </Regions></Annotation></Annotations>

X runs to the right and Y down, in pixels of the tile; a pixel's centre has whole coordinates. This is how outlines lie
in the data of Kumar et al. 2017 (https://doi.org/10.1109/TMI.2017.2677499).

``Type`` says which tool drew a region: 0 freehand, 1 rectangle, 2 ellipse (two corners of its extent), 3 arrow. No
document of Aperio's says so; the values are those that users report. MoNuSAC names its layers in
``<Attributes><Attribute Name="Epithelial"/></Attributes>``, areas that are no good among them ``Ambiguous``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bundle.data.errors import DataError
from bundle.prepare.markup import MarkupReader
from bundle.prepare.outlines import Region, is_ambiguous

RECTANGLE, ELLIPSE = "1", "2"
# Other products whose root element has the same name but for case, by what stands in it.
_FOREIGN = {"image": "CVAT", "ndpviewstate": "NDP.view"}
_ANGLES = np.linspace(0, 2 * np.pi, 64, endpoint=False)


class ImageScope(MarkupReader):
    """All regions of an ImageScope file, those of every layer (``Annotation``), in the order of the file."""

    root = "annotations"
    product = "ImageScope"

    def __init__(self, path: Path):
        super().__init__(path)
        self._attributes: Mapping[str, str] = {}
        self._vertices: list[tuple[float, float]] = []
        self._layer: list[str] = []
        self._first = 0

    def start(self, parents: Sequence[str], element: str, attributes: Mapping[str, str]) -> None:
        """Headers of attributes are not looked at; Region and Vertex mean what they say only at their place."""
        if len(parents) == 1 and element in _FOREIGN:
            raise DataError(f"{self.path}: is XML of {_FOREIGN[element]}, which is not read; export it as GeoJSON")
        if element == "annotation":
            self._layer, self._first = [attributes.get("name", "")], len(self.regions)
        elif element == "attribute" and parents[-2:] == ["annotation", "attributes"]:
            self._layer += [attributes.get("name", ""), attributes.get("value", "")]
        elif element == "region" and parents[-1] == "regions":
            self._attributes, self._vertices = attributes, []
        elif element == "vertex" and parents[-2:] == ["region", "vertices"]:
            where = f"region {self._name()}, vertex {len(self._vertices) + 1}"
            self._vertices.append((self.number(attributes, "x", where), self.number(attributes, "y", where)))

    def end(self, parents: Sequence[str], element: str) -> None:
        if element == "region" and parents[-1] == "regions":
            self.regions.append(self._region())
        elif element == "annotation" and is_ambiguous(*self._layer):
            layer = self.regions[self._first :]
            self.regions[self._first :] = [dataclasses.replace(region, ambiguous=True) for region in layer]

    def _region(self) -> Region:
        vertices = np.array(self._vertices, np.float64).reshape(-1, 2)
        tool = self._attributes.get("type", "").strip()
        if tool == ELLIPSE and 2 <= len(vertices) <= 4:
            vertices = _ellipse(vertices)
        return Region(
            self._name(),
            vertices,
            negative=self._attributes.get("negativeroa", "0").strip() not in ("", "0"),
            rectangle=tool == RECTANGLE and is_rectangle(vertices),
            ambiguous=is_ambiguous(self._attributes.get("text", "")),
        )

    def _name(self) -> str:
        return self._attributes.get("id", "")[:40] or f"number {len(self.regions) + 1}"


def is_rectangle(vertices: np.ndarray) -> bool:
    """Whether four vertices (five, if the first is said twice) are corners, with sides along the axes."""
    if not 4 <= len(vertices) <= 5:
        return False
    corners = (np.abs(vertices - vertices.min(axis=0)) < 0.5) | (np.abs(vertices - vertices.max(axis=0)) < 0.5)
    return bool(corners.all())


def _ellipse(corners: np.ndarray) -> np.ndarray:
    low, high = corners.min(axis=0), corners.max(axis=0)
    return (low + high) / 2 + (high - low) / 2 * np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
