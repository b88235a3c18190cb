#!/usr/bin/env python
"""Check packed bundles as the model zoo does, and that they do without this repository. Executes the bundles' code.

Examples:
    python scripts/check_bundle.py dist/asyndgan_brain_tumor_segmentation
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bundle.sharing.bundle_checks import check_bundle


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status: 0, or 1 if something is wrong with a bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path, metavar="DIR", help="folder of a bundle")
    folders = parser.parse_args(arguments).bundles
    warnings.filterwarnings("ignore")
    for name in ("monai.bundle.scripts", "monai.bundle.workflows"):
        logging.getLogger(name).setLevel(logging.ERROR)
    found = 0
    for folder in folders:
        problems = check_bundle(folder)
        print(f"{folder}: {'nothing is wrong' if not problems else f'{len(problems)} problem(s)'}")
        for problem in problems:
            print(f"  {problem}")
        found += len(problems)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
