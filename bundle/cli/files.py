"""Print the configs of a stage in their order, as `python -m monai.bundle run --config_file` takes them.

Examples:
  asyndgan files train --task brats --profile demo
  python -m monai.bundle run --config_file "$(asyndgan files train --task brats)" --dataset_dir DIR
"""

from __future__ import annotations

import argparse

from bundle.cli.options import add_training_files, profile_of
from bundle.composition import STAGES, stage_files

__all__ = ["declare", "summary"]


def summary(command: str) -> str:
    return "Print the configs of a stage, for MONAI's own command"


def declare(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.add_argument("stage", choices=STAGES, help="of which the configs are")
    add_training_files(parser)


def run(options: argparse.Namespace) -> int:
    """
    Raises:
        ValueError, FileNotFoundError: a profile that the task does not take, a config that is missing.
    """
    print(stage_files(options.stage, options.task, profile_of(options), options.config))
    return 0
