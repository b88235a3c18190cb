"""Options that mean the same in every command, and what becomes of their words."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bundle.composition import locate, stage_files, task_files, task_names

__all__ = [
    "add_controls",
    "add_dataset_dir",
    "add_seed",
    "add_setting",
    "add_threads",
    "add_training",
    "add_training_files",
    "config_paths",
    "controls",
    "make_parser",
    "overrides",
    "profile_of",
    "training_files",
    "whole_number",
]


def make_parser(make: Callable[..., argparse.ArgumentParser], about: str | None, *words: str, **more: Any) -> Any:
    """A parser that shows its text as it is written, and takes no half words: they may come to mean another option."""
    shape = argparse.RawDescriptionHelpFormatter
    return make(*words, description=about, formatter_class=shape, allow_abbrev=False, **more)


def add_training_files(parser: argparse.ArgumentParser) -> None:
    """``--task``, ``--profile`` and ``--config``: which configs."""
    parser.add_argument(
        "--task", required=True, type=_task, metavar="TASK", help=f"{', '.join(task_names())}, or FILE.yaml of another"
    )
    parser.add_argument(
        "--profile",
        type=_config,
        metavar="PROFILE",
        help="sizes: demo, compact, small, paper, or FILE.yaml (default: the task's, mostly small)",
    )
    parser.add_argument(
        "--config",
        nargs="+",
        action="extend",
        default=[],
        type=_config,
        metavar="CONFIG",
        help="further configs, which win over the profile: names of the package's, such as l1, or FILE.yaml",
    )


def add_training(parser: argparse.ArgumentParser) -> None:
    """``--task``, ``--profile``, ``--config`` and ``--set``: which configuration."""
    add_training_files(parser)
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="config keys, such as num_steps=3000; values are YAML",
    )


def add_participants(parser: argparse.ArgumentParser) -> None:
    """What server and sites of one machine say for themselves."""
    add_threads(parser, "threads of the server and of each site")
    parser.add_argument(
        "--server_threads",
        type=_threads,
        metavar="N",
        help="threads of the server alone: it computes while sites wait (default: as each site)",
    )
    parser.add_argument("--device", help="of the server and of each site")
    parser.add_argument(
        "--release_policy", metavar="POLICY", help="of each site, as in a site.yaml (default: the config's)"
    )


def add_no_revive(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no_revive", action="store_true", help="leave a participant that died alone")


def add_min_sites(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--min_sites", type=int, metavar="N", help="sites without which nothing goes on (default: the configs')"
    )


def add_supervision(parser: argparse.ArgumentParser) -> None:
    """How a job is watched over."""
    add_min_sites(parser)
    parser.add_argument(
        "--supervise",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="submit the job again when it ends without success, or when a site comes back",
    )
    parser.add_argument(
        "--max_restarts", type=int, default=5, metavar="N", help="in a row without a new checkpoint (default 5)"
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=600,
        metavar="SECONDS",
        help="without the server or enough sites (default 600)",
    )


def add_threads(parser: argparse.ArgumentParser, text: str = "threads that compute") -> None:
    """``--threads``; the command itself says it to what computes (:func:`bundle.threads.set_threads`)."""
    parser.add_argument(
        "--threads",
        type=_threads,
        metavar="N",
        help=f"{text}; on a CPU the bits depend on it (default: OMP_NUM_THREADS, or the physical cores)",
    )


def add_dataset_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataset_dir", required=True, metavar="DIR", help="folder of datalist.json (asyndgan prepare)"
    )


def add_controls(parser: argparse._ActionsContainer) -> None:
    """What may be asked of label maps that are drawn."""
    parser.add_argument("--style", default="all", metavar="SITE", help="whose shapes they have (default: all sites')")
    parser.add_argument(
        "--tumor_volume",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="share of the organ's area that a region takes; each label map has one then",
    )
    parser.add_argument("--density", type=float, metavar="N", help="nuclei on 100×100 pixels")


def controls(options: argparse.Namespace) -> dict[str, Any]:
    """The words of :func:`add_controls` as :func:`bundle.workflows.shapes.draw_conditions` takes them."""
    volume = None if options.tumor_volume is None else tuple(options.tumor_volume)
    asked = {"region_size": volume, "density": options.density}
    return {name: value for name, value in asked.items() if value is not None}


def add_seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=whole_number, default=0, metavar="N", help="of every random draw (default 0)")


def add_setting(parser: argparse.ArgumentParser, names: str) -> None:
    parser.add_argument("--setting", default="asyndgan", help=f"{names} (default asyndgan)")


def whole_number(text: str) -> int:
    """A seed: an integer, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}, expected a whole number, 0 or more")
    return int(text)


def _threads(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a whole number, 1 or more")
    return int(text)


def _task(text: str) -> str:
    if text not in task_names() and locate(text) != text:
        raise argparse.ArgumentTypeError(
            f"{text!r}, expected one of {', '.join(task_names())}, or a path that ends with .yaml"
        )
    return text


def _config(text: str) -> str:
    # a path is looked for when it is read, a name here
    if locate(text) != text and not Path(locate(text)).is_file():
        folder = Path(locate(text)).parent
        raise argparse.ArgumentTypeError(
            f"{text!r}, expected the name of a config in {folder}, or a path that ends with .yaml"
        )
    return text


def config_paths(options: argparse.Namespace) -> list[str]:
    """The files that ``--config`` names."""
    return [locate(name) for name in options.config]


def profile_of(options: argparse.Namespace) -> str | None:
    """
    The profile that the options name, or else their task.

    Raises:
        ValueError: one is named, and the task has sizes of its own.
        FileNotFoundError: a config is missing.
    """
    import yaml

    from bundle.files import require_file

    declared: dict[str, Any] = {}
    for file in task_files(options.task, options.config):
        require_file(file, "--task and --config name configs")
        declared |= yaml.safe_load(Path(file).read_text(encoding="utf-8")) or {}
    own = declared.get("profile")
    if own is None and options.profile is not None:
        raise ValueError(
            f"--profile {options.profile}: the task {options.task} has sizes of its own and takes no profile"
        )
    return options.profile or own


def training_files(options: argparse.Namespace) -> list[str]:
    """The configs of a training of the generator, as ``--task``, ``--profile`` and ``--config`` name them."""
    return stage_files("train", options.task, profile_of(options), options.config)


def overrides(pairs: Sequence[str]) -> dict[str, Any]:
    """
    KEY=VALUE to a mapping, the values as YAML reads them; ``@name``, which YAML refuses, refers to another key.

    Raises:
        ValueError: no pair, or a value that YAML does not read.
    """
    import yaml

    parsed: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise ValueError(f"--set {pair}: expected KEY=VALUE, such as num_steps=3000")
        try:
            parsed[key] = value if value.startswith("@") else yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"--set {pair}: the value cannot be read as YAML ({error})") from error
    return parsed
