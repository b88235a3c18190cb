"""Draw data to try things on: brains in BraTS layout, tiles of H&E stained tissue, or the toy mixture of numbers.

Brains and tiles come with the table of their sites, DIR/cases.csv, and are prepared as real data are; the mixture comes
with its data list.

Examples:
  asyndgan phantoms brains phantoms --sites A B --cases_per_site 4
  asyndgan prepare brats phantoms --output data --sites table --table phantoms/cases.csv --modalities flair
  asyndgan phantoms gaussian data --draws 4000 4000 4000
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bundle.cli.options import add_seed, make_parser
from bundle.cli.terminal import show_lines

__all__ = ["declare", "summary"]

# as the libraries have them, which take long to import
BRAINS = ("A", "B", "C", "D")
ORGANS = ("breast", "kidney", "liver", "prostate")
MEANS = (-3.0, 1.0, 3.0)
SPREADS = (2.0, 1.0, 0.5)
KINDS_OF_SPREAD = ("variance", "std")


def summary(command: str) -> str:
    return "Draw data to try things on"


def declare(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    brains = _kind(kinds, "brains", "brains with tumours, four modalities", draw_brains)
    _add_cases(brains, BRAINS, 6)
    brains.add_argument("--size", type=int, nargs=3, default=[96, 96, 24], metavar=("X", "Y", "Z"), help="voxels")
    nuclei = _kind(kinds, "nuclei", "H&E tiles with outlines of nuclei, an organ each site", draw_nuclei)
    _add_cases(nuclei, ORGANS, 4)
    nuclei.add_argument(
        "--other_cases", type=int, default=2, metavar="N", help="test cases of an organ of no site (default 2)"
    )
    nuclei.add_argument("--size", type=int, default=256, metavar="PIXELS", help="height and width (default 256)")
    toy = _kind(kinds, "gaussian", "numbers of a mixture of normals, a component each site", draw_mixture)
    toy.add_argument("--means", type=float, nargs="+", default=MEANS, metavar="M", help="of the components")
    toy.add_argument("--spreads", type=float, nargs="+", default=SPREADS, metavar="S", help="of the components")
    toy.add_argument(
        "--spread",
        choices=KINDS_OF_SPREAD,
        default=KINDS_OF_SPREAD[0],
        help=f"what it is (default {KINDS_OF_SPREAD[0]})",
    )
    toy.add_argument(
        "--draws", type=int, nargs="+", default=[4000], metavar="N", help="of every site, or of each (default 4000)"
    )
    toy.add_argument(
        "--test_draws", type=int, default=10000, metavar="N", help="held out, of every component (default 10000)"
    )
    toy.add_argument("--sites", nargs="+", metavar="NAME", help="names (default 1 2 ...)")
    add_seed(toy)


def _kind(kinds, name: str, text: str, draw) -> argparse.ArgumentParser:
    parser = make_parser(kinds.add_parser, text[0].upper() + text[1:] + ".", name, help=text)
    parser.set_defaults(run=run, draw=draw)
    parser.add_argument("output", type=Path, metavar="DIR", help="folder to write, created")
    return parser


def _add_cases(parser: argparse.ArgumentParser, sites: tuple[str, ...], cases: int) -> None:
    parser.add_argument("--sites", nargs="+", default=sites, metavar="NAME", help=f"names (default {' '.join(sites)})")
    parser.add_argument(
        "--cases_per_site", type=int, default=cases, metavar="N", help=f"training cases (default {cases})"
    )
    parser.add_argument("--test_cases_per_site", type=int, default=2, metavar="N", help="test cases (default 2)")
    add_seed(parser)


def run(options: argparse.Namespace) -> int:
    """
    Raises:
        bundle.data.DataError: options out of range.
    """
    show_lines()
    print(f"wrote {options.draw(options)}")
    return 0


def draw_brains(options: argparse.Namespace) -> Path:
    from bundle.phantoms.brains import write_brats_phantoms

    return write_brats_phantoms(
        options.output,
        options.sites,
        cases_per_site=options.cases_per_site,
        test_cases_per_site=options.test_cases_per_site,
        shape=tuple(options.size),
        seed=options.seed,
    )


def draw_nuclei(options: argparse.Namespace) -> Path:
    from bundle.phantoms.nuclei import write_nuclei_phantoms

    return write_nuclei_phantoms(
        options.output,
        options.sites,
        cases_per_site=options.cases_per_site,
        test_cases_per_site=options.test_cases_per_site,
        size=options.size,
        other_cases=options.other_cases,
        seed=options.seed,
    )


def draw_mixture(options: argparse.Namespace) -> Path:
    from bundle.phantoms.gaussian import Component, write_mixture

    if len(options.means) != len(options.spreads):
        raise ValueError(f"{len(options.means)} means and {len(options.spreads)} spreads, expected as many of each")
    return write_mixture(
        options.output,
        [Component(*pair) for pair in zip(options.means, options.spreads, strict=True)],
        options.spread,
        options.draws[0] if len(options.draws) == 1 else options.draws,
        options.test_draws,
        options.sites,
        options.seed,
    )
