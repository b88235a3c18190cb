#!/usr/bin/env python
"""Write a data list to choose settings on: without the test cases, some training patients of every site held out.

Examples:
    python scripts/make_tuning_split.py runs/data/tcga_lgg --output runs/data/tcga_lgg_tuning --patients 2
    python scripts/make_tuning_split.py runs/data/multi_organ --output runs/data/no_liver --patients 0 --leave_out liver
    python scripts/make_tuning_split.py runs/data/multi_organ --output runs/data/dark_liver --patients 0 \
        --leave_out liver --stain_strengths 2 1.3
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bundle.data.datalist import load_datalist
from bundle.data.errors import DataError
from bundle.prepare.tuning import write_tuning_list


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset_dir", help="folder of datalist.json, see scripts/prepare_data.py")
    parser.add_argument("--output", type=Path, required=True, help="folder to write datalist.json to")
    parser.add_argument("--patients", type=int, default=2, help="patients of every site to hold out (default 2)")
    parser.add_argument("--leave_out", nargs="+", default=[], metavar="SITE", help="sites to hold out as a whole")
    parser.add_argument(
        "--stain_strengths",
        nargs=2,
        type=float,
        metavar=("HAEMATOXYLIN", "EOSIN"),
        help="H&E tiles: stain those that are held out more strongly, or weakly, by these factors",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default 0)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status: 0, or 2 for bad data or options."""
    options = parse_arguments(arguments)
    try:
        whole = load_datalist(options.dataset_dir)
        path = write_tuning_list(
            whole, options.output, options.patients, options.seed, options.leave_out, options.stain_strengths
        )
        written = load_datalist(path)
    except (DataError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for site in written.sites:
        held_out = sum(item["site"] == site for item in written.test)
        print(f"{site}: {len(written.site_items(site))} cases to train on, {held_out} held out")
    if options.leave_out:
        print(f"{', '.join(options.leave_out)}: {sum(not item['site'] for item in written.test)} cases, all held out")
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
