"""A table, whatever shows it, and its forms as text for a terminal and as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

BEST_MARK = "*"


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        name: heading of the row.
        cells: the other columns, as they are shown.
        kind: what kind of row it is, which pages may show: a kind of setting, ``reference`` or ``total``; or empty.
        best: whether the row is marked.
        group: of a table whose rows are in groups, what heads the group that the row is in.
    """

    name: str
    cells: tuple[str, ...]
    kind: str = ""
    best: bool = False
    group: str = ""


@dataclass(frozen=True)
class Table:
    """What is shown, whatever the form.

    Attributes:
        title: a line above it; empty for none.
        headings: of all columns, that of the rows' names first.
        rows: the lines.
        notes: sentences below it.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


def group_starts(rows: Sequence[Row]) -> dict[int, str]:
    """The rows that begin a group, by number, with what heads it; a group without a name has no head."""
    before = ["", *(row.group for row in rows)]
    return {n: row.group for n, row in enumerate(rows) if row.group and row.group != before[n]}


def _one_line(text: str) -> str:
    return " ".join(text.split())


def to_text(table: Table) -> str:
    """Aligned columns, numbers to the right, notes below; no newline at the end."""
    lines = [table.headings]
    lines += [(_one_line(row.name) + (f" {BEST_MARK}" if row.best else ""), *row.cells) for row in table.rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.headings))]
    text: list[str] = []
    for line in lines:
        cells = [
            line[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
        ]
        text.append("  ".join(cells).rstrip())
    heads = group_starts(table.rows)
    for number in sorted(heads, reverse=True):
        text[number + 1 : number + 1] = ["", f"{_one_line(heads[number])}:"]
    text.insert(1, "  ".join("-" * width for width in widths))
    title = [_one_line(table.title), ""] if table.title else []
    return "\n".join([*title, *text, *([""] if table.notes else []), *map(_one_line, table.notes)])


def to_markdown(table: Table) -> str:
    """GitHub's Markdown, the notes in a paragraph of their own; ends with a newline. Markup in texts is escaped."""

    def clean(text: str) -> str:
        return re.sub(r"([\\`*_\[\]|<>])", r"\\\1", _one_line(text))

    lines = [f"**{clean(table.title)}**", ""] if table.title else []
    lines.append("| " + " | ".join(clean(heading) for heading in table.headings) + " |")
    lines.append("| --- |" + " ---: |" * (len(table.headings) - 1))
    heads = group_starts(table.rows)
    for number, row in enumerate(table.rows):
        if number in heads:
            lines.append(f"| **{clean(heads[number])}** |" + "  |" * (len(table.headings) - 1))
        name = clean(row.name) + (f" \\{BEST_MARK}" if row.best else "")
        lines.append("| " + " | ".join((name, *map(clean, row.cells))) + " |")
    if table.notes:
        lines += ["", " ".join(clean(note) for note in table.notes)]
    return "\n".join(lines) + "\n"
