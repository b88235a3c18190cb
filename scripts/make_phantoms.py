#!/usr/bin/env python
"""Write phantoms with the table of their sites in OUTPUT/cases.csv: brains in BraTS layout, or tiles of H&E stained
tissue in the layout of Kumar et al.; or the toy mixture of numbers with its data list.

Brains, then: python scripts/prepare_data.py brats OUTPUT --output OUTPUT --sites table --table OUTPUT/cases.csv
The mixture: python scripts/make_phantoms.py gaussian OUTPUT --draws 4000 4000 4000
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bundle.data.errors import DataError
from bundle.phantoms.brains import STYLES, write_brats_phantoms
from bundle.phantoms.gaussian import MIXTURE, SPREADS, Component, write_mixture
from bundle.phantoms.nuclei import TILE_STYLES, write_nuclei_phantoms
from bundle.text import console


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
    toy = kinds.add_parser(
        "gaussian", help="numbers of a mixture of normals, a component each site", allow_abbrev=False
    )
    toy.add_argument("output", type=Path, help="folder to write, replaced")
    toy.add_argument("--means", type=float, nargs="+", default=[c.mean for c in MIXTURE], help="of the components")
    toy.add_argument("--spreads", type=float, nargs="+", default=[c.spread for c in MIXTURE], help="of the components")
    toy.add_argument("--spread", choices=SPREADS, default=SPREADS[0], help=f"what those are (default {SPREADS[0]})")
    toy.add_argument("--draws", type=int, nargs="+", default=[4000], help="of every site, or of each (default 4000)")
    toy.add_argument("--test_draws", type=int, default=10000, help="held out, of every component (default 10000)")
    toy.add_argument("--sites", nargs="+", help="names (default 1 2 ...)")
    toy.add_argument("--seed", type=int, default=0, help="default 0")
    return parser


def _mixture(options: argparse.Namespace) -> Path:
    if len(options.means) != len(options.spreads):
        raise DataError(f"{len(options.means)} means and {len(options.spreads)} spreads, expected as many of each")
    return write_mixture(
        options.output,
        [Component(*pair) for pair in zip(options.means, options.spreads, strict=True)],
        options.spread,
        options.draws[0] if len(options.draws) == 1 else options.draws,
        options.test_draws,
        options.sites,
        options.seed,
    )


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
    logging.basicConfig(level=logging.INFO, handlers=[console()])
    for key, value in vars(options).items():
        print(f"{key}: {value}")
    settings = {key: value for key, value in vars(options).items() if key not in ("kind", "output", "size")}
    try:
        if options.kind == "gaussian":
            written = _mixture(options)
        elif options.kind == "brains":
            written = write_brats_phantoms(options.output, shape=tuple(options.size), **settings)
        else:
            written = write_nuclei_phantoms(options.output, size=options.size, **settings)
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {written}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
