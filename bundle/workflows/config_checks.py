"""What our workflows check of a configuration before anything is computed."""

from __future__ import annotations

import difflib
import inspect
import pydoc
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.config_item import ComponentLocator, ConfigComponent
from monai.bundle.reference_resolver import ReferenceResolver

from bundle.composition import BASES, with_bases
from bundle.config_files import ConfigFiles
from bundle.declarations.keys import KEYS, PATH_KEYS, problem

__all__ = [
    "UNSET",
    "ConfigError",
    "check_arguments",
    "check_merged",
    "check_numbers",
    "check_overrides",
    "check_selections",
    "check_steps",
    "check_top_level_keys",
    "check_values",
    "is_computed",
    "keys_in_use",
    "references",
]

# read by MONAI itself, or by its users, whether a config refers to them or not
STANDARD_KEYS = {"imports", "bundle_root", "initialize", "run", "finalize", "_meta_", BASES}
# what a task says of its experiments: asyndgan run reads it
EXPERIMENT_KEYS = {"stages", "settings", "profile"}


class ConfigError(ValueError):
    """A configuration that cannot be meant as it is written; the message names the key."""


def references(config: Any) -> set[str]:
    """Top-level keys that a config refers to, by ``@key``, ``%key`` or inside an expression."""
    if isinstance(config, Mapping):
        return set().union(*(references(value) for value in config.values()))
    if isinstance(config, list | tuple):
        return set().union(*(references(value) for value in config))
    if isinstance(config, str):
        text = ReferenceResolver.normalize_id(config)
        found = ReferenceResolver.match_refs_pattern(text) if text.startswith(("$", "@")) else {}
        if text.startswith("%"):
            found = {text[1:]: 1}
        return {ReferenceResolver.split_id(name)[0] for name in found}
    return set()


def _suggest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _top(key: str) -> str:
    """The top-level key of an id; a key that merges stands for the one it merges into."""
    return ReferenceResolver.split_id(key.lstrip("+"))[0]


def keys_in_use(config: Mapping, start: Iterable[str]) -> set[str]:
    """Top-level keys of a config that those in ``start`` refer to, directly or through others, and they themselves."""
    found: set[str] = set()
    waiting = [key for key in start if key in config]
    while waiting:
        key = waiting.pop()
        if key not in found:
            found.add(key)
            waiting += [name for name in references(config[key]) if name in config]
    return found


def check_top_level_keys(files: Iterable[str | Path], override_keys: Iterable[str]) -> None:
    """
    Refuse a top-level key that no stage declares and nothing refers to: it would silently do nothing.

    Args:
        files: the config files of the run, with their bases. The stage is the first of them that has the key ``run``;
            other stages are those beside it.
        override_keys: keys of the overrides, such as ``lr`` or ``train#trainer#max_epochs``.

    Raises:
        ConfigError: naming the key, where it stands, and the nearest key that there is.
    """
    configs = {str(file): ConfigFiles.load_config_file(file) for file in files}
    stage = next((file for file, config in configs.items() if "run" in config), next(iter(configs)))
    # the run's own files are read for references, and its stage, with what it is based on, for keys as well
    stages = [*_stages(Path(stage).parent), *(ConfigFiles.load_config_file(file) for file in with_bases([stage]))]
    known = _known(stages, configs.values())
    for file, keys in [*configs.items(), ("the command line", override_keys)]:
        _refuse_unknown(keys, known, file)


def check_merged(config: Mapping, folder: Path) -> None:
    """
    Check a configuration as far as it can be without its files and overrides apart.

    Args:
        config: merged of all files and overrides.
        folder: of its stage, and of others.

    Raises:
        ConfigError: see :func:`check_top_level_keys`, :func:`check_values` and :func:`check_steps`.
    """
    own = {key: value for key, value in config.items() if key != "_meta_"}
    _refuse_unknown(own, _known(_stages(folder), [own]), "the configuration")
    check_numbers(own)
    check_values(own)
    check_steps(own)


def _stages(folder: Path) -> list[dict]:
    """The stages' configs of a folder, and what they are based on."""
    beside = {str(file): ConfigFiles.load_config_file(file) for file in sorted(folder.glob("*.yaml"))}
    stages = [file for file, config in beside.items() if "run" in config]
    return [beside[file] if file in beside else ConfigFiles.load_config_file(file) for file in with_bases(stages)]


def _known(stages: Iterable[Mapping], configs: Iterable[Mapping]) -> set[str]:
    """Keys that stages have, and those that they or other configs refer to."""
    known = (STANDARD_KEYS | EXPERIMENT_KEYS).union(*({_top(key) for key in config} for config in stages))
    return known.union(*(references(config) for config in [*stages, *configs]))


def _refuse_unknown(keys: Iterable[str], known: set[str], where: str) -> None:
    for name in map(_top, keys):
        if name not in known:
            raise ConfigError(f"unknown key {name!r} in {where}: no stage uses it{_suggest(name, known)}")


def check_overrides(parser: ConfigParser, overrides: Iterable[str]) -> None:
    """
    Refuse an override of something below the top level that is not there and that its component would not take.

    Args:
        parser: the configuration without the overrides.
        overrides: ids such as ``train#trainer#max_epochs``.

    Raises:
        ConfigError: naming the override and the nearest key that there is.
    """
    for override in overrides:
        parts = ReferenceResolver.split_id(ReferenceResolver.normalize_id(override.lstrip("+")))
        for depth in range(1, len(parts)):
            parent, key = parser.get("::".join(parts[:depth])), parts[depth]
            if isinstance(parent, list) and key.isdigit() and int(key) < len(parent):
                continue
            if isinstance(parent, Mapping):
                arguments = _arguments(parent, "#".join(parts[:depth]))
                if key in parent or (depth == len(parts) - 1 and (arguments is None or key in arguments)):
                    continue
                known = set(parent) | (arguments or set())
                raise ConfigError(f"unknown key {key!r} in the override {override!r}{_suggest(key, known)}")
            raise ConfigError(f"the override {override!r} names nothing: {'#'.join(parts[:depth])} has no {key!r}")


