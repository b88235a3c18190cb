"""Measure the shapes of label maps over patients, and draw label maps that are nobody's.

Examples:
  asyndgan shapes measure --task brats --profile compact --dataset_dir data/brats --output shapes.npz
  asyndgan shapes draw --shapes shapes.npz --num 500 --size 64 --output bank.npz
  asyndgan generate --task brats --dataset_dir DIR --run_dir runs/a --set condition_bank=bank.npz use_released=false
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bundle.cli.options import (
    add_controls,
    add_dataset_dir,
    add_seed,
    add_training,
    controls,
    make_parser,
    overrides,
    training_files,
)
from bundle.cli.terminal import show_lines

__all__ = ["declare", "summary"]


def summary(command: str) -> str:
    return "Measure the shapes of label maps, and draw others like them"


def declare(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="part", required=True, metavar="PART")
    text = "write statistics of the shapes of a data list's training patients, of each site and of all"
    measure = make_parser(parts.add_parser, f"{text.capitalize()}.", "measure", help=text)
    measure.set_defaults(run=run_measure)
    add_training(measure)
    add_dataset_dir(measure)
    measure.add_argument("--output", type=Path, required=True, metavar="FILE.npz", help="file to write")
    text = "write a bank of conditions that are drawn from such statistics"
    draw = make_parser(parts.add_parser, f"{text.capitalize()}.", "draw", help=text)
    draw.set_defaults(run=run_draw)
    draw.add_argument("--shapes", type=Path, required=True, metavar="FILE.npz", help="what measure has written")
    draw.add_argument("--num", type=int, required=True, metavar="N", help="label maps")
    draw.add_argument("--size", type=int, required=True, metavar="PIXELS", help="height and width")
    draw.add_argument("--output", type=Path, required=True, metavar="FILE.npz", help="file to write")
    add_controls(draw)
    add_seed(draw)


def run_measure(options: argparse.Namespace) -> int:
    """
    Raises:
        ValueError, OSError: see :func:`bundle.workflows.shapes.measure_shapes`.
    """
    from bundle.workflows.shapes import measure_shapes

    show_lines()
    found = measure_shapes(training_files(options), options.dataset_dir, options.output, overrides(options.set))
    for name, own in found.items():
        text = (
            own if isinstance(own, str) else f"{own.about['conditions']} label maps of {own.about['patients']} patients"
        )
        print(f"{name}: {text}")
    print(f"wrote {options.output}")
    return 0


def run_draw(options: argparse.Namespace) -> int:
    """
    Raises:
        ValueError, OSError: see :func:`bundle.workflows.shapes.draw_bank`.
    """
    from bundle.shapes import read_statistics
    from bundle.workflows.shapes import draw_bank

    asked = options.style, options.output, options.num, options.size
    number = draw_bank(read_statistics(options.shapes), *asked, seed=options.seed, **controls(options))
    print(f"wrote {number} label maps to {options.output}")
    return 0
