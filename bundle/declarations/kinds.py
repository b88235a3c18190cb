"""What a plain value may be: a kind accepts values or not, and says in words which.

A value may come from anywhere, so no kind does more work than its own declaration lets it: what is too long, too many
or nested deeper than declared is not looked at.
"""

from __future__ import annotations

import math
import os
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bundle.settings import KINDS, names

__all__ = [
    "ByName",
    "Either",
    "Fields",
    "Flag",
    "Kind",
    "ListOf",
    "Matching",
    "Name",
    "Nothing",
    "Number",
    "OneOf",
    "Path",
    "Scalar",
    "Setting",
    "Text",
    "Whole",
    "in_brief",
    "optional",
]

MAX_PATH = 4096
_MAX_NAME = 64
_MAX_TEXT = 100
_NAME = re.compile(r"\w[\w.\- ]*")


class _Brief(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 60
        self.maxlist = self.maxtuple = self.maxdict = 4
        self.maxlevel = 2

    def repr_int(self, value: int, level: int) -> str:
        # Python refuses to write out very long ones
        return repr(value) if value.bit_length() < 100 else f"a whole number of {value.bit_length()} bits"


_brief = _Brief()


def in_brief(value: Any) -> str:
    """A value for a message: of any one, a line of at most a few hundred characters."""
    return _brief.repr(value)


class Kind(Protocol):
    """``str`` of a kind completes the sentence "expected …"."""

    def accepts(self, value: Any) -> bool: ...


@dataclass(frozen=True)
class Whole:
    """Whole numbers in [low, high]; true and false are none."""

    low: int
    high: int

    def accepts(self, value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"a whole number from {self.low} to {self.high}"


@dataclass(frozen=True)
class Number:
    """Finite numbers in [low, high]; true and false are none."""

    low: float
    high: float

    def accepts(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        # in this order: a whole number may be too large for a float
        return self.low <= value <= self.high and math.isfinite(value)

    def __str__(self) -> str:
        return f"a number from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Flag:
    """True and false, and nothing that Python takes for them."""

    def accepts(self, value: Any) -> bool:
        return isinstance(value, bool)

    def __str__(self) -> str:
        return "true or false"


@dataclass(frozen=True)
class Nothing:
    """Null: what else may stand here is a component, and no plain value."""

    def accepts(self, value: Any) -> bool:
        return value is None

    def __str__(self) -> str:
        return "null"


@dataclass(frozen=True, init=False)
class OneOf:
    """One of some words."""

    words: tuple[str, ...]

    def __init__(self, *words: str) -> None:
        object.__setattr__(self, "words", words)

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str) and value in self.words

    def __str__(self) -> str:
        return f"one of {', '.join(self.words)}"


@dataclass(frozen=True)
class Matching:
    """Short texts of a pattern; ``about`` says of which."""

    pattern: str
    about: str

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str) and len(value) <= _MAX_NAME and re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        return self.about


@dataclass(frozen=True)
class Name:
    """What may become a part of a file's name: a letter, digit or ``_``, then those and ``. -`` and blanks."""

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str) and len(value) <= _MAX_NAME and _NAME.fullmatch(value) is not None

    def __str__(self) -> str:
        return f"a name of at most {_MAX_NAME} letters, digits, '_', '-', '.' and ' ', the first no sign"


@dataclass(frozen=True)
class Scalar:
    """A single plain value, for what another place judges."""

    def accepts(self, value: Any) -> bool:
        return (
            value is None
            or isinstance(value, bool | float)
            or Whole(-(2**63), 2**63).accepts(value)
            or (isinstance(value, str) and len(value) <= _MAX_NAME)
        )

    def __str__(self) -> str:
        return "a number, a short text, true, false or null"


@dataclass(frozen=True)
class Text:
    """
    A line to be read by people; none that a config would evaluate or look up, and without braces: FLARE replaces what
    stands between them.
    """

    def accepts(self, value: Any) -> bool:
        if not isinstance(value, str) or not 1 <= len(value) <= _MAX_TEXT:
            return False
        return value.isprintable() and not value.startswith(("$", "@", "%")) and not set("{}") & set(value)

    def __str__(self) -> str:
        return f"a text of at most {_MAX_TEXT} printable characters, without braces, the first none of $ @ %"


@dataclass(frozen=True)
class Setting:
    """A kind of :data:`bundle.settings.KINDS`, with /SITE where it is one for every site; it names a folder."""

    def accepts(self, value: Any) -> bool:
        if not isinstance(value, str):
            return False
        kind, slash, site = value.partition("/")
        if kind not in KINDS:
            return False
        return bool(slash) and Name().accepts(site) if KINDS[kind].per_site else not slash

    def __str__(self) -> str:
        return names()


@dataclass(frozen=True)
class Path:
    """Where something lies, on the machine of whoever says it."""

    def accepts(self, value: Any) -> bool:
        if not isinstance(value, str | os.PathLike):
            return False
        text = os.fspath(value)
        return isinstance(text, str) and len(text) <= MAX_PATH and "\0" not in text

    def __str__(self) -> str:
        return "a path (write ./ in front of one that reads as something else, such as ./2018)"


@dataclass(frozen=True)
class ListOf:
    """Lists of ``low`` to ``high`` values of a kind."""

    kind: Kind
    low: int
    high: int

    def accepts(self, value: Any) -> bool:
        if not isinstance(value, list | tuple) or not self.low <= len(value) <= self.high:
            return False
        return all(self.kind.accepts(item) for item in value)

    def __str__(self) -> str:
        count = f"{self.low}" if self.low == self.high else f"{self.low} to {self.high}"
        return f"a list of {count}, each {self.kind}"


@dataclass(frozen=True)
class ByName:
    """Mappings of at most ``high`` names, such as those of sites, to values of a kind."""

    kind: Kind
    high: int
    names: Kind = Name()

    def accepts(self, value: Any) -> bool:
        if not isinstance(value, Mapping) or len(value) > self.high:
            return False
        return all(
            # a mapping with _target_ is a component to MONAI
            self.names.accepts(name) and not name.startswith("_") and self.kind.accepts(item)
            for name, item in value.items()
        )

    def __str__(self) -> str:
        return f"a mapping of at most {self.high} names to {self.kind}"


@dataclass(frozen=True, init=False)
class Fields:
    """Mappings with some of a few names, to values of each name's kind."""

    kinds: Mapping[str, Kind]

    def __init__(self, **kinds: Kind) -> None:
        object.__setattr__(self, "kinds", kinds)

    def accepts(self, value: Any) -> bool:
        if not isinstance(value, Mapping) or len(value) > len(self.kinds):
            return False
        return all(name in self.kinds and self.kinds[name].accepts(item) for name, item in value.items())

    def __str__(self) -> str:
        return "a mapping with some of " + "; ".join(f"{name}: {kind}" for name, kind in self.kinds.items())


@dataclass(frozen=True, init=False)
class Either:
    """Values of any of some kinds."""

    kinds: tuple[Kind, ...]

    def __init__(self, *kinds: Kind) -> None:
        object.__setattr__(self, "kinds", kinds)

    def accepts(self, value: Any) -> bool:
        return any(kind.accepts(value) for kind in self.kinds)

    def __str__(self) -> str:
        return ", or ".join(str(kind) for kind in self.kinds)


def optional(kind: Kind) -> Either:
    """Values of a kind, and null."""
    return Either(kind, Nothing())
