"""Make a bank of conditions that the server owns, from a prepared data list: of public label maps, for example.

Generation then uses it, with what the sites released or in its place: --set condition_bank=FILE.

Examples:
  asyndgan bank --task brats --dataset_dir data/public --output bank.npz
  asyndgan bank --task brats --profile demo --dataset_dir data/public --output bank.npz --set empty_slices=0
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bundle.cli.options import add_dataset_dir, add_threads, add_training, overrides, training_files
from bundle.cli.terminal import show_lines

__all__ = ["declare", "summary"]


def summary(command: str) -> str:
    return "Make a bank of conditions that the server owns"


def declare(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    add_training(parser)
    add_dataset_dir(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.npz", help="file to write")
    add_threads(parser)


def run(options: argparse.Namespace) -> int:
    """
    Raises:
        ValueError, OSError: see :func:`bundle.workflows.bank.make_bank`.
    """
    from bundle.workflows.bank import make_bank

    show_lines()
    found = make_bank(training_files(options), options.dataset_dir, options.output, overrides(options.set))
    for site, number in found.items():
        print(f"{site}: {number} conditions")
    print(f"wrote {sum(found.values())} conditions to {options.output}")
    return 0
