"""Configs of a packed bundle: the templates of this room, filled from the configuration of a run."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from bundle.sharing.derive import packed_label_groups, resolved, restricted_transforms, split_at_saving
from bundle.sharing.errors import PackError
from bundle.workflows.config_checks import keys_in_use

__all__ = ["TEMPLATES", "generator_configs", "inference_config", "segmenter_configs"]

TEMPLATES = Path(__file__).resolve().parent / "templates"
# a host may hold several bundles: what is appended hides nothing of theirs
_CODE = (
    '"$sys.path.extend({os.path.abspath(@bundle_root)} - set(sys.path)) if os.path.isdir(@bundle_root) else '
    "sys.exit('bundle_root: there is no folder ' + str(@bundle_root))\""
)
# the folder above the configs of the workflow that asks, wherever that is started from: MONAI's load() gives none.
# What reads a config without a workflow gives bundle_root
_ROOT = (
    "$next((str(w.config_root_path.parent) for w in (f[0].f_locals.get('self') for f in inspect.stack(0)) "
    "if 'config_root_path' in getattr(w, '__dict__', ())), '.')"
)
_WIDTH = 118


def template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


_WEIGHTS = "$os.path.join(@bundle_root, 'models', 'model.pt')"


def _network(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A network's definition in plain numbers; it is made by the config itself, for its weights are loaded."""
    declared = {name: value for name, value in config[key].items() if name not in ("_mode_", "_target_")}
    # a run says them by an expression that reads its data; of its files they are the modalities themselves
    numbers = resolved({**config, "image_modalities": config["modalities"]}, declared)
    target = config[key]["_target_"]
    requires = {"_requires_": "@code"} if target.startswith("bundle.") else {}
    return {"_target_": target, **requires, **numbers}


def inference_config(config: Mapping[str, Any]) -> str:
    """
    ``inference.yaml`` of a segmenter, which reads like its evaluation in the run.

    Args:
        config: resolved configuration of an evaluation.
    """
    task = config["task"]
    tables = _tables()
    before, _ = split_at_saving(
        restricted_transforms(
            config,
            "evaluation_postprocessing",
            ["image", "pred", "foreground", "border", "mask", "markers"],
            {**tables[task], "SaveImaged": [{"_target_": "SaveImaged"}]},
            history="preprocessing",
        )
    )
    return _filled(
        "segmenter_inference.yaml",
        config,
        weights=_WEIGHTS,
        network_def=_network(config, "segmenter_def"),
        preprocessing=_loading(
            restricted_transforms(config, "evaluation_preprocessing", ["image", "outline"], tables[task]), task
        ),
        inferer=config["segmenter_inferer"],
        postprocessing=before + tables["saving"][task],
    )


def segmenter_configs(config: Mapping[str, Any]) -> dict[str, str]:
    """
    All configs of a packed segmenter, by file name.

    Args:
        config: resolved configurations of the training and of the evaluation, in one.
    """
    task = config["task"]
    table = _tables()[task]
    keys = ["image", "label", "outline"]
    history = "validate::preprocessing"
    before, after = split_at_saving(
        restricted_transforms(
            config,
            "evaluation_postprocessing",
            [*keys, "pred", "foreground", "border", "mask", "markers", "pred_pixels", "label_pixels"],
            table,
            history=history,
        )
    )
    packed = {**config}
    if task == "brats":
        packed["label_groups"] = packed_label_groups(config["label_groups"])
    train = _filled(
        "segmenter_train.yaml",
        packed,
        weights=_WEIGHTS,
        network_def=_network(config, "segmenter_def"),
        loss=config["segmenter_loss_def"],
        train_transforms=restricted_transforms(config, "case_preprocessing", keys, table),
        augmentation=restricted_transforms(config, "segmenter_augmentation", keys, table),
        validation_transforms=_loading(restricted_transforms(config, "evaluation_preprocessing", keys, table), task),
        validation_postprocessing=before + after,
        inferer=config["segmenter_inferer"],
        key_metric=config["evaluation_key_metric"],
    )
    return {
        "inference.yaml": inference_config(config),
        "train.yaml": train,
        "evaluate.yaml": template("segmenter_evaluate.yaml"),
        "multi_gpu_train.yaml": template("multi_gpu_train.yaml"),
    }


