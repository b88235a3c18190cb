"""What FLARE takes as names of sites and as folders, checked before anything is started."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from bundle.text import SITE_NAMES, is_site_name

__all__ = ["check_folder", "check_site_names"]

# it joins command lines and splits them as a shell would, comments included, and fills in what stands in brackets
_SPLITS = re.compile(r"""[\s'"\\#{}]""")


def check_site_names(names: Iterable[str]) -> None:
    """
    Raises:
        ValueError: FLARE takes a name for no site's, or two for the same folder, or a name is there twice; the message
            has the rule.
    """
    names = sorted(names)
    if wrong := [name for name in names if not is_site_name(name)]:
        raise ValueError(
            f"FLARE does not take {', '.join(map(repr, wrong))} as the name of a site, expected {SITE_NAMES}: "
            "rename it in the table that the data list is made from"
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"two sites are called {', '.join(twice)}, in {', '.join(names)}: expected a name of its own for each"
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
