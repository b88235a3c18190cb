"""Outlines in XML, read as a stream: no document type, a bound on depth and size, names without case and prefix."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.parsers import expat

import numpy as np

from bundle.data.errors import DataError
from bundle.prepare.outlines import MAX_COORDINATE, Region, check_file, check_number

MAX_DEPTH = 32


class MarkupReader:
    """What the readers of XML have in common; a subclass reads one format.

    Attributes:
        root: name of the root element in lower case: it tells the format.
        product: what writes such files, for messages.
        path: the file.
        regions: the regions so far.
    """

    root: str
    product: str

    def __init__(self, path: Path):
        self.path = path
        self.regions: list[Region] = []

    def start(self, parents: Sequence[str], element: str, attributes: Mapping[str, str]) -> None:
        """An element opens below `parents`, from the root down. All names are in lower case."""
        raise NotImplementedError

    def end(self, parents: Sequence[str], element: str) -> None:
        """An element closes."""
        raise NotImplementedError

    def number(self, attributes: Mapping[str, str], key: str, where: str) -> float:
        """A coordinate.

        Raises:
            DataError: it is missing, no number, or out of range.
        """
        text = attributes.get(key)
        try:
            value = float(text or "")
        except (TypeError, ValueError):
            value = np.nan
        if not abs(value) <= MAX_COORDINATE:
            found = "missing" if text is None else repr(text[:40])
            raise DataError(f"{self.path}: {where}: {key.upper()} is {found}, expected a pixel coordinate")
        return value


def read_markup(path: str | os.PathLike, formats: Sequence[type[MarkupReader]]) -> list[Region]:
    """All regions of an XML file, in its order; the root element tells the format.

    The file is parsed as a stream, and a document type is refused: with it an entity could expand without bound or
    name another file.

    Raises:
        DataError: unreadable or of another format, too large, too deep, a document type or entity, more than 65535
            regions, or a coordinate that is missing, no number, or out of range (names the region).
    """
    document = _Document(Path(path), formats)
    check_file(path, f"XML of {document.products}")
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = document.start
    parser.EndElementHandler = document.end
    parser.StartDoctypeDeclHandler = document.refuse
    parser.EntityDeclHandler = document.refuse
    try:
        with open(path, "rb") as file:
            parser.ParseFile(file)
    except OSError as error:
        raise DataError(f"{path}: unreadable, expected XML of {document.products} ({error})") from error
    except (expat.ExpatError, LookupError, ValueError) as error:  # an encoding that nobody knows, or cannot be used
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: corrupt XML, expected annotations of {document.products} ({error})") from error
    assert document.reader is not None  # the root element named one, or was refused
    return document.reader.regions


class _Document:
    """Handlers of the parser: a stack of open elements, and the reader that the root element chose."""

    def __init__(self, path: Path, formats: Sequence[type[MarkupReader]]):
        self.path = path
        self.formats = {reader.root: reader for reader in formats}
        self.products = " or ".join(reader.product for reader in formats)
        self.reader: MarkupReader | None = None
        self._open: list[str] = []

    def start(self, element: str, attributes: dict[str, str]) -> None:
        name = _local(element)
        if self.reader is None:
            if name not in self.formats:
                raise DataError(
                    f"{self.path}: the root element is {element[:40]}, expected annotations of {self.products}; export "
                    "the outlines as GeoJSON from QuPath"
                )
            self.reader = self.formats[name](self.path)
        elif len(self._open) >= MAX_DEPTH:
            raise DataError(f"{self.path}: its elements are nested deeper than {MAX_DEPTH}, expected {self.products}")
        else:
            self.reader.start(self._open, name, {_local(key): value for key, value in attributes.items()})
        self._open.append(name)

    def end(self, element: str) -> None:
        self._open.pop()
        if self._open and self.reader is not None:
            self.reader.end(self._open, _local(element))
            check_number(self.reader.regions, self.path)

    def refuse(self, name: str, *_) -> None:
        raise DataError(f"{self.path}: declares a document type or entity {name[:40]!r}, expected XML without")


@functools.lru_cache(maxsize=1024)
def _local(name: str) -> str:
    """A name without its namespace's prefix, in lower case."""
    return name.rpartition(":")[2].lower()
