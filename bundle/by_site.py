"""A value for all sites, or ``{SITE: value}``: how the keys are read that may differ from site to site."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

__all__ = ["by_site", "of_site"]

_NONE = object()


def of_site(key: str, value: Any, site: str, default: Any = _NONE) -> Any:
    """
    The value of one site, wherever the others are not known: what a mapping says of them is theirs.

    Args:
        key: the key that it is given for, for the error.
        value: a value for every site, or a mapping from names of sites to values.
        site: name of the site.
        default: its value where a mapping does not name it.

    Raises:
        ValueError: where a mapping does not name it and there is no ``default``.

    >>> of_site("batch_size", 4, "A"), of_site("batch_size", {"A": 2, "B": 8}, "A")
    (4, 2)
    """
    if not isinstance(value, Mapping):
        return value
    if site not in value and default is _NONE:
        raise ValueError(f"{key} is given for {_listed(value)}: nothing for site {site}")
    return value.get(site, default)


def by_site(key: str, value: Any, sites: Collection[str], default: Any = _NONE) -> dict[str, Any]:
    """
    The values of all sites.

    Args:
        key, value, default: see :func:`of_site`.
        sites: names of the sites there are.

    Returns:
        The value by name of the site, in the order of ``sites``.

    Raises:
        ValueError: for a mapping that names a site that there is not, or leaves one out without a ``default``.

    >>> by_site("batch_size", 4, ["A", "B"])
    {'A': 4, 'B': 4}
    >>> by_site("keep_conditions", {"B": False}, ["A", "B"], default=True)
    {'A': True, 'B': False}
    """
    if isinstance(value, Mapping):
        unknown = set(value) - set(sites)
        missing = set(sites) - set(value) if default is _NONE else set()
        problems = [f"there is no {_listed(unknown)}"] if unknown else []
        problems += [f"nothing for {_listed(missing)}"] if missing else []
        if problems:
            head = f"{key} is given for {_listed(value)}, but the sites are {_listed(sites)}"
            raise ValueError(f"{head}: {', '.join(problems)}")
    return {site: of_site(key, value, site, default) for site in sites}


def _listed(names: Collection[Any]) -> str:
    return ", ".join(sorted(map(str, names))) or "no site"
