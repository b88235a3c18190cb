"""Sites without some modality: what their training cases list, and what the data list says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bundle.data.errors import DataError

__all__ = ["leave_out_modalities", "without"]


def without(
    lacks: Mapping[str, Sequence[str]], sites: Sequence[str], modality: Sequence[str], single: bool
) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """
    Args:
        lacks: by site, the modalities that it does not have.
        sites: those there are.
        modality: names of the channels that the cases on disk have.
        single: whether the cases are one hospital's own: what it lacks is not among them, and is added.

    Returns:
        The names of all modalities, and by site that lacks some those that it has.

    Raises:
        DataError: there is no such site or modality, or a site has none left.
    """
    names = (*modality, *(name for absent in lacks.values() for name in absent if single and name not in modality))
    problems = [f"there is no site {site}, expected some of {', '.join(sites)}" for site in lacks if site not in sites]
    for site, absent in lacks.items():
        if unknown := [name for name in absent if name not in names]:
            problems.append(f"site {site}: there is no {', '.join(unknown)}, expected some of {', '.join(names)}")
        if single and (had := [name for name in absent if name in modality]):
            problems.append(f"site {site}: {', '.join(had)} are among its modalities, expected such as others have")
        if set(names) <= set(absent):
            problems.append(f"site {site}: nothing is left of {', '.join(names)}")
    if problems:
        raise DataError.listing("lacks", problems)
    return names, {site: tuple(name for name in names if name not in absent) for site, absent in lacks.items()}


def leave_out_modalities(
    items: Sequence[Mapping[str, Any]], names: Sequence[str], own: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """
    Training items with the files of the modalities that their sites have.

    Args:
        items: with ``image``, a file per modality, and ``site``.
        names: of the files.
        own: by site that lacks some, those that it has.
    """
    return [
        {**item, "image": [path for path, name in zip(item["image"], names, strict=True) if name in own[item["site"]]]}
        if item["site"] in own
        else dict(item)
        for item in items
    ]
