"""One HTML page about a run: it opens without a network and can be passed on as a single file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from bundle.files import atomic_path

from .sections import SECTIONS, Report
from .style import STYLE


def write_report(
    path: str | os.PathLike[str],
    results: Mapping[str, Any],
    figures: Sequence[tuple[str, str, str | os.PathLike[str]]],
    notes: str | Sequence[str] | None = None,
    *,
    results_path: str = "results.json",
    configs: Sequence[tuple[str, str]] = (),
) -> Path:
    """Write the page: its sections are those of `bundle.report.sections.SECTIONS`.

    The file needs no network and no other file: images are embedded, styles inline, scripts absent. It is
    written whole or not at all.

    Args:
        path: HTML file to write; its folder is made.
        results: contents of results.json; any block may be missing, its section is then left out.
        figures: (title, caption, PNG file) in order; a file that cannot be read is named in its place.
        notes: a paragraph or several, as plain text, shown after the summary.
        results_path: where the reader finds results.json, as it should be printed.
        configs: (what it is of, the resolved configuration as text) of stages, shown folded up at the end.

    Returns:
        The path written.

    Raises:
        OSError: the page cannot be written.
    """
    report = Report(results, figures, [notes] if isinstance(notes, str) else list(notes or []), results_path, configs)
    body = [html for section in SECTIONS if (html := section(report))]
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Belt and braces: even a string that escaped wrongly could load nothing and run nothing.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>{escape(report.name)} · AsynDGAN report</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )
    with atomic_path(path) as temporary:
        temporary.write_bytes(page.encode("utf-8", errors="replace"))
    return Path(path)
