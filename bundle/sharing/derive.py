"""From the configuration of a run to the parts of a packed bundle's configs: nothing is typed twice."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from monai.bundle import ConfigParser

from bundle.sharing.errors import PackError

__all__ = ["packed_label_groups", "resolved", "restricted_transforms", "split_at_saving"]

PARALLEL = ("mode", "padding_mode", "align_corners")
"""Arguments of MONAI's transforms that may have one entry for each key."""


def resolved(config: Mapping[str, Any], value: Any) -> Any:
    """A part of a configuration with references and expressions replaced by what they come to.

    >>> resolved({"num_classes": 1}, {"out_channels": "$@num_classes + 1"})
    {'out_channels': 2}
    """
    parser = ConfigParser({**config, "value": value})
    return parser.get_parsed_content("value")


def restricted_transforms(
    config: Mapping[str, Any], id: str, keys: Sequence[str], replacements: Mapping[str, list], history: str = ""
) -> list[dict[str, Any]]:
    """
    The transforms of a configuration that matter to items of some keys only.

    Args:
        config: resolved configuration of a run.
        id: key of a ``Compose`` in it.
        keys: keys that the items have, and those that transforms add to them.
        replacements: name of a transform -> what stands in its place.
        history: id of the preprocessing in the packed config, which ``Invertd`` undoes.

    Returns:
        transforms as a config declares them; those of this package require ``@code``, which makes them importable.

    Raises:
        PackError: the configuration has no such list of transforms.
    """
    try:
        transforms = config[id]["transforms"]
    except (KeyError, TypeError):
        raise PackError(f"the configuration of the run has no {id} with transforms, as a Compose has") from None
    kept = []
    for transform in transforms:
        name = transform["_target_"].rpartition(".")[2]
        if name in replacements:
            kept += copy.deepcopy(replacements[name])
            continue
        if name == "NormalizeStainsd" and not resolved(config, transform.get("enabled", True)):
            continue
        restricted = _restricted(transform, keys)
        if restricted is None:
            continue
        if name == "LoadImaged" and restricted.pop("ensure_channel_first", False):
            # apart, for MONAI Label puts arrays in the place of files
            kept += [restricted, {"_target_": "EnsureChannelFirstd", "keys": restricted["keys"]}]
            continue
        if name == "Invertd":
            restricted["transform"] = f"@{history}"
        if restricted["_target_"].startswith("bundle."):
            restricted = {"_target_": restricted["_target_"], "_requires_": "@code", **restricted}
        kept.append(restricted)
    return kept


def _restricted(given: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any] | None:
    """A transform for some keys; None where it is for others alone."""
    transform: dict[str, Any] = copy.deepcopy(dict(given))
    if "orig_keys" in transform and transform["orig_keys"] not in keys:
        return None
    own = transform.get("keys")
    if isinstance(own, list):
        places = [place for place, key in enumerate(own) if key in keys]
        for name in ("keys", *PARALLEL):
            if isinstance(transform.get(name), list) and len(transform[name]) == len(own):
                chosen = [transform[name][place] for place in places]
                transform[name] = chosen[0] if len(chosen) == 1 else chosen
        # nothing is compared with one array
        alone = transform["_target_"].endswith(".CheckSameShaped") and len(places) < 2
        return transform if places and not alone else None
    return transform if own is None or own in keys else None


def split_at_saving(transforms: Sequence[dict]) -> tuple[list[dict], list[dict]]:
    """Transforms before and after the one that writes files."""
    for place, transform in enumerate(transforms):
        if transform["_target_"] == "SaveImaged":
            return list(transforms[:place]), list(transforms[place + 1 :])
    raise PackError("evaluation_postprocessing: expected a SaveImaged, which writes what inference writes")


def packed_label_groups(groups: Mapping[str, int | Sequence[int]]) -> dict[str, list[int]]:
    """
    Label values of every class, with the class's own index where that means no other class.

    What a packed segmenter writes are class indices; corrected by hand, they come back as labels of a fine-tuning.

    >>> packed_label_groups({"core": [1], "edema": [2], "enhancing": [4]})
    {'core': [1], 'edema': [2], 'enhancing': [4, 3]}
    """
    lists = {name: [values] if isinstance(values, int) else list(values) for name, values in groups.items()}
    taken = {value for values in lists.values() for value in values}
    return {
        name: values + ([index] if index not in taken else []) for index, (name, values) in enumerate(lists.items(), 1)
    }
