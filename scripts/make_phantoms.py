#!/usr/bin/env python
"""Write phantom brains in BraTS layout, with the table of their sites in OUTPUT/cases.csv.

Then: python scripts/prepare_data.py brats OUTPUT --output OUTPUT --sites table --table OUTPUT/cases.csv
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bundle.data.errors import DataError
from bundle.data.phantoms import write_brats_phantoms


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status: 0, or 2 for options out of range."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder to write, created")
    parser.add_argument("--sites", nargs="+", default=["A", "B", "C", "D"], help="names (default A B C D)")
    parser.add_argument("--cases_per_site", type=int, default=6, help="training cases (default 6)")
    parser.add_argument("--test_cases_per_site", type=int, default=2, help="test cases (default 2)")
    parser.add_argument("--size", type=int, nargs=3, default=[96, 96, 24], metavar=("X", "Y", "Z"), help="voxels")
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for key, value in vars(options).items():
        print(f"{key}: {value}")
    try:
        table = write_brats_phantoms(
            options.output,
            options.sites,
            options.cases_per_site,
            options.test_cases_per_site,
            tuple(options.size),
            options.seed,
        )
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {table}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
