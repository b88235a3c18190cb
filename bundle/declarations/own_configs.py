"""
Configs of a participant's own: files that a job names by their digest, and that each participant has approved by
putting them into ``local/configs/`` of its startup kit. So components that are installed there can be federated, and no
job brings code.

They say what a task and its networks are. What stands between the sites and the server is not theirs to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

import yaml

from bundle.composition import BASES, with_bases
from bundle.declarations.keys import KEYS, PATH_KEYS
from bundle.files import digest

__all__ = ["FOLDER", "check_own_config", "digests", "own_configs"]

FOLDER = "configs"
"""In ``local/`` of a startup kit, or in the folder of a participant's own files."""
MAX_BYTES = 2**18
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\.yaml")
_KEY = re.compile(r"\+?[A-Za-z]\w*", re.ASCII)
# what puts up the wall at a site and at the server, in every stage of a job
_WALL = ("train.yaml", "score.yaml", "average.yaml", "flare.yaml")
# a release policy judges a loss by the terms that this package's has
_FIXED = frozenset({"site_loss_def"})


def own_configs(folder: Path) -> dict[str, Path]:
    """
    Args:
        folder: of a participant's own files, such as ``local/`` of a startup kit.

    Returns:
        Paths by name of what lies in its ``configs/``; none without that folder.
    """
    return {path.name: path for path in sorted((folder / FOLDER).glob("*.yaml")) if path.is_file()}


def digests(own: Mapping[str, Path]) -> dict[str, str]:
    """SHA-256 by name, 64 hexadecimal digits."""
    return {name: digest(path) for name, path in own.items()}


def check_own_config(path: Path, folder: Path, reserved: frozenset[str]) -> None:
    """
    Args:
        path: of a config that is none of this package's.
        folder: the configs of this package.
        reserved: keys that each participant sets in its own file.

    Raises:
        ValueError: naming the file, the key and what was expected.
    """
    if not _NAME.fullmatch(path.name):
        raise ValueError(f"{path}: expected a name of 1 to 64 letters A to Z, digits, '-' and '_', then .yaml")
    if (folder / path.name).exists():
        raise ValueError(f"{path}: a config of this package has that name; give yours another")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"{path}: expected at most {MAX_BYTES} bytes")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: unreadable, expected YAML ({type(error).__name__})") from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path}: expected keys of a config and their values")
    wall, plain = _wall(folder), KEYS.keys() - reserved - PATH_KEYS
    for key, value in content.items():
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise ValueError(f"{path}: key {key!r}: expected the name of a top-level key")
        if key.removeprefix("+") in reserved | PATH_KEYS:
            raise ValueError(f"{path}: {key}: each participant sets it in its own file")
        if not _is_free(key.removeprefix("+"), value, wall, plain):
            raise ValueError(f"{path}: {key}: it belongs to what stands between sites and server, and is the package's")
        if any(text.startswith("%") for text in _texts(value)):
            raise ValueError(f"{path}: {key}: takes something from another file, which no digest covers")


def _wall(folder: Path) -> dict[str, Any]:
    wall: dict[str, Any] = {}
    for file in with_bases([folder / name for name in _WALL], folder):
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        wall |= {key.removeprefix("+"): value for key, value in content.items()}
    return wall


def _is_free(key: str, value: Any, wall: Mapping[str, Any], plain: Set[str]) -> bool:
    """What the wall does not have, what it leaves to tasks, and plain values that a job could set as well."""
    if key in wall and key != BASES:
        return key in plain and (_holds_plain(wall[key]) or _holds_plain(value))
    return key not in _FIXED


def _holds_plain(value: Any) -> bool:
    if isinstance(value, Mapping) and "_target_" in value:
        return False
    return not any(text.startswith(("$", "@", "%")) for text in _texts(value))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value
