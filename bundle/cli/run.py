"""Run all settings of a task and write the table, the figures and the report.

What is finished is not computed again: after an interruption, start it with the same words.

Examples:
  asyndgan run --task brats --dataset_dir data/lgg --profile small --seeds 0
  asyndgan run --task brats --dataset_dir data/lgg --profile compact --settings gain
  asyndgan run --task brats --dataset_dir data/lgg --run_dir runs/no_l1 --set l1_weight=0
"""

from __future__ import annotations

import argparse
import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bundle.cli.options import add_dataset_dir, add_threads, add_training, config_paths, overrides, whole_number
from bundle.cli.terminal import show_lines_with_time

if TYPE_CHECKING:
    from bundle.workflows.experiment import Experiment

__all__ = ["declare", "make_experiment", "summary"]


def summary(command: str) -> str:
    return "Run all settings of a task, and write the table and the report"


def declare(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    add_training(parser)
    add_dataset_dir(parser)
    parser.add_argument(
        "--seeds",
        type=whole_number,
        nargs="+",
        default=[0],
        metavar="N",
        help="one run of every setting for each (default 0)",
    )
    parser.add_argument(
        "--settings",
        nargs="+",
        metavar="SETTING",
        help="paper, gain, or some of real_all real_subset[/SITE] real_subset_plus_asyndgan[/SITE] fedavg asyndgan ... "
        "(docs/how-to/gain.md; default: the task's)",
    )
    parser.add_argument("--run_dir", metavar="DIR", help="folder of the run (default runs/TASK-PROFILE, or runs/TASK)")
    add_threads(parser)


def run(options: argparse.Namespace) -> int:
    """
    Raises:
        ValueError, OSError: refused before anything is computed, or by a component.
    """
    show_lines_with_time()
    from bundle.plain_errors import name_errors_once
    from bundle.report import text_table
    from bundle.workflows.figures import write_pages

    name_errors_once()
    # stages collect what they leave: not among all that was imported
    gc.freeze()
    try:
        experiment = make_experiment(options)
        results = experiment.run()
        page = write_pages(experiment, results)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        raise
    print(f"\n{text_table(results)}\n\nreport: {page}\nnumbers: {Path(str(experiment.run_dir)) / 'results.json'}")
    return 0


def make_experiment(options: argparse.Namespace) -> Experiment:
    """
    What the options of this command name. ``started`` is when it began, by ``time.monotonic()``;
    ``command_line`` is what reproduces it.

    Raises:
        ValueError, OSError: see :class:`bundle.workflows.experiment.Experiment`.
    """
    from bundle.workflows.experiment import Experiment

    return Experiment(
        task=options.task,
        dataset_dir=options.dataset_dir,
        profile=options.profile,
        run_dir=options.run_dir,
        seeds=options.seeds,
        settings=options.settings,
        config_files=config_paths(options),
        overrides=overrides(options.set),
        command=options.command_line,
        started=options.started,
    )
