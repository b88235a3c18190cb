"""Which files make a configuration: the stage, the task, the sizes, what overrides them, and what each is based on.

A config says in its key ``based_on`` which others it starts from. They are read before it, so that it wins::

    based_on: [models.yaml]

Our workflows, jobs and commands read a list of files through here; MONAI's own workflow knows no bases, and takes the
list that :func:`stage_files` returns.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from bundle.installation import config_dir

__all__ = ["BASES", "INPUT_DIGESTS", "STAGES", "locate", "stage_files", "task_files", "task_names", "with_bases"]

BASES = "based_on"
"""Key of a config: names of the files that it starts from, beside it or among the configs of this package."""
INPUT_DIGESTS = "sha256 of inputs"
"""Key of a configuration that a run keeps: digests of the files that it was made with, by name."""
STAGES = ("train", "generate", "segment", "evaluate", "features", "quality")
"""Stages of an experiment, in the order in which they run."""


def stage_files(
    stage: str,
    task: str | os.PathLike,
    profile: str | os.PathLike | None = None,
    overlays: Iterable[str | os.PathLike] = (),
    folder: str | os.PathLike | None = None,
) -> list[str]:
    """
    All files of a stage of a task, in the order in which they are read; later ones win.

    Args:
        stage: such as ``train``.
        task: such as ``brats``, or the path of a YAML file that declares one.
        profile: with the sizes, such as ``small``, or the path of a YAML file; None where the task has its own.
        overlays: further configs, by name or path.
        folder: of the configs; None for those of this package.

    Raises:
        ValueError: a base is missing, or bases go round in a circle. The message names the file.
        FileNotFoundError: a file is missing.
    """
    names = [stage, task, *([] if profile is None else [profile]), *overlays]
    return with_bases([locate(name, folder) for name in names], folder)


def task_files(
    task: str | os.PathLike, overlays: Iterable[str | os.PathLike] = (), folder: str | os.PathLike | None = None
) -> list[str]:
    """The files of a task without a stage and sizes, as :func:`stage_files` has them."""
    return with_bases([locate(name, folder) for name in (task, *overlays)], folder)


def locate(name: str | os.PathLike, folder: str | os.PathLike | None = None) -> str:
    """
    The path of a config.

    Args:
        name: of a config in ``folder`` without its ending, such as ``brats``; or a path with it, such as ``mine.yaml``.
        folder: of the configs; None for those of this package.

    >>> locate("mine/xray.yaml")
    'mine/xray.yaml'
    """
    text = os.fspath(name)
    is_path = Path(text).suffix in (".yaml", ".yml", ".json") or Path(text).name != text
    return text if is_path else str(Path(folder or config_dir()) / f"{text}.yaml")


def with_bases(files: Iterable[str | os.PathLike], folder: str | os.PathLike | None = None) -> list[str]:
    """
    Files, and before each of them those that it is based on, if they did not come earlier.

    Args:
        files: paths of configs.
        folder: where a base lies that is not beside the file that names it; None for the configs of this package.

    Raises:
        ValueError, FileNotFoundError: see :func:`stage_files`.
    """
    found: list[str] = []
    for file in (os.fspath(file) for file in files):
        for base in _bases(file, Path(folder or config_dir()), ()):
            if not any(_is_same(base, other) for other in found):
                found.append(base)
        found.append(file)
    return found


def task_names(folder: str | os.PathLike | None = None) -> list[str]:
    """Names of the tasks in a folder of configs, those that say so in their key ``task``; None for this package's."""
    files = sorted(Path(folder or config_dir()).glob("*.yaml"))
    return [file.stem for file in files if "\ntask: " in "\n" + file.read_text(encoding="utf-8")]


def _bases(file: str, folder: Path, above: tuple[str, ...]) -> Iterator[str]:
    if any(_is_same(file, other) for other in above):
        raise ValueError(f"{BASES}: {' is based on '.join([*above, file])}")
    for name in _declared(file):
        beside, shipped = Path(file).parent / name, folder / name
        if not (beside.is_file() or shipped.is_file()):
            raise ValueError(f"{file}: {BASES}: there is no {name} beside it, nor in {folder}")
        base = str(beside if beside.is_file() else shipped)
        yield from _bases(base, folder, (*above, file))
        yield base


def _declared(file: str) -> list[str]:
    if not Path(file).is_file():
        raise FileNotFoundError(f"cannot find the config file {file}")
    return _read(file, os.stat(file).st_mtime_ns)


@lru_cache(maxsize=1000)
def _read(file: str, written: int) -> list[str]:
    text = Path(file).read_text(encoding="utf-8")
    # most have no bases, and reading YAML takes its time
    if BASES not in text:
        return []
    names: Any = (yaml.safe_load(text) or {}).get(BASES, [])
    if not isinstance(names, list) or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise ValueError(f"{file}: {BASES}: expected a list of names such as models.yaml, got {names!r}")
    return names


def _is_same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
