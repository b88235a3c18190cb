"""Which items a setting trains on, and how sites share their work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from bundle.by_site import by_site
from bundle.data.datalist import DataList, load_datalist
from bundle.data.errors import DataError
from bundle.settings import KINDS, all_settings, check_gan_setting, trains_generator

__all__ = [
    "POOLED",
    "batch_sizes",
    "check_setting",
    "held_out_items",
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
        setting: ``real_all``, ``real_subset/SITE``, ``syn_all``, ``syn_subset/SITE`` or ``asyndgan``.
        sites: names of the sites there are.

    Returns:
        ``setting``.

    Raises:
        DataError: naming the settings there are.
    """
    known = all_settings(KINDS, sites)
    if setting not in known:
        raise DataError(f"unknown setting {setting!r}: expected one of {', '.join(known)}")
    return setting


def items_by_site(datalist: DataList, setting: str) -> dict[str, list[dict]]:
    """
    Training items by site, for the training of a generator.

    Args:
        datalist: the data list.
        setting: ``asyndgan`` for the sites as they are, ``syn_all`` for one site that holds everything,
            ``syn_subset/SITE`` for one of the sites alone.

    Raises:
        ValueError: for a setting that trains no generator.
        DataError: for a site that there is not.
    """
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
    if setting == "asyndgan":
        return {site: [site] for site in datalist.sites}
    _, _, subset = setting.partition("/")
    return {subset: [subset]} if subset else {POOLED: list(datalist.sites)}


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
    sites, so that a step sees as many images in every setting.

    Args:
        batch_size: of every site, or by name of the site.

    Raises:
        ValueError: when ``batch_size`` lacks a site or names one that there is not.
    """
    sizes = by_site("batch_size", batch_size, datalist.sites)
    names = members_by_site(datalist, setting)
    return sizes if len(names) > 1 else dict.fromkeys(names, sum(sizes.values()))


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


def training_items(setting: str, dataset_dir: str, synthetic_dir: str, modalities: list[str] | None) -> list[dict]:
    """
    Items that a segmenter is trained on.

    Args:
        setting: see :func:`check_setting`.
        dataset_dir: folder with the real data's ``datalist.json``.
        synthetic_dir: folder with the synthetic data's, read in the settings that train a generator.
        modalities: channels of the images.

    Raises:
        DataError: for an unknown setting, and when the synthetic data set is missing.
    """
    real = load_datalist(dataset_dir, modalities)
    check_setting(setting, real.sites)
    if not trains_generator(setting):
        subset = setting.partition("/")[2]
        return real.site_items(subset) if subset else list(real.training)
    if not (Path(synthetic_dir) / "datalist.json").is_file():
        raise DataError(f"setting {setting}: no synthetic data set in {synthetic_dir}; generate.yaml writes it")
    return list(load_datalist(synthetic_dir, modalities).training)
