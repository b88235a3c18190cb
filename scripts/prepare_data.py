#!/usr/bin/env python
"""Write the data list of a data set on disk: cases, sites, train/test split.

Examples:
    python scripts/prepare_data.py brats MICCAI_BraTS_2018 --output data/brats --sites size --num_sites 10
    python scripts/prepare_data.py tcga_lgg lgg --output data/lgg --sites institution --table cases.csv
    python scripts/prepare_data.py volumes hospital --output data/own --sites table --table cases.csv \
        --modalities flair t2 --resample 1.0 --n4
    python scripts/prepare_data.py multi_organ MoNuSeg --output data/nuclei --sites organ
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bundle.data.errors import DataError
from bundle.data.one_grid import TRUST
from bundle.prepare.case_conversion import ConvertOptions
from bundle.prepare.layouts import LAYOUTS
from bundle.prepare.preparation import PrepareOptions, Summary, prepare
from bundle.prepare.splits import RULES
from bundle.text import console


def parse_arguments(arguments: list[str] | None = None) -> PrepareOptions:
    """Options from the command line."""
    layouts = "\n".join(f"  {name}: {layout.description}" for name, layout in LAYOUTS.items())
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\nLayouts:\n{layouts}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("layout", choices=list(LAYOUTS), help="how the data lies on disk")
    parser.add_argument("source", type=Path, help="folder with the data as distributed")
    parser.add_argument("--output", type=Path, required=True, help="folder for datalist.json and converted files")
    parser.add_argument("--sites", choices=list(RULES), required=True, help="which site a case belongs to")
    parser.add_argument("--table", type=Path, help="CSV or JSON with case, site (or institution), split, patient")
    parser.add_argument("--num_sites", type=int, help="number of sites (rules size and dirichlet)")
    parser.add_argument("--alpha", type=float, default=0.5, help="concentration of rule dirichlet (default 0.5)")
    parser.add_argument(
        "--split",
        choices=["table", "published", "random"],
        help="who tests: by the table's column split, as published, or drawn (default: the first there is)",
    )
    parser.add_argument("--test_fraction", type=float, help="share of test patients per site (default 0.2)")
    parser.add_argument("--seed", type=int, default=0, help="of random sites and splits (default 0)")
    parser.add_argument("--modalities", nargs="+", help="which, in this order (default: the layout's)")
    parser.add_argument("--labels", nargs="+", metavar="VALUE=NAME", help='e.g. 0=background 1=tumour; "0" is needed')
    parser.add_argument("--skip_incomplete", action="store_true", help="leave out cases that lack a file or modality")
    parser.add_argument("--n4", action="store_true", help="N4 bias-field correction of every modality")
    parser.add_argument("--n4_shrink", type=int, default=4, help="estimate the field on a coarser grid (default 4)")
    parser.add_argument("--resample", type=float, metavar="MM", help="cubic voxels, all volumes on one grid")
    parser.add_argument(
        "--trust",
        choices=TRUST,
        help="where headers of a case disagree: label-array, the arrays lie voxel on voxel and the first modality's "
        "header is everybody's; image-header, all headers are right, and the label and other modalities are resampled "
        "onto the grid of the first modality (default: such cases are refused)",
    )
    parser.add_argument(
        "--accept_mismatch", action="store_true", help="take tiles whose annotated nuclei are not darker than around"
    )
    parser.add_argument("--name", help="name of the data set (default: that of the source folder)")
    values = vars(parser.parse_args(arguments))
    try:
        pairs = [pair.split("=", 1) for pair in values["labels"] or []]
        values["labels"] = {int(value): name for value, name in pairs} or None
    except ValueError:
        parser.error("--labels: expected VALUE=NAME with a whole number as VALUE")
    values["modalities"] = tuple(values["modalities"]) if values["modalities"] else None
    values["convert"] = ConvertOptions(**{name: values.pop(name) for name in ("n4", "n4_shrink", "resample", "trust")})
    return PrepareOptions(**values)


def print_summary(options: PrepareOptions, summary: Summary) -> None:
    """Resolved options, a row per site, what was converted, warnings."""
    volumes = LAYOUTS[options.layout].volumes
    shown = ("source", "output", "skip_incomplete") + (() if volumes else ("accept_mismatch",))
    given = {key: value for key, value in vars(options).items() if key in shown}
    given |= vars(options.convert) if volumes else {}
    for key, value in (summary.resolved | given).items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {text}" if key != "labels" else f"{name}={text}" for name, text in value.items())
        print(f"{key}: {' '.join(value) if isinstance(value, tuple) else value}")
    width = max(len("site"), *(len(row[0]) for row in summary.rows))
    print(f"\n{'site':<{width}}  training  test  {summary.size}")
    for site, training, test, size in summary.rows:
        print(f"{site:<{width}}  {training:>8}  {test:>4}  {size:>{len(summary.size)}.1f}")
    training, test = (sum(row[column] for row in summary.rows) for column in (1, 2))
    print(f"{'all':<{width}}  {training:>8}  {test:>4}\n")
    if summary.counts:
        print(f"read: {', '.join(f'{count} {name}' for name, count in summary.counts.items())}")
    for note, count in summary.notes.items():
        print(f"{note}: {count} cases")
    for warning in summary.warnings:
        print(f"WARNING: {warning}")
    print(f"wrote {summary.path}")


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status: 0, or 2 for bad data."""
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, handlers=[console()])
    try:
        summary = prepare(options)
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print_summary(options, summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
