"""A table as text for a terminal, as Markdown and as HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

BEST_MARK = "*"


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        name: heading of the row.
        cells: the other columns, as they are shown.
        kind: what kind of row it is, for a class in HTML (``setting-KIND``); empty for none.
        best: whether the row is marked.
    """

    name: str
    cells: tuple[str, ...]
    kind: str = ""
    best: bool = False


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


def _one_line(text: str) -> str:
    return " ".join(text.split())


def to_text(table: Table) -> str:
    """Aligned columns, numbers to the right, notes below; no newline at the end."""
    lines = [table.headings]
    lines += [(_one_line(row.name) + (f" {BEST_MARK}" if row.best else ""), *row.cells) for row in table.rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.headings))]
    text = []
    for line in lines:
        cells = [
            line[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
        ]
        text.append("  ".join(cells).rstrip())
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
    for row in table.rows:
        name = clean(row.name) + (f" \\{BEST_MARK}" if row.best else "")
        lines.append("| " + " | ".join((name, *map(clean, row.cells))) + " |")
    if table.notes:
        lines += ["", " ".join(clean(note) for note in table.notes)]
    return "\n".join(lines) + "\n"


def to_html(table: Table) -> str:
    """An HTML fragment: title, ``<table class="results">`` in ``<div class="scroll">``, notes. All text is escaped."""
    # A heading may wrap between words, but a unit or an arrow stays with its metric, and "Real-All" or "Syn-All" whole.
    headings = [re.sub(r" (?=[(↑↓])", "\N{NO-BREAK SPACE}", heading) for heading in table.headings]
    headings = [re.sub(r"\b(Real|Syn)-All", "\\1\N{NON-BREAKING HYPHEN}All", heading) for heading in headings]
    body = []
    for row in table.rows:
        kind = re.sub(r"[^a-z0-9]+", "-", row.kind.lower())
        classes = " ".join([f"setting-{kind}"] * bool(kind) + ["best"] * row.best)
        name = escape(row.name) + (f' <span class="mark">{BEST_MARK}</span>' if row.best else "")
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row.cells)
        body.append(f'<tr class="{classes}"><th scope="row">{name}</th>{cells}</tr>')
    title = f"<h3>{escape(table.title)}</h3>" if table.title else ""
    notes = f'<p class="note">{escape(" ".join(table.notes))}</p>' if table.notes else ""
    return f"{title}{_html_table(headings, body, 'results')}{notes}"


def plain_html_table(headings: Sequence[str], rows: Sequence[Sequence[str]], total: bool = False) -> str:
    """Rows of text as a table, the first column as row headings; ``total``: the last row is a sum."""
    body = []
    for number, row in enumerate(rows, start=1):
        opening = '<tr class="total">' if total and number == len(rows) else "<tr>"
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        body.append(f'{opening}<th scope="row">{escape(row[0])}</th>{cells}</tr>')
    return _html_table(headings, body)


def _html_table(headings: Sequence[str], body: Sequence[str], classes: str = "") -> str:
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    opening = f'<table class="{classes}">' if classes else "<table>"
    return (
        f'<div class="scroll" tabindex="0">{opening}<thead><tr>{head}</tr></thead><tbody>\n'
        + "\n".join(body)
        + "\n</tbody></table></div>"
    )
