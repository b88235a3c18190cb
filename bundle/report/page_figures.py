"""The figures of a page as they lie on disk: a PNG file each, and one list that says what they show and for whom."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from bundle.files import below, write_json

__all__ = ["GROUPS", "PageFigure", "read_figures", "write_figure_list"]

FIGURE_LIST = "figures.json"
GROUPS = ("gain", "first", "synthesis", "cases", "segmentations", "neighbours", "losses")
"""Where a figure stands: in what the page opens with, on the first screen, or in the section of that name."""
PAGES = ("full", "shareable", "both")
_FIELDS = ("file", "title", "caption", "alt", "group", "pages")


@dataclass(frozen=True)
class PageFigure:
    """
    One figure.

    Attributes:
        path: PNG file.
        title: a line above it.
        caption: sentences below it.
        alt: what is to be seen, for who cannot see it; empty for the title.
        group: one of :data:`GROUPS`; any other has a section of its own at the end.
        pages: ``"full"`` for what shows a real image or names a case, ``"shareable"`` for what stands in its place on
            a page that is passed on, ``"both"`` for what shows neither. Unless somebody says so, nothing is passed on.
    """

    path: Path
    title: str
    caption: str = ""
    alt: str = ""
    group: str = ""
    pages: str = "full"

    @cached_property
    def data(self) -> str:
        """The file in base64; empty where it cannot be read: a report is worth having without one of its pictures."""
        try:
            return base64.b64encode(Path(self.path).read_bytes()).decode("ascii")
        except OSError:
            return ""

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels; (0, 0) where the file cannot be read."""
        try:
            with Image.open(self.path) as image:
                return image.size
        except OSError:
            return (0, 0)


def write_figure_list(folder: str | os.PathLike[str], figures: Sequence[PageFigure]) -> None:
    """Write ``figures.json`` into the folder of the figures' files, for :func:`read_figures`."""
    entries = [{"file": f.path.name, **{field: getattr(f, field) for field in _FIELDS[1:]}} for f in figures]
    write_json(Path(folder) / FIGURE_LIST, entries)


def read_figures(folder: str | os.PathLike[str]) -> list[PageFigure]:
    """
    The figures that :func:`write_figure_list` listed; none where there is no list.

    Raises:
        ValueError: the list cannot be read or an entry is not as it should be, naming file and field.
    """
    path = Path(folder) / FIGURE_LIST
    if not path.is_file():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: cannot be read, expected the list of figures in JSON ({error})") from error
    if not isinstance(entries, list):
        raise ValueError(f"{path}: expected a list of figures")
    return [_read(path, number, entry) for number, entry in enumerate(entries)]


def _read(path: Path, number: int, entry: Any) -> PageFigure:
    for field in _FIELDS:
        if not isinstance(entry, dict) or not isinstance(entry.get(field), str):
            raise ValueError(f"{path}: figure {number} has no text in the field '{field}'")
    if entry["pages"] not in PAGES:
        raise ValueError(f"{path}: figure {number}: pages is '{entry['pages']}', expected one of {', '.join(PAGES)}")
    return PageFigure(Path(below(path.parent, entry["file"])), **{field: entry[field] for field in _FIELDS[1:]})
