"""Which files make a configuration: the stage, the task, the sizes, and what overrides them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from bundle.installation import config_dir

__all__ = ["STAGES", "locate", "stage_files", "task_files", "task_names"]

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
    """
    return [locate(name, folder) for name in (stage, task, *([] if profile is None else [profile]), *overlays)]


def task_files(
    task: str | os.PathLike, overlays: Iterable[str | os.PathLike] = (), folder: str | os.PathLike | None = None
) -> list[str]:
    """The files of a task without a stage and sizes, as :func:`stage_files` has them."""
    return [locate(name, folder) for name in (task, *overlays)]


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


def task_names(folder: str | os.PathLike | None = None) -> list[str]:
    """Names of the tasks in a folder of configs, those that say so in their key ``task``; None for this package's."""
    files = sorted(Path(folder or config_dir()).glob("*.yaml"))
    return [file.stem for file in files if "\ntask: " in "\n" + file.read_text(encoding="utf-8")]