def generator_configs(config: Mapping[str, Any]) -> dict[str, str]:
    """
    All configs of a packed generator, by file name. It is not trained in one place, so there is none for that.

    Args:
        config: resolved configuration of the training.
    """
    network = _network(config, "generator_def")
    return {
        "inference.yaml": _filled("generator_inference.yaml", config, weights=_WEIGHTS, network_def=network),
        "evaluate.yaml": _filled("generator_evaluate.yaml", config),
    }


def _tables() -> dict[str, Any]:
    return yaml.safe_load(template("replacements.yaml"))


def _loading(transforms: list[dict], task: str) -> list[dict]:
    """The metadata of tiles beside them, for what a watershed leaves has none."""
    if task == "multi_organ":
        transforms[0] = {**transforms[0], "image_only": False}
    return transforms


def _filled(name: str, config: Mapping[str, Any], **parts: Any) -> str:
    """
    A template with its places ``???PART`` filled.

    First by what the task alone has, ``tasks.yaml``. ``???values`` is replaced by those keys of the configuration that
    the rest refers to, ``???modalities`` by their names.

    Raises:
        PackError: the run's configuration lacks something that the packed one refers to.
    """
    text = _of_task(name, config["task"])
    text = text.replace("???modalities", ", ".join(config["modalities"]))
    for part, value in parts.items():
        text = re.sub(
            rf"^(?P<start> *(?:[\w-]+:)?)(?P<space> ?)\?\?\?{part}$",
            partial(_in_place, value=value),
            text,
            flags=re.MULTILINE,
        )
    text = text.replace("???code", _CODE).replace("???root", _ROOT)
    content = yaml.safe_load(text.replace("???values", ""))
    if "???values" in text:
        used = keys_in_use({**config, **content}, content) - set(content)
        text = text.replace("???values", "\n".join(_block(f"{key}:", config[key]) for key in config if key in used))
    if left := re.search(r"\?\?\?\w+", text):
        raise PackError(f"{name}: nothing fills {left.group()}")
    return text if text.isascii() else _refuse_letters(name, text)


def _in_place(found: re.Match, value: Any) -> str:
    return _block(found["start"], value)


def _of_task(name: str, task: str) -> str:
    """A template with what differs between the tasks filled in, at the indentation of its place."""
    content = yaml.safe_load(template("tasks.yaml"))
    stem = name.removesuffix(".yaml")
    parts = {part for own in content.values() for part in own[stem]}
    text = template(name)
    for part in parts:
        filled = content[task][stem].get(part, "")
        text = re.sub(
            rf"^( *)\?\?\?{part}\n",
            partial(_indented, filled),
            text,
            flags=re.MULTILINE,
        )
    return text.replace("???suffixes", content[task]["suffixes"])


def _indented(text: str, place: re.Match) -> str:
    return textwrap.indent(f"{text}\n", place[1]) if text else ""


def _refuse_letters(name: str, text: str) -> str:
    line = next(line for line in text.splitlines() if not line.isascii())
    raise PackError(f"{name}: configs are ASCII, and this line is not: {line.strip()}")


def _block(start: str, value: Any) -> str:
    """A key with its value as YAML: on one line where it fits, else a line for each part of it."""
    margin = " " * (len(start) - len(start.lstrip()))
    lines = _lines(value)
    if not start.strip():  # items of a list that goes on
        return "\n".join(margin + line for line in lines) if value else ""
    if len(lines) == 1 and not lines[0].startswith("- "):
        return f"{start} {lines[0]}"
    inner = margin if isinstance(value, list) else margin + "  "
    return "\n".join([start, *(inner + line for line in lines)])


def _lines(value: Any) -> list[str]:
    flow = _flow(value)
    if isinstance(value, dict) and value and (len(flow) > _WIDTH - 12 or _nested(value)):
        lines = []
        for key, item in value.items():
            lines += _block(f"{key}:", item).splitlines()
        return lines
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        lines = []
        for item in value:
            first, *others = _lines(item)
            lines += [f"- {first}", *(f"  {line}" for line in others)]
        return lines
    return [flow]


def _nested(value: dict) -> bool:
    return any(isinstance(item, dict) and "_target_" in item for item in value.values())


def _flow(value: Any) -> str:
    # through JSON: YAML would write references to what occurs twice
    text = yaml.safe_dump(json.loads(json.dumps(value)), default_flow_style=True, sort_keys=False, width=10**6)
    return text.removesuffix("...\n").strip()
