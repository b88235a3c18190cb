"""Data lists: the JSON file that training, generation and evaluation read, in MONAI's Decathlon style.

::

    {"name": "...", "task": "brats", "layout": "brats",
     "modality": {"0": "flair", "1": "t2"},           channels of every item's image, in order
     "labels": {"0": "background", "1": "..."},       every label value that may occur
     "label_type": "classes",                         or "instances"; optional
     "modalities": {"B": ["flair"]},                  of sites that do not have all; optional
     "label_groups": {"B": {"1": ["core", "oedema"]}},   of sites that label otherwise; optional
     "site_rule": {"rule": "institution", "seed": 0}, where the sites come from; optional
     "numTraining": 1, "numTest": 0,                  optional, must agree
     "training": [{"image": ["a_flair.nii.gz", "a_t2.nii.gz"], "label": "a_seg.nii.gz",
                   "case": "a", "patient": "a", "site": "A"}],
     "test": []}

``image`` is a list when there is one file per modality, a string when one file holds all channels. What a site lacks is
said in ``modalities`` and nowhere else: its training cases list the files of those, in that order, its held-out cases
these or, as all others do, those of ``modality``. ``label_groups`` are of sites whose labels tell less apart than those
of others: for every label value of theirs, the classes of the task that it may be. Such a site holds out no case.
Paths are relative to the folder of the data list or absolute.
``patient`` defaults to ``case``. The ``site`` of a *test* item
may be null: a case from outside the training sites. With ``label_type`` ``"instances"`` the labels are instance maps:
0 is background and every other value one object, of the one class that ``labels`` names. Items of a synthetic data set
also have ``intensity_range``, what the files store -1 and 1 as, and ``condition_source``, where the condition is from.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bundle.data.errors import DataError
from bundle.data.file_checks import check_files
from bundle.data.json_files import read_json
from bundle.data.schema import check_structure
from bundle.files import write_json

FILE_NAME = "datalist.json"


@dataclass(frozen=True)
class DataList:
    """A data list that was read and checked.

    Attributes:
        name: name of the data set.
        task: e.g. ``"brats"``.
        layout: layout on disk that it was made from.
        modality: channel names as the file declares them; every item says its own channels under ``modality``.
        labels: names by label value.
        training: items with ``image`` (absolute path, or list of them), ``label``, ``case``, ``patient``, ``site``,
            ``modality`` (channel names of ``image``, a tuple of str) and ``label_type``; where modalities that were
            asked for are not there, their names under ``absent``; of a site with labels of its own, what its values
            may be under ``label_groups``.
        test: as `training`.
        label_type: ``"classes"`` or ``"instances"``.
        asked: names of the modalities that were asked for, in their order.
        modalities: by site that lacks some of ``modality``, those that it has.
        label_groups: by site with labels of its own, names of the classes that each of its values may be.
    """

    name: str
    task: str
    layout: str
    modality: tuple[str, ...]
    labels: dict[int, str]
    training: list[dict[str, Any]]
    test: list[dict[str, Any]]
    label_type: str = "classes"
    asked: tuple[str, ...] = ()
    modalities: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    label_groups: Mapping[str, Mapping[int, tuple[str, ...]]] = field(default_factory=dict)

    def modalities_of(self, site: str) -> tuple[str, ...]:
        """The modalities that were asked for and that a site has, in the order in which they were asked for."""
        own = self.modalities.get(site, self.modality)
        return tuple(name for name in self.asked if name in own)

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites with training cases, sorted."""
        return tuple(sorted({item["site"] for item in self.training}))

    def site_items(self, site: str) -> list[dict[str, Any]]:
        """Training items of one site, in the order of the file.

        Raises:
            DataError: there is no such site.
        """
        items = [item for item in self.training if item["site"] == site]
        if not items:
            raise DataError(f"data list {self.name!r} has no site {site!r}, expected one of {', '.join(self.sites)}")
        return items


