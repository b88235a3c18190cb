"""Check packed bundles as the model zoo does, and that they do without this package. Executes the bundles' code.

The exit status is 1 if something is wrong with one.

Examples:
  asyndgan check dist/asyndgan_brain_tumor_segmentation
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path

from bundle.cli.options import add_threads

__all__ = ["declare", "summary"]


def summary(command: str) -> str:
    return "Check packed bundles as the model zoo does"


def declare(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.add_argument("bundles", nargs="+", type=Path, metavar="DIR", help="folder of a bundle")
    add_threads(parser)


def run(options: argparse.Namespace) -> int:
    from bundle.sharing.bundle_checks import check_bundle

    warnings.filterwarnings("ignore")
    for name in ("monai.bundle.scripts", "monai.bundle.workflows"):
        logging.getLogger(name).setLevel(logging.ERROR)
    found = 0
    for folder in options.bundles:
        problems = check_bundle(folder)
        print(f"{folder}: {'nothing is wrong' if not problems else f'{len(problems)} problem(s)'}")
        for problem in problems:
            print(f"  {problem}")
        found += len(problems)
    return 1 if found else 0
