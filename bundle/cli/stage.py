"""One stage of one setting, by itself; `asyndgan run` runs them all.

A stage finds what those before it left in the same folder of a run. What is finished is not computed again.

Examples:
  asyndgan train --task brats --profile small --dataset_dir data/lgg --run_dir runs/one
  asyndgan generate --task brats --profile small --dataset_dir data/lgg --run_dir runs/one
  asyndgan generate --model brats --num 500 --output synthetic
  asyndgan segment --task brats --profile small --dataset_dir data/lgg --run_dir runs/one --setting real_all
  asyndgan evaluate --task brats --profile small --dataset_dir data/lgg --run_dir runs/one --setting real_all
"""

from __future__ import annotations

import argparse
import sys

from bundle.cli.drawing import add_model, run_model
from bundle.cli.options import (
    add_dataset_dir,
    add_seed,
    add_setting,
    add_threads,
    add_training,
    config_paths,
    overrides,
)
from bundle.cli.terminal import show_lines_with_time

__all__ = ["declare", "summary"]

_SUMMARIES = {
    "train": "Train the generator of a setting",
    "generate": "Write the synthetic data set of a trained generator",
    "segment": "Train the segmenter of a setting",
    "evaluate": "Score a segmenter on the held-out cases",
    "features": "Train the network whose features compare images",
    "quality": "Score a synthetic data set itself",
}


def summary(command: str) -> str:
    return _SUMMARIES[command]


def declare(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    add_training(parser)
    add_dataset_dir(parser)
    add_setting(parser, "what is trained on what, such as asyndgan, real_all or fedavg: docs/how-to/gain.md")
    add_seed(parser)
    parser.add_argument("--run_dir", metavar="DIR", help="folder of the run (default runs/TASK-PROFILE, or runs/TASK)")
    add_threads(parser)
    if parser.prog.split()[-1] == "generate":
        add_model(parser)


def run(options: argparse.Namespace) -> int:
    """
    Raises:
        ValueError, OSError: refused by the stage, before anything is computed, or by a component.
    """
    if getattr(options, "model", None) is not None:
        return run_model(options)
    show_lines_with_time()
    from bundle.plain_errors import name_errors_once
    from bundle.workflows.experiment import Stages

    name_errors_once()
    stages = Stages(
        task=options.task,
        dataset_dir=options.dataset_dir,
        profile=options.profile,
        run_dir=options.run_dir,
        config_files=config_paths(options),
        overrides=overrides(options.set),
    )
    try:
        stages.run_stage(options.command, options.setting, options.seed)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        raise
    print(f"outputs: {stages.output_dir(options.setting, options.seed)}")
    return 0