def check_arguments(config: Any, path: str = "") -> None:
    """
    Refuse a component that is declared with an argument it does not take, before any component is made.

    Raises:
        ConfigError: naming the place in the config, the argument and the nearest one that there is.
    """
    if isinstance(config, Mapping):
        arguments = _arguments(config, path)
        if arguments is not None:
            for key in config:
                if key not in arguments:
                    raise ConfigError(
                        f"{path}: {config['_target_']} takes no argument {key!r}{_suggest(key, arguments)}"
                    )
        for key, value in config.items():
            check_arguments(value, f"{path}#{key}" if path else str(key))
    elif isinstance(config, list | tuple):
        for place, value in enumerate(config):
            check_arguments(value, f"{path}#{place}")


_EXPONENT = re.compile(r"[+-]?[0-9]+\.?[0-9]*[eE][+-]?[0-9]+")


def check_numbers(config: Any, path: str = "") -> None:
    """
    Refuse text such as ``2e-4``: it is meant as a number, and YAML reads it as one only with a point and a sign.

    Raises:
        ConfigError: naming the place in the config.
    """
    if isinstance(config, Mapping):
        for key, value in config.items():
            if path or key not in PATH_KEYS:  # a folder may be called so
                check_numbers(value, f"{path}#{key}" if path else str(key))
    elif isinstance(config, list | tuple):
        for place, value in enumerate(config):
            check_numbers(value, f"{path}#{place}")
    elif isinstance(config, str) and _EXPONENT.fullmatch(config):
        raise ConfigError(f"{path} is the text {config!r}, expected a number: YAML reads one as in {float(config):.1e}")


_SELECTION = re.compile(r"@(\w+)\[@(\w+)\]")


def check_selections(config: Mapping) -> None:
    """
    Refuse a name that stands for nothing, where a top-level key selects one of several: ``@table[@name]``.

    Raises:
        ConfigError: naming the key and what it can be.
    """
    for found in (found for value in config.values() if isinstance(value, str) for found in _SELECTION.finditer(value)):
        if isinstance(config.get(found[1]), Mapping) and config.get(found[2]) not in config[found[1]]:
            choices = ", ".join(config[found[1]])
            raise ConfigError(f"{found[2]}: expected one of {choices}, got {config.get(found[2])!r}")


UNSET = "???"
"""What a config has where its user must say something."""


def check_values(config: Mapping) -> None:
    """
    Refuse a plain value of a declared key that is none of its kind: :data:`bundle.declarations.keys.KEYS`.

    Raises:
        ConfigError: naming the key, the value, and what was expected.
    """
    for key in config.keys() & KEYS.keys():
        if not is_computed(config[key]) and (wrong := problem(key, config[key])):
            raise ConfigError(wrong)


_DEPTH = 8


def is_computed(value: Any, depth: int = _DEPTH) -> bool:
    """
    Whether a config says how to get the value, and not the value: an expression, a reference, a component. What is
    nested deeper than any plain value does not count.
    """
    if depth and isinstance(value, Mapping):
        return "_target_" in value or any(is_computed(item, depth - 1) for item in value.values())
    if depth and isinstance(value, list | tuple):
        return any(is_computed(item, depth - 1) for item in value)
    return isinstance(value, str) and (value == UNSET or value.startswith(("$", "@", "%")))


_STEPS_OF_EPOCHS = (
    ("num_steps", "epoch_length"),
    ("segmenter_steps", "segmenter_epoch_length"),
    ("segmenter_steps", "averaging_steps"),
    ("feature_steps", "feature_epoch_length"),
)


def check_steps(config: Mapping) -> None:
    """
    Refuse steps that do not fill epochs: checkpoints are made at the ends of epochs, and schedules end with the steps.

    Raises:
        ConfigError: naming both keys and steps that would do.
    """
    for key, length in _STEPS_OF_EPOCHS:
        steps, epoch = config.get(key), config.get(length)
        if isinstance(steps, int) and isinstance(epoch, int) and steps % epoch:
            fitting = max(epoch, round(steps / epoch) * epoch)
            raise ConfigError(
                f"{key}: {steps} steps do not fill epochs of {epoch} ({length}); "
                f"set {key} to {fitting}, or {length} to a number that divides {steps}"
            )


_LOCATOR = ComponentLocator()


def _arguments(config: Mapping, path: str) -> set[str] | None:
    """Keys of the component that ``config`` declares; None when it declares none or takes any."""
    target = config.get("_target_")
    if not isinstance(target, str) or target.startswith(("$", "@", "%")):
        return None
    module = _LOCATOR.get_component_module_name(target)
    component: Any = pydoc.locate(f"{module}.{target}" if isinstance(module, str) else target)
    if component is None:
        raise ConfigError(f"{path}: _target_ {target} cannot be imported")
    try:
        parameters = inspect.signature(component).parameters.values()
    except (TypeError, ValueError):  # written in C, or by a metaclass
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return {p.name for p in parameters} | ConfigComponent.non_arg_keys
