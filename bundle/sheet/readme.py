"""Pages made from data sheets, in Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bundle.report.display_names import get_metric
from bundle.report.formats import DASH, human_seconds, listed
from bundle.sheet.attacks import is_attacked
from bundle.sheet.fields import pointer_to

__all__ = ["NOBODY", "Markdown", "render"]

NOBODY = (
    "**Nobody has attacked this generator: what it may have learned of single patients has not been measured. "
    "`asyndgan audit` does.**"
)
"""On the page of whatever has no audit."""
_MARKS = re.compile(r"([\\`*|]|\](?=[(\[:]))")  # without its end, a link is none


class Markdown(str):
    """Text that is Markdown already."""

    __slots__ = ()


def render(template: Path, sheet: Mapping[str, Any], **others: Any) -> str:
    """
    Fill a template; its ``import 'sections.md' as sections`` has the parts that all pages share.

    Whatever it is filled with is shown as it is: its marks are no Markdown or HTML, unless it is :class:`Markdown`.

    Args:
        template: a file in Jinja2's language.
        sheet: the data sheet.
        others: what else the template names.
    """
    text = template.read_text(encoding="utf-8")
    return _environment().from_string(text).render(sheet=sheet, attacked=is_attacked(sheet), **others).rstrip() + "\n"


def escaped(value: Any) -> str:
    r"""
    >>> escaped("*a* | <b>")
    '\\*a\\* \\| &lt;b&gt;'
    """
    if isinstance(value, Markdown):
        return value
    if isinstance(value, float):
        return format(value, ".4g").replace("-", "−")
    text = " ".join(str(value).split())
    return _MARKS.sub(r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        undefined=StrictUndefined,
        finalize=escaped,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {"nobody": Markdown(NOBODY), "why": _why}
    environment.filters |= {
        "metric": lambda name: get_metric(name).label,
        "seconds": human_seconds,
        "interval": _interval,
        "known": lambda value: DASH if value is None else value,
        "listed": lambda values: listed([str(value) for value in values]) if values else DASH,
    }
    return environment


def _why(sheet: Mapping[str, Any], *names: Any) -> str:
    """Why a value is null."""
    return (sheet["not_known"] or {}).get(pointer_to(*names), "not known")


def _interval(ends: Any) -> str:
    return f"{escaped(float(ends[0]))} to {escaped(float(ends[1]))}" if ends else DASH
