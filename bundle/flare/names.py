"""What FLARE takes as names of sites and as folders, checked before anything is started."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from bundle.flare.participant import SERVER

__all__ = ["check_folder", "check_site_names"]

# nvflare/apis/utils/format_check.py; a certificate's common name has room for 64
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
# it joins command lines and splits them as a shell would, comments included, and fills in what stands in brackets
_SPLITS = re.compile(r"""[\s'"\\#{}]""")
_RULE = f"expected 1 to 64 letters A to Z, digits, '-' and '_', and not {SERVER!r}"


def check_site_names(names: Iterable[str]) -> None:
    """
    Raises:
        ValueError: FLARE takes a name for no site's, or two for the same folder; the message has the rule.
    """
    names = sorted(names)
    if wrong := [name for name in names if not _NAME.fullmatch(name) or name.lower() == SERVER]:
        raise ValueError(
            f"FLARE does not take {', '.join(map(repr, wrong))} as the name of a site, {_RULE}: rename it in the table "
            "that the data list is made from"
        )
    folded: dict[str, str] = {}
    for name in names:
        other = folded.setdefault(name.lower(), name)
        if other != name:
            raise ValueError(f"the sites {other} and {name} differ in capitals only: expected another name for one")


def check_folder(folder: Path, what: str) -> None:
    """
    Args:
        folder: that FLARE gets, or that it lies in.
        what: it is, for the message.

    Raises:
        ValueError: FLARE would put it into a command line, or a template, and find it in pieces there.
    """
    if found := _SPLITS.search(str(folder)):
        raise ValueError(
            f"{what} {str(folder)!r}: FLARE cannot start a job there, for {found[0]!r} is in its path; expected a path "
            "without blanks, quotes, backslashes, '#' and curly brackets"
        )
