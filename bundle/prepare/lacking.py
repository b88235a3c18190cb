"""Sites without some modality: which of their cases are whole, what they list, and what the data list says of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.data.errors import DataError
from bundle.prepare.cases import CaseFiles
from bundle.prepare.layouts.base import Layout
from bundle.prepare.tables import Row, key_of

__all__ = ["check_names", "discover_lacking", "leave_out_modalities", "site_known", "without"]


def discover_lacking(
    layout: Layout,
    source: Path,
    modalities: Sequence[str],
    lacks: Mapping[str, Sequence[str]],
    site_of: Callable[[CaseFiles], str | None],
) -> tuple[list[CaseFiles], Sequence[str]]:
    """
    As the layout's ``discover``, where a case may be without what its site does not have.

    Args:
        layout: of the cases.
        source: their folder.
        modalities: all that there are.
        lacks: by site, the modalities that it does not have.
        site_of: the site of a case, as far as it is known before all cases are.

    Returns:
        Cases, whose ``images`` are those of their sites where not all are there; and what is wrong with others.
    """
    cases, problems = layout.discover(source, modalities)
    # some layouts say what there is
    named = modalities or (list(cases[0].images) if cases else [])
    complete = {case.case for case in cases}
    absent = {site: frozenset(names) for site, names in lacks.items()}
    found: list[CaseFiles] = []
    # without a problem no file is missing
    for one in sorted(set(absent.values()), key=sorted) if problems else []:
        if own := [name for name in named if name not in one]:
            without_one = layout.discover(source, own)[0]
            found += [c for c in without_one if c.case not in complete and absent.get(site_of(c) or "") == one]
    resolved = {case.case for case in found}
    left = [problem for problem in problems if getattr(problem, "case", None) not in resolved]
    return sorted([*cases, *found], key=lambda case: case.case) if found else cases, left


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
    problems = _unknown(lacks, names, sites)
    for site, absent in lacks.items():
        if single and (had := [name for name in absent if name in modality]):
            problems.append(f"site {site}: {', '.join(had)} are among its modalities, expected such as others have")
        if set(names) <= set(absent):
            problems.append(f"site {site}: nothing is left of {', '.join(names)}")
    if problems:
        raise DataError.listing("lacks", problems)
    return names, {site: tuple(name for name in names if name not in absent) for site, absent in lacks.items()}


def site_known(rows: Mapping[str, Row], by_name: bool) -> Callable[[CaseFiles], str | None]:
    """
    The site of a case before all cases are known.

    Args:
        rows: of a table, by case or patient.
        by_name: whether the name of a case tells its site where the table does not.
    """

    def site_of(case: CaseFiles) -> str | None:
        row = rows.get(key_of(rows, case))
        return (row and row.site) or (case.institution if by_name else None)

    return site_of


def check_names(
    lacks: Mapping[str, Sequence[str]], modalities: Sequence[str], sites: Collection[str] | None = None
) -> None:
    """
    Before any case is looked for.

    Args:
        lacks: by site, the modalities that it does not have.
        modalities: all that there are.
        sites: those there are, as far as they are known; None where they are not.

    Raises:
        DataError: there is no such modality or site.
    """
    if problems := _unknown(lacks, modalities, sites):
        raise DataError.listing("lacks", problems)


def _unknown(lacks: Mapping[str, Sequence[str]], names: Sequence[str], sites: Collection[str] | None) -> list[str]:
    """A sentence for every site or name that there is not; ``names`` may be unknown as well, and then empty."""
    problems = []
    for site, absent in lacks.items():
        if sites is not None and site not in sites:
            problems.append(
                f"there is no site {site or '(none is named)'}, expected some of {', '.join(sorted(sites))}"
            )
        if names and (unknown := [name for name in absent if name not in names]):
            problems.append(f"site {site}: there is no {', '.join(unknown)}, expected some of {', '.join(names)}")
    return problems


def leave_out_modalities(
    items: Sequence[Mapping[str, Any]], names: Mapping[str, Sequence[str]], own: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """
    Training items with the files of the modalities that their sites have.

    Args:
        items: with ``image``, a file per modality, ``case`` and ``site``.
        names: of the files, by case.
        own: by site that lacks some, those that it has.
    """
    return [
        {
            **item,
            "image": [
                path for path, name in zip(item["image"], names[item["case"]], strict=True) if name in own[item["site"]]
            ],
        }
        if item["site"] in own
        else dict(item)
        for item in items
    ]