def load_datalist(path: str | os.PathLike, modalities: Sequence[str] | None = None, deep: bool = False) -> DataList:
    """Read and check a data list.

    Args:
        path: a ``datalist.json``, or a folder that holds one.
        modalities: channel names to keep, in this order. Where every modality is a file of its own, the others are
            dropped and never decoded; an image file with several channels keeps all of them, for a transform to pick.
            Of a site that lacks some, those that it has.
        deep: also decode every file (see :func:`bundle.data.file_checks.check_files`).

    Returns:
        The data list with absolute paths.

    Raises:
        DataError: no or corrupt JSON, wrong fields, an unknown modality, a site that has none of those asked for, a
            case or patient where it must not be, a missing, unreadable or mismatched file. The first 20 problems are
            listed.
    """
    path = Path(path)
    path = path / FILE_NAME if path.is_dir() else path
    if not path.exists():
        raise DataError(f"{path}: no such data list; asyndgan prepare writes one")
    content = read_json(path, "a data list")
    head = f"data list {path}"
    problems = check_structure(content)
    if problems:
        raise DataError.listing(head, problems)
    declared = tuple(content["modality"][str(index)] for index in range(len(content["modality"])))
    wanted = declared if modalities is None else tuple(modalities)
    own = {site: tuple(names) for site, names in content.get("modalities", {}).items()}
    _check_modalities(head, wanted, declared)
    _check_sites(head, wanted, {item["site"]: own.get(item["site"], declared) for item in content["training"]})
    coarse = {
        site: {int(value): tuple(names) for value, names in groups.items()}
        for site, groups in content.get("label_groups", {}).items()
    }
    labels = {int(value): name for value, name in content["labels"].items()}
    label_type = content.get("label_type", "classes")
    items = {
        split: [
            _resolve(item, path.parent, channels_listed(item, split, declared, own), wanted, label_type)
            for item in content[split]
        ]
        for split in ("training", "test")
    }
    every = items["training"] + items["test"]
    problems = [
        problem
        for channels in dict.fromkeys(item["modality"] for item in every)
        for problem in check_files([i for i in every if i["modality"] == channels], channels, labels, deep, label_type)
    ]
    if problems:
        raise DataError.listing(head, problems)
    named = (content["name"], content["task"], content["layout"])
    training, test = items["training"], items["test"]
    training = [i | {"label_groups": coarse[i["site"]]} if i["site"] in coarse else i for i in training]
    return DataList(*named, declared, labels, training, test, label_type, wanted, own, coarse)


def write_datalist(
    path: str | os.PathLike,
    *,
    name: str,
    task: str,
    layout: str,
    modality: Sequence[str],
    labels: Mapping[int, str],
    training: Sequence[Mapping[str, Any]],
    test: Sequence[Mapping[str, Any]] = (),
    site_rule: Mapping[str, Any] | None = None,
    label_type: str = "classes",
    modalities: Mapping[str, Sequence[str]] | None = None,
    label_groups: Mapping[str, Mapping[int, Sequence[str]]] | None = None,
) -> Path:
    """Check the structure of a data list and write it atomically.

    Args:
        path: the file, or an existing folder in which ``datalist.json`` is written.
        name: name of the data set.
        task: e.g. ``"brats"``.
        layout: layout on disk that the list was made from.
        modality: channel names of every image, in order; of a site that lacks some those in ``modalities``.
        labels: names by label value.
        training: items with ``image``, ``label``, ``case``, ``site`` and optionally ``patient``. Paths below the
            folder of the data list are written relative to it, others absolute; a relative path given here is
            taken as relative to that folder. What loading has added to items is left out.
        test: as `training`; ``site`` may be None.
        site_rule: where the sites come from, any JSON content.
        label_type: ``"classes"`` or ``"instances"``.
        modalities: of sites that lack some of ``modality``, those that they have.
        label_groups: of sites with labels of their own, names of the classes that each of their values may be.

    Returns:
        The path of the written file.

    Raises:
        DataError: fields, cases, patients or sites break the rules of the format (files are not looked at).
    """
    path = Path(path)
    path = path / FILE_NAME if path.is_dir() else path
    folder = Path(os.path.abspath(path.parent))
    content = {
        "name": name,
        "task": task,
        "layout": layout,
        "modality": {str(index): channel for index, channel in enumerate(modality)},
        "labels": {str(value): text for value, text in sorted(labels.items())},
        **({"label_type": label_type} if label_type != "classes" else {}),
        **({"modalities": {site: list(names) for site, names in sorted(modalities.items())}} if modalities else {}),
        **({"label_groups": _written(label_groups)} if label_groups else {}),
        "site_rule": dict(site_rule or {}),
        "numTraining": len(training),
        "numTest": len(test),
        "training": [_portable(item, folder) for item in training],
        "test": [_portable(item, folder) for item in test],
    }
    problems = check_structure(content)
    if problems:
        raise DataError.listing(f"data list {path}", problems)
    write_json(path, content)
    return path


