"""Which items a setting trains on, and how sites share their work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from bundle.by_site import by_site
from bundle.data.datalist import DataList, load_datalist
from bundle.data.errors import DataError
from bundle.data.modalities import check_has
from bundle.files import below
from bundle.settings import (
    KINDS,
    averaged_sites,
    check_gan_setting,
    generates,
    image_sources,
    kind_of,
    names,
    real_sites,
)

__all__ = [
    "POOLED",
    "batch_sizes",
    "check_setting",
    "held_out_items",
    "image_folders",
    "items_by_site",
    "keep_conditions_by_site",
    "members_by_site",
    "samples_by_site",
    "training_items",
]

POOLED = "all"
"""Name of the one site that holds everybody's images in the setting Syn-All."""


def check_setting(setting: str, sites: Iterable[str]) -> str:
    """
    Args:
        setting: name of a kind of :data:`bundle.settings.KINDS`, with /SITE where it is one for every site.
        sites: names of the sites there are.

    Returns:
        ``setting``.

    Raises:
        DataError: naming the kinds, or the sites, that there are.
    """
    kind, slash, site = setting.partition("/")
    if kind not in KINDS or bool(slash) != KINDS[kind].per_site:
        raise DataError(f"unknown setting {setting!r}: expected one of {names()}")
    if slash and site not in sites:
        raise DataError(f"setting {setting!r}: there is no such site, expected one of {', '.join(sorted(sites))}")
    return setting


def items_by_site(datalist: DataList, setting: str) -> dict[str, list[dict]]:
    """
    Training items by site, for the training of a generator.

    Args:
        datalist: the data list.
        setting: ``asyndgan`` for the sites as they are, ``leave_out/SITE`` for all but one of them, ``syn_all`` for one
            site that holds everything, ``syn_subset/SITE`` for one of the sites alone.

    Raises:
        ValueError: for a setting that trains no generator.
        DataError: for a site that there is not, and where sites lack modalities that the setting needs.
    """
    check_setting(check_gan_setting(setting), datalist.sites)
    check_has(datalist, setting)
    return {
        name: [item for item in datalist.training if item["site"] in members]
        for name, members in members_by_site(datalist, setting).items()
    }


def members_by_site(datalist: DataList, setting: str) -> dict[str, list[str]]:
    """
    By name of a site of the setting, the sites of the data that it stands for.

    Args:
        datalist, setting: see :func:`items_by_site`, whose errors are those of this function.
    """
    check_setting(check_gan_setting(setting), datalist.sites)
    its_site, generator = setting.partition("/")[2], kind_of(setting).generator
    if generator == "pooled":
        return {POOLED: list(datalist.sites)}
    if generator == "own":
        return {its_site: [its_site]}
    members = {site: [site] for site in datalist.sites if generator == "sites" or site != its_site}
    if not members:
        raise DataError(f"setting {setting}: there is no other site than {its_site}")
    return members


def held_out_items(datalist: DataList) -> list[dict]:
    """
    The held-out items; the ``site`` of a case of no site is ``""``, which no site is called and which can be collated.

    Raises:
        DataError: when there are none.
    """
    if not datalist.test:
        raise DataError("there are no held-out cases: the list 'test' of the data list is empty")
    return [{**item, "site": item.get("site") or ""} for item in datalist.test]


def batch_sizes(batch_size: int | Mapping[str, int], datalist: DataList, setting: str) -> dict[str, int]:
    """
    Batch size by site. Where one site stands for all, in ``syn_all`` and ``syn_subset/SITE``, it is the sum over the
    sites, so that a step sees as many images as AsynDGAN's. Without a site a step sees as many fewer.

    Args:
        batch_size: of every site, or by name of the site.

    Raises:
        ValueError: when ``batch_size`` lacks a site or names one that there is not.
    """
    sizes = by_site("batch_size", batch_size, datalist.sites)
    members = members_by_site(datalist, setting)
    if kind_of(setting).generator in ("pooled", "own"):
        return dict.fromkeys(members, sum(sizes.values()))
    return {name: sizes[name] for name in members}


def keep_conditions_by_site(
    keep_conditions: bool | Mapping[str, bool], datalist: DataList, setting: str
) -> dict[str, bool]:
    """
    Whether the server may keep conditions, by site of the setting; in ``syn_all`` only where every site lets it: the
    one site holds the images of all.

    Args:
        keep_conditions: of every site, or by name of the site; those that are not named let it.

    Raises:
        ValueError: for a site that there is not.
        DataError: for anything but true and false.
    """
    kept = by_site("keep_conditions", keep_conditions, datalist.sites, default=True)
    if not all(isinstance(value, bool) for value in kept.values()):
        raise DataError(f"keep_conditions: expected true or false, for all sites or by site, got {keep_conditions!r}")
    return {name: all(kept[site] for site in members) for name, members in members_by_site(datalist, setting).items()}


def samples_by_site(items: Mapping[str, list[dict]], samples: Callable[..., Any]) -> dict[str, Any]:
    """
    Args:
        items: items by site.
        samples: makes a data set from ``data`` and ``name``, such as a partial :class:`bundle.data.SampleDataset`.
    """
    return {site: samples(data=items[site], name=f"site {site}") for site in sorted(items)}


def image_folders(setting: str, sites: Iterable[str], synthetic_dir: str, run_dir: str, seed: int) -> list[str]:
    """
    Folders of the synthetic data sets that the segmenter of a setting sees; none where it sees none.

    Args:
        setting: see :func:`check_setting`.
        sites: names of the sites there are.
        synthetic_dir: folder of the setting's own, where it has one.
        run_dir: folder of the run, whose ``seed_SEED/SETTING/synthetic`` are those of others.
        seed: seed of the run.

    Raises:
        DataError: for an unknown setting.
    """
    check_setting(setting, sites)
    if generates(setting):
        return [synthetic_dir]
    return [below(run_dir, f"seed_{seed}", source, "synthetic") for source in image_sources(setting, sites)]


def training_items(
    setting: str, dataset_dir: str, synthetic_dirs: Iterable[str], modalities: list[str] | None
) -> list[dict]:
    """
    Items that a segmenter is trained on.

    Args:
        setting: see :func:`check_setting`.
        dataset_dir: folder with the real data's ``datalist.json``.
        synthetic_dirs: :func:`image_folders` of the setting.
        modalities: channels of the images.

    Returns:
        Items of the data lists. In a setting that mixes a site's own images with synthetic ones each item says in
        ``part`` which it is: ``own`` or ``synthetic``.

    Raises:
        DataError: for an unknown setting, one whose segmenters are averaged, one without a site or for which sites lack
            modalities, and when a synthetic data set is missing.
    """
    datalist = load_datalist(dataset_dir, modalities)
    check_setting(setting, datalist.sites)
    check_has(datalist, setting)
    if averaged_sites(setting, datalist.sites):
        raise DataError(f"setting {setting}: every site trains a segmenter of its own; asyndgan segment runs them all")
    members = real_sites(setting, datalist.sites)
    if kind_of(setting).real and not members:
        raise DataError(f"setting {setting}: there is no other site")
    real = [item for item in datalist.training if item["site"] in members]
    synthetic: list[dict] = []
    for folder in synthetic_dirs:
        if not (Path(folder) / "datalist.json").is_file():
            raise DataError(f"setting {setting}: no synthetic data set in {folder}; generate.yaml writes it")
        synthetic += load_datalist(folder, modalities).training
    if not (real and synthetic):
        return real + synthetic
    return [{**item, "part": "own"} for item in real] + [{**item, "part": "synthetic"} for item in synthetic]
