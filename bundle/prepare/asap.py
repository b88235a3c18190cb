"""Outlines of nuclei as ASAP writes them (XML), https://github.com/computationalpathologygroup/ASAP.

::

    <ASAP_Annotations><Annotations>
      <Annotation Name="Annotation 0" Type="Polygon" PartOfGroup="Tumor"><Coordinates>
        <Coordinate Order="0" X="253.0" Y="15.5"/>...</Coordinates></Annotation>
    </Annotations><AnnotationGroups/></ASAP_Annotations>

The origin is the corner of the first pixel, where ASAP's viewer has it: half a pixel is subtracted. That, and the whole
reader, was tried on files that tests write. Splines are taken as polygons through their points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bundle.prepare.imagescope import is_rectangle
from bundle.prepare.markup import MarkupReader
from bundle.prepare.outlines import Region, is_ambiguous

_OPEN = ("dot", "pointset", "measurement")


class Asap(MarkupReader):
    """All annotations of an ASAP file, those of every group, in the order of the file."""

    root = "asap_annotations"
    product = "ASAP"

    def __init__(self, path: Path):
        super().__init__(path)
        self._attributes: Mapping[str, str] = {}
        self._vertices: list[tuple[float, float, float]] = []

    def start(self, parents: Sequence[str], element: str, attributes: Mapping[str, str]) -> None:
        if element == "annotation":
            self._attributes, self._vertices = attributes, []
        elif element == "coordinate" and parents[-2:] == ["annotation", "coordinates"]:
            where = f"annotation {self._name()}, coordinate {len(self._vertices) + 1}"
            order = self.number(attributes, "order", where) if "order" in attributes else len(self._vertices)
            x, y = (self.number(attributes, key, where) for key in ("x", "y"))
            self._vertices.append((order, x - 0.5, y - 0.5))

    def end(self, parents: Sequence[str], element: str) -> None:
        if element != "annotation":
            return
        kind = self._attributes.get("type", "").strip().lower()
        kept = [] if kind in _OPEN else sorted(self._vertices, key=lambda vertex: vertex[0])
        vertices = np.array(kept, np.float64).reshape(-1, 3)[:, 1:]
        self.regions.append(
            Region(
                self._name(),
                vertices,
                rectangle=kind == "rectangle" and is_rectangle(vertices),
                ambiguous=is_ambiguous(self._attributes.get("partofgroup", ""), self._attributes.get("name", "")),
            )
        )

    def _name(self) -> str:
        return self._attributes.get("name", "")[:40] or f"number {len(self.regions) + 1}"
