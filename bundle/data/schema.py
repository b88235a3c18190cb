"""What may stand in a data list: fields, types, and which case may be where. No file is opened here."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

REQUIRED = {"name": str, "task": str, "layout": str, "modality": dict, "labels": dict, "training": list, "test": list}
OPTIONAL = {
    "label_type": str,
    "modalities": dict,
    "label_groups": dict,
    "site_rule": dict,
    "numTraining": int,
    "numTest": int,
}
# "classes": label values as in `labels`. "instances": 0 is background, every other value one object.
LABEL_TYPES = ("classes", "instances")
# Descriptive fields of the Medical Segmentation Decathlon, so that a licence can be named in the list itself.
DESCRIPTIVE = {"description": str, "reference": str, "licence": str, "license": str, "release": str}
ITEM_REQUIRED = ("image", "label", "case", "site")
ITEM_KEYS = (*ITEM_REQUIRED, "patient", "intensity_range", "condition_source")
# Label maps are stored in 8 or 16 bits, and every named value is looked for in every voxel.
MAX_NAMED, MAX_VALUE = 256, 65535
# Cases and sites name folders and participants of a federation.
NAME = re.compile(r"\w[\w.\- ]*")


def is_name(text: Any) -> bool:
    """Whether `text` can name a case or a site: a letter, digit or `_`, then those and ``. -`` and space."""
    return isinstance(text, str) and NAME.fullmatch(text) is not None


def check_structure(content: Any) -> list[str]:
    """Problems of a data list as parsed from JSON, one sentence each; empty if there is none.

    Args:
        content: what ``json.load`` returned.
    """
    if not isinstance(content, dict):
        return [f"the file holds a {type(content).__name__}, expected an object with {', '.join(REQUIRED)}"]
    problems = _check_fields(content)
    if problems:
        return problems
    problems = _check_numbered("modality", content["modality"], consecutive=True)
    problems += _check_numbered("labels", content["labels"], consecutive=False)
    if content.get("label_type", LABEL_TYPES[0]) not in LABEL_TYPES:
        problems.append(f"field label_type is {content['label_type']!r}, expected one of {', '.join(LABEL_TYPES)}")
    own = content.get("modalities", {})
    problems = problems or _check_modalities(own, list(content["modality"].values())) + _check_label_groups(content)
    if problems:
        return problems
    for split in ("training", "test"):
        for index, item in enumerate(content[split]):
            expected = files_expected(item.get("site") if isinstance(item, dict) else None, split, content)
            problems += _check_item(f"{split}[{index}]", item, expected, split)
    for field, split in (("numTraining", "training"), ("numTest", "test")):
        if content.get(field, len(content[split])) != len(content[split]):
            problems.append(f"field {field} is {content[field]}, expected {len(content[split])}, the length of {split}")
    if not content["training"]:
        problems.append("field training is empty, expected at least one case")
    return problems or _check_membership(content)


def files_expected(site: Any, split: str, content: Mapping[str, Any]) -> tuple[int, ...]:
    """How many files the image of a case may be: a training case its site's, a held-out one its site's or all."""
    every = len(content["modality"])
    own = content.get("modalities", {})
    # whatever stands there may not be hashable
    number = len(own[site]) if isinstance(site, str) and site in own else every
    return (number,) if split == "training" or number == every else (number, every)


def _check_modalities(own: Mapping[str, Any], names: list[str]) -> list[str]:
    problems = []
    for site, listed in own.items():
        valid = isinstance(listed, list) and listed and all(isinstance(name, str) for name in listed)
        if not valid or len(set(listed)) != len(listed) or not set(listed) <= set(names):
            problems.append(f"field modalities: site {site} has {listed!r:.200}, expected some of {', '.join(names)}")
    if own and any("," in name for name in names):
        problems.append(f"field modality is {names!r:.200}, expected names without commas where sites lack some")
    return problems


def _check_label_groups(content: Mapping[str, Any]) -> list[str]:
    problems = []
    coarse = content.get("label_groups", {})
    if coarse and content.get("label_type", LABEL_TYPES[0]) != LABEL_TYPES[0]:
        problems.append("field label_groups: expected none where labels number objects (label_type)")
    for site, groups in coarse.items():
        named = isinstance(groups, dict) and set(groups) <= set(content["labels"]) - {"0"}
        lists = list(groups.values()) if named else [None]
        if not lists or not all(
            isinstance(names, list) and names and all(isinstance(name, str) for name in names) for names in lists
        ):
            expected = ", ".join(value for value in content["labels"] if value != "0")
            problems.append(
                f"field label_groups: site {site} has {groups!r:.200}, expected names of classes for some of the label "
                f"values {expected}"
            )
    for item in content["test"]:
        if isinstance(item, dict) and isinstance(item.get("site"), str) and item["site"] in coarse:
            problems.append(
                f"test case {item.get('case')!r:.80} is of site {item['site']}, which has labels of its own "
                "(label_groups), expected none: nothing could be scored by them"
            )
    return problems


def _check_fields(content: Mapping[str, Any]) -> list[str]:
    known = REQUIRED | OPTIONAL | DESCRIPTIVE
    problems = [f"field {field} is missing, expected a {kind.__name__}" for field, kind in REQUIRED.items()
                if field not in content]  # fmt: skip
    for field, value in content.items():
        if field not in known:
            problems.append(f"field {field} is unknown, expected only {', '.join(known)}")
        elif not isinstance(value, known[field]) or isinstance(value, bool):
            problems.append(f"field {field} is a {type(value).__name__}, expected a {known[field].__name__}")
    return problems


def _check_numbered(field: str, names: Mapping[str, Any], consecutive: bool) -> list[str]:
    if len(names) > MAX_NAMED:
        return [f"field {field} has {len(names)} entries, expected at most {MAX_NAMED}"]
    valid = bool(names) and all(re.fullmatch(r"0|[1-9][0-9]{0,4}", key) and int(key) <= MAX_VALUE for key in names)
    valid = valid and all(isinstance(value, str) and value for value in names.values())
    if consecutive:
        valid = valid and sorted(map(int, names)) == list(range(len(names))) and len(set(names.values())) == len(names)
        expected = '"0", "1", ... with different names'
    else:
        valid = valid and "0" in names
        expected = f'"0" for the background and a name for every other value, at most {MAX_VALUE}'
    return [] if valid else [f"field {field} is {str(names)[:200]}, expected {expected}"]


def _check_item(where: str, item: Any, channels: tuple[int, ...], split: str) -> list[str]:
    if not isinstance(item, dict):
        return [f"{where} is a {type(item).__name__}, expected an object with {', '.join(ITEM_KEYS)}"]
    where = f"{where}, case {item['case']}" if isinstance(item.get("case"), str) else where
    problems = [f"{where}: field {key} is missing" for key in ITEM_REQUIRED if key not in item]
    problems += [f"{where}: field {key} is unknown, expected only {', '.join(ITEM_KEYS)}"
                 for key in item if key not in ITEM_KEYS]  # fmt: skip
    if problems:
        return problems
    image = item["image"] if isinstance(item["image"], list) else [item["image"]]
    if not all(isinstance(path, str) and path for path in [*image, item["label"]]):
        problems.append(f"{where}: fields image and label must be paths (image also a list of them)")
    if isinstance(item["image"], list) and len(image) not in channels:
        expected = " or ".join(map(str, channels))
        problems.append(f"{where}: image lists {len(image)} files, expected {expected}, one per modality")
    for key in ("case", "patient"):
        if not is_name(item.get(key, item["case"])):
            problems.append(f"{where}: {key} is {item[key]!r}, expected a name of letters, digits, '_', '-', '.', ' '")
    if not _is_range(item.get("intensity_range", [-1, 1])):
        problems.append(f"{where}: intensity_range is {item['intensity_range']!r}, expected two rising numbers")
    if not isinstance(item.get("condition_source", ""), str):
        problems.append(f"{where}: condition_source is {item['condition_source']!r}, expected a text")
    if not is_name(item["site"]) and not (split == "test" and item["site"] is None):
        problems.append(f"{where}: site is {item['site']!r}, expected a name of letters, digits, '_', '-', '.', ' '")
    return problems


def _is_range(value: Any) -> bool:
    if not isinstance(value, (list, tuple)):
        return False
    numbers = [v for v in value if type(v) in (int, float) and math.isfinite(v)]
    return len(numbers) == len(value) == 2 and numbers[0] < numbers[1]


def _check_membership(content: Mapping[str, Any]) -> list[str]:
    places, patients = defaultdict(list), defaultdict(set)
    for split in ("training", "test"):
        for item in content[split]:
            places[item["case"]].append((split, item["site"]))
            patients[item.get("patient", item["case"])].add(split)
    problems = []
    for case, found in places.items():
        splits, sites = {split for split, _ in found}, {str(site) for _, site in found}
        if len(splits) > 1:
            problems.append(f"case {case} is in training and in test, expected one split")
        if len(sites) > 1:
            problems.append(f"case {case} is in the sites {', '.join(sorted(sites))}, expected one site")
        if len(found) > len(splits) and len(found) > len(sites):
            problems.append(f"case {case} is listed {len(found)} times, expected once")
    for patient, splits in patients.items():
        # A case in both splits was reported above, and its patient with it.
        if len(splits) > 1 and patient not in places:
            problems.append(f"patient {patient} is in training and in test, expected all cases of a patient in one")
    trained = {item["site"] for item in content["training"]}
    for site in sorted({item["site"] for item in content["test"]} - trained - {None}):
        problems.append(f"site {site} has test cases only, expected at least one training case (or site null)")
    return problems
