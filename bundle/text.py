"""Text from outside: what may cross between server and sites, and how any of it is shown in a log."""

from __future__ import annotations

import copy
import logging
import pydoc
import re
import sys
from collections.abc import Mapping
from typing import IO, Any

__all__ = [
    "MAX_TEXT",
    "SERVER",
    "SITE_NAMES",
    "EscapingFormatter",
    "console",
    "escape_logs",
    "escaped",
    "escaping",
    "is_site_name",
    "is_text",
    "refusals",
    "shown",
]

MAX_TEXT = 300
"""Characters of any text that crosses: a name, a nonce, a policy in words, the reason of a refusal."""
SERVER = "server"
"""The server's name among the participants of a federation."""
SITE_NAMES = f"1 to 64 letters A to Z, digits, '-' and '_', and not {SERVER!r}"
# nvflare/apis/utils/format_check.py; a certificate's common name has room for 64
_SITE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_site_name(value: object) -> bool:
    """Whether a federation takes this as the name of a site: :data:`SITE_NAMES`."""
    return isinstance(value, str) and _SITE_NAME.fullmatch(value) is not None and value.lower() != SERVER


def is_text(value: object) -> bool:
    """
    Whether this may cross between server and sites: up to ``MAX_TEXT`` characters, each of which is printable.

    Letters, digits, marks and signs of any script are, and the blank; line ends, tabs, terminal escapes, signs that
    turn the direction of writing, invisible ones, halves of surrogates and private ones are not (``str.isprintable``).
    """
    return isinstance(value, str) and len(value) <= MAX_TEXT and value.isprintable()


def escaped(text: str) -> str:
    r"""``text`` on one line: what is not printable as Python writes it, ``\n``, ``\x1b``, ``\u202e``."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shown(text: object) -> str:
    """Any text so that it may cross and be logged: :func:`escaped`, and cut where it is too long."""
    line = escaped(str(text)[: MAX_TEXT + 1])
    return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 1] + "…"


class EscapingFormatter(logging.Formatter):
    """
    Writes a record so that nothing in it can look like another record, or like a command to a terminal.

    The message becomes one line (:func:`escaped`). A traceback keeps its lines, each of them indented: an error's text
    may come from outside as well.
    """

    def format(self, record: logging.LogRecord) -> str:
        record = copy.copy(record)
        record.msg, record.args = escaped(record.getMessage()), None
        if record.exc_info:
            # another handler may have written it there, as it is
            record.exc_text = None
        elif record.exc_text:
            record.exc_text = _indented(record.exc_text)
        return super().format(record)

    def formatException(self, ei: Any) -> str:
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:
        return _indented(super().formatStack(stack_info))


def escaping(formatter: str, **options: Any) -> logging.Formatter:
    """
    A formatter of somebody else's that escapes as :class:`EscapingFormatter` does, for a logging configuration:
    ``{"()": "bundle.text.escaping", "formatter": "package.Formatter", "fmt": ...}``.

    Args:
        formatter: full name of its class.
        options: its arguments.
    """
    base = pydoc.locate(formatter)
    if not (isinstance(base, type) and issubclass(base, logging.Formatter)):
        raise ValueError(f"{formatter} is no class of logging.Formatter")
    return _escaping_class(base)(**options)


def escape_logs() -> None:
    """Have the root logger's handlers escape, whatever a logging file gave them: MONAI lets one name no other class."""
    for handler in logging.getLogger().handlers:
        formatter = copy.copy(handler.formatter or logging.Formatter())
        if not isinstance(formatter, EscapingFormatter):
            formatter.__class__ = _escaping_class(type(formatter))
            handler.setFormatter(formatter)


def console(form: str = "%(message)s", datefmt: str | None = None, stream: IO[str] | None = None) -> logging.Handler:
    """A handler for ``logging.basicConfig(handlers=[...])`` that escapes; to stderr unless ``stream`` is another."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(EscapingFormatter(form, datefmt))
    return handler


def _escaping_class(base: type[logging.Formatter]) -> type[logging.Formatter]:
    return type(base.__name__, (EscapingFormatter, base), {})


def _indented(text: str) -> str:
    return "\n".join(f"    {escaped(line)}" for line in text.split("\n"))


def refusals(segmenters: Mapping[str, Any]) -> list[str]:
    """
    Why segmenters have no scores of a site, a line for each site and reason.

    Args:
        segmenters: of ``federated_evaluation.json``: by name ``failures``, reasons by site, and ``failure``, why no
            site was asked; either may be missing.
    """
    of_reason: dict[tuple[str, str], list[str]] = {}
    for name, about in segmenters.items():
        said = {**(about.get("failures") or {}), **({"no site": about["failure"]} if "failure" in about else {})}
        for site, reason in said.items():
            of_reason.setdefault((site, reason), []).append(name)
    return [
        f"{site}, {'every segmenter' if len(names) == len(segmenters) > 1 else ', '.join(names)}: {reason}"
        for (site, reason), names in of_reason.items()
    ]
