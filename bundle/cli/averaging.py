"""``asyndgan federate average``: one segmenter, trained at the sites and averaged round by round, over FLARE."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from bundle.cli.evaluation import FLARE, add_job, add_place
from bundle.cli.options import add_seed, add_training

__all__ = ["declare_averaging", "run"]

STAGE = "average"
ABOUT = """Train a segmenter by federated averaging: sites train it on their own images, weights leave them every round.

With all sites in one process it is `asyndgan segment --setting fedavg`, and the weights are the same, bit for bit.
Here the sites are on this machine in FLARE's simulator, or as processes with certificates of their own (--over), or
hospitals (--startup_kit): those whose site.yaml allows it (allow_averaging).

Examples:
  asyndgan federate average --task brats --dataset_dir DIR --run_dir runs/brats-small
  asyndgan federate average --task brats --profile small --startup_kit KIT --sites A B --run_dir runs/averaged
"""


def declare_averaging(parser: argparse.ArgumentParser) -> None:
    parser.description = ABOUT
    add_training(parser)
    add_place(parser, FLARE)
    parser.add_argument(
        "--run_dir",
        type=Path,
        default=Path("runs", "averaged"),
        metavar="DIR",
        help="folder of the run (default runs/averaged)",
    )
    parser.add_argument("--setting", choices=("fedavg", "fedprox"), default="fedavg", help="(default fedavg)")
    add_seed(parser)
    add_job(parser, "averaging")


def run(options: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """
    Raises:
        ValueError: neither a data list nor hospitals are named.
    """
    from bundle.cli.jobs import run_at_hospitals
    from bundle.cli.trial import run_here

    options.run_dir = options.run_dir.resolve()
    overrides = {"seed": options.seed, "setting": options.setting} | overrides
    folder = options.run_dir / f"seed_{overrides['seed']}" / overrides["setting"] / "segmenter"
    record = folder / "record.json"
    if options.startup_kit is not None:
        run_at_hospitals(options, overrides, STAGE, {name: folder / name for name in ("segmenter.pt", "record.json")})
    elif options.dataset_dir is None:
        raise ValueError("--dataset_dir: expected the folder of a data list, or --startup_kit of hospitals")
    else:
        server = {"run_dir": str(options.run_dir)}
        place = options.run_dir / "federated_averaging"
        run_here(options, overrides, STAGE, place, {"allow_averaging": True}, server, record)
    said = json.loads(record.read_text(encoding="utf-8"))
    for site, about in said["sites"].items():
        print(f"{site}: {', '.join(f'{key} {value}' for key, value in about.items())}")
    print(f"segmenter: {folder / 'segmenter.pt'}\nrecord:    {record}")
    return 0