def write_part(
    datalist: DataList,
    folder: str | os.PathLike,
    name: str,
    training: Sequence[Mapping[str, Any]],
    test: Sequence[Mapping[str, Any]] = (),
    site_rule: Mapping[str, Any] | None = None,
) -> Path:
    """Write some of a data list's items as a list of its own, in a folder that is made; else as `write_datalist`."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    return write_datalist(
        folder,
        name=name,
        task=datalist.task,
        layout=datalist.layout,
        modality=datalist.modality,
        labels=datalist.labels,
        training=training,
        test=test,
        site_rule=site_rule,
        label_type=datalist.label_type,
        modalities=_of(datalist.modalities, training),
        label_groups=_of(datalist.label_groups, training),
    )


def _of(by_site: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is said of the sites of these items."""
    sites = {item["site"] for item in items}
    return {site: value for site, value in by_site.items() if site in sites}


def _written(groups: Mapping[str, Mapping[int, Sequence[str]]]) -> dict[str, dict[str, list[str]]]:
    return {site: {str(value): list(names) for value, names in own.items()} for site, own in sorted(groups.items())}


def write_site_lists(datalist: DataList, folder: str | os.PathLike, held_out: bool = False) -> dict[str, Path]:
    """Write a data list for every site with its items alone, as sites on separate machines have them.

    Args:
        datalist: the list of all sites.
        folder: every site gets a folder of its name in it.
        held_out: whether a site's test items are in its list; otherwise the training items alone.

    Returns:
        Path of the data list by site.

    Raises:
        DataError: see :func:`write_datalist`.
    """
    lists = {}
    for site in datalist.sites:
        test = [item for item in datalist.test if held_out and item["site"] == site]
        name = f"{datalist.name}, {site}"
        lists[site] = write_part(datalist, Path(folder) / site, name, datalist.site_items(site), test)
    return lists


def channels_listed(
    item: Mapping[str, Any], split: str, declared: tuple[str, ...], own: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """The channel names of an item's image as the file has it: its site's, of a held-out case maybe all."""
    listed = own.get(item["site"], declared)
    if split == "training":
        return listed
    image = item["image"]
    return listed if isinstance(image, list) and len(image) == len(listed) else declared


def _check_modalities(head: str, wanted: tuple[str, ...], declared: tuple[str, ...]) -> None:
    unknown = [name for name in wanted if name not in declared]
    if unknown or not wanted or len(set(wanted)) != len(wanted):
        raise DataError(
            f"{head}: modalities {', '.join(wanted) or '(none)'} were asked for, expected different ones of those "
            f"available: {', '.join(declared)}"
        )


def _check_sites(head: str, wanted: tuple[str, ...], own: Mapping[str, tuple[str, ...]]) -> None:
    for site, names in sorted(own.items()):
        if not set(names) & set(wanted):
            raise DataError(
                f"{head}: site {site} has none of the modalities asked for, {', '.join(wanted)}: its field modalities "
                f"says {', '.join(names)}"
            )


def _resolve(
    item: Mapping[str, Any], folder: Path, channels: tuple[str, ...], wanted: tuple[str, ...], label_type: str
) -> dict[str, Any]:
    def absolute(path: str) -> str:
        return os.path.abspath(folder / path)

    image, absent = item["image"], tuple(name for name in wanted if name not in channels)
    if isinstance(image, list):
        kept = tuple(name for name in wanted if name in channels)
        image, channels = [absolute(image[channels.index(name)]) for name in kept], kept
    else:
        image = absolute(image)
    resolved = {"patient": item["case"], **item, "image": image, "label": absolute(item["label"])}
    return {**resolved, "modality": channels, "label_type": label_type, **({"absent": absent} if absent else {})}


def _portable(item: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    def portable(path: str | os.PathLike) -> str:
        full = Path(os.path.abspath(folder / path))
        return full.relative_to(folder).as_posix() if full.is_relative_to(folder) else str(full)

    image = item["image"]
    image = [portable(path) for path in image] if isinstance(image, (list, tuple)) else portable(image)
    written = {"image": image, "label": portable(item["label"]), "case": item["case"]}
    written |= {"patient": item.get("patient", item["case"]), "site": item["site"]}
    # Unknown keys pass through, so that the check names them instead of losing them silently.
    added = ("modality", "label_type", "absent", "label_groups")
    return written | {key: value for key, value in item.items() if key not in written and key not in added}
