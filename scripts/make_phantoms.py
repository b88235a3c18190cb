#!/usr/bin/env python
"""Write phantoms with the table of their sites in OUTPUT/cases.csv: brains in BraTS layout, or tiles of H&E stained
tissue in the layout of Kumar et al.

Brains, then: python scripts/prepare_data.py brats OUTPUT --output OUTPUT --sites table --table OUTPUT/cases.csv
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bundle.data.brain_phantoms import STYLES, write_brats_phantoms
from bundle.data.errors import DataError
from bundle.data.nuclei_phantoms import TILE_STYLES, write_nuclei_phantoms


def build_parser() -> argparse.ArgumentParser:
    """The command line: what to draw, then its options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    brains = kinds.add_parser("brains", help="brains with tumours, four modalities", allow_abbrev=False)
    _add_common(brains, list(STYLES), cases_per_site=6)
    brains.add_argument("--size", type=int, nargs=3, default=[96, 96, 24], metavar=("X", "Y", "Z"), help="voxels")
    nuclei = kinds.add_parser(
        "nuclei", help="H&E tiles with outlines of nuclei, an organ each site", allow_abbrev=False
    )
    _add_common(nuclei, list(TILE_STYLES), cases_per_site=4)
    nuclei.add_argument("--other_cases", type=int, default=2, help="test cases of an organ of no site (default 2)")
    nuclei.add_argument("--size", type=int, default=256, metavar="PIXELS", help="height and width (default 256)")
    return parser


def _add_common(parser: argparse.ArgumentParser, sites: list[str], cases_per_site: int) -> None:
    parser.add_argument("output", type=Path, help="folder to write, created")
    parser.add_argument("--sites", nargs="+", default=sites, help=f"names (default {' '.join(sites)})")
    parser.add_argument(
        "--cases_per_site", type=int, default=cases_per_site, help=f"training cases (default {cases_per_site})"
    )
    parser.add_argument("--test_cases_per_site", type=int, default=2, help="test cases (default 2)")
    parser.add_argument("--seed", type=int, default=0, help="default 0")


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status: 0, or 2 for options out of range."""
    options = build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for key, value in vars(options).items():
        print(f"{key}: {value}")
    settings = {key: value for key, value in vars(options).items() if key not in ("kind", "output", "size")}
    try:
        if options.kind == "brains":
            table = write_brats_phantoms(options.output, shape=tuple(options.size), **settings)
        else:
            table = write_nuclei_phantoms(options.output, size=options.size, **settings)
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {table}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
