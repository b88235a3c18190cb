"""Write a data list to choose settings on: without the test cases, some training patients of every site held out.

Examples:
  asyndgan tuning_list data/lgg --output data/lgg_tuning --patients 2
  asyndgan tuning_list data/nuclei --output data/no_liver --patients 0 --leave_out liver
  asyndgan tuning_list data/nuclei --output data/dark_liver --patients 0 --leave_out liver --stain_strengths 2 1.3
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bundle.cli.options import whole_number

__all__ = ["declare", "summary"]


def summary(command: str) -> str:
    return "Write a data list to choose settings on, without the test cases"


def declare(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.add_argument("dataset_dir", metavar="DATASET_DIR", help="folder of datalist.json (asyndgan prepare)")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write datalist.json to")
    parser.add_argument(
        "--patients", type=int, default=2, metavar="N", help="patients of every site to hold out (default 2)"
    )
    parser.add_argument("--leave_out", nargs="+", default=[], metavar="SITE", help="sites to hold out as a whole")
    parser.add_argument(
        "--stain_strengths",
        nargs=2,
        type=float,
        metavar=("HAEMATOXYLIN", "EOSIN"),
        help="H&E tiles: stain those that are held out more strongly, or weakly, by these factors",
    )
    parser.add_argument("--seed", type=whole_number, default=0, metavar="N", help="of the draw (default 0)")


def run(options: argparse.Namespace) -> int:
    """
    Raises:
        bundle.data.DataError, ValueError: bad data or options.
    """
    from bundle.data.datalist import load_datalist
    from bundle.prepare.tuning import write_tuning_list

    whole = load_datalist(options.dataset_dir)
    path = write_tuning_list(
        whole, options.output, options.patients, options.seed, options.leave_out, options.stain_strengths
    )
    written = load_datalist(path)
    for site in written.sites:
        held_out = sum(item["site"] == site for item in written.test)
        print(f"{site}: {len(written.site_items(site))} cases to train on, {held_out} held out")
    if options.leave_out:
        print(f"{', '.join(options.leave_out)}: {sum(not item['site'] for item in written.test)} cases, all held out")
    print(f"wrote {path}")
    return 0
