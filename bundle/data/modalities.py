"""Sites that lack some of a task's modalities, or label less: what a data list may say of it, and what follows.

A data list's ``modality`` names all modalities that its data set knows; its ``modalities``, by site, which of them the
training cases of a site have. A site that is not named there has all of them. Its ``label_groups``, by site, are those
of sites whose labels tell less apart than the task's classes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from bundle.data.datalist import DataList
from bundle.data.errors import DataError
from bundle.settings import kind_of, real_sites

__all__ = ["check_has", "complete", "fills", "fitting", "names_by_site", "segmenter_modalities"]


def names_by_site(datalist: DataList, members: Mapping[str, Collection[str]] | Collection[str]) -> dict[str, list[str]]:
    """
    The modalities of the sites that lack some of those asked for; nothing of a site that has all.

    Args:
        datalist: the data list.
        members: sites of the setting: names, or the sites of the data by name of what stands for them.
    """
    groups = members if isinstance(members, Mapping) else {site: [site] for site in members}
    found = {}
    for name, sites in groups.items():
        own = [m for m in datalist.asked if all(m in datalist.modalities_of(site) for site in sites)]
        if len(own) < len(datalist.asked):
            found[name] = own
    return found


def complete(datalist: DataList, what: str) -> DataList:
    """
    The data list, of which something needs every modality and every class at every site.

    Raises:
        DataError: naming the sites and what they lack.
    """
    _need_labels(datalist, datalist.sites, what)
    if lacking := _lacking(datalist, datalist.sites):
        raise DataError(f"data list {datalist.name!r}: {what} needs every modality at every site, but {lacking}")
    return datalist


def fitting(datalist: DataList, groups: Collection[str]) -> DataList:
    """
    The data list, whose sites' own labels fit the classes of a task.

    Args:
        datalist: the data list.
        groups: names of the classes.

    Raises:
        DataError: a value of a site may be a class that there is not, or a class can be none of its values: what a site
            does not outline would pass for absent.
    """
    expected = ", ".join(groups)
    problems = []
    for site, own in sorted(datalist.label_groups.items()):
        named = {name for names in own.values() for name in names}
        if unknown := sorted(named - set(groups)):
            problems.append(f"site {site}: {', '.join(unknown)} are no classes of the job, expected {expected}")
        if missing := [name for name in groups if name not in named]:
            problems.append(
                f"site {site}: none of its label values may be {', '.join(missing)}, expected each of {expected}: "
                "what a site does not outline would pass for absent"
            )
    if problems:
        head = f"data list {datalist.name!r}: field label_groups does not fit the config's label_groups"
        raise DataError.listing(head, problems)
    return datalist


def check_has(datalist: DataList, setting: str) -> None:
    """
    Args:
        datalist: of all sites.
        setting: any of its settings.

    Raises:
        DataError: when the setting needs modalities of sites that lack them, or a generator of its own would draw one
            that none of its sites has.
    """
    kind, its_site = kind_of(setting), setting.partition("/")[2]
    head = f"data list {datalist.name!r}, setting {setting}"
    if kind.generator == "pooled":
        complete(datalist, f"setting {setting}, one site that holds the images of all,")
    if kind.generator is not None:
        sites = [s for s in datalist.sites if (s == its_site) == (kind.generator == "own") or not its_site]
        had = {name for site in sites for name in datalist.modalities_of(site)}
        if nobody := [name for name in datalist.asked if name not in had]:
            raise DataError(
                f"{head}: no site of {', '.join(sites)} has {', '.join(nobody)}, and the generator would draw it (the "
                "list's field modalities, the config's key modalities)"
            )
    if kind.real:
        _need_labels(datalist, real_sites(setting, datalist.sites), f"setting {setting}, a segmenter of real images,")
    if kind.real and kind.modalities == "all":
        lacking = _lacking(datalist, real_sites(setting, datalist.sites))
        if lacking:
            raise DataError(
                f"{head}: a segmenter of real images needs all modalities, but {lacking}; real_all_common and "
                "real_all_filled are for such sites"
            )
    segmenter_modalities(datalist, setting)


def segmenter_modalities(datalist: DataList, setting: str) -> list[str]:
    """
    What the segmenter of a setting reads: of those asked for those that all its sites have where it takes what they
    have in common, its site's own where it is one of a site, and all elsewhere.

    Raises:
        DataError: the sites have none in common.
    """
    kind = kind_of(setting)
    sites = {"common": datalist.sites, "own": real_sites(setting, datalist.sites)}.get(kind.modalities, [])
    found = [name for name in datalist.asked if all(name in datalist.modalities_of(site) for site in sites)]
    if datalist.asked and not found:
        raise DataError(
            f"data list {datalist.name!r}, setting {setting}: the sites {', '.join(sites)} have no modality in common"
        )
    return found


def fills(setting: str) -> bool:
    """Whether the segmenter of a setting is trained on images whose missing channels are black."""
    return kind_of(setting).modalities == "filled"


def _need_labels(datalist: DataList, sites: Collection[str], what: str) -> None:
    coarse = [site for site in sorted(sites) if site in datalist.label_groups]
    if coarse:
        raise DataError(
            f"data list {datalist.name!r}: {what} needs labels that tell all classes apart, but those of "
            f"{', '.join(coarse)} do not (field label_groups)"
        )


def _lacking(datalist: DataList, sites: Collection[str]) -> str:
    """In words; nothing where nobody lacks any."""
    own = names_by_site(datalist, sites)
    told = (f"site {site} has no {', '.join(m for m in datalist.asked if m not in own[site])}" for site in sorted(own))
    return ", ".join(told)
