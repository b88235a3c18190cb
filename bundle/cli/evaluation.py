"""``asyndgan federate evaluate``: segmenters scored at the sites that hold the cases, and the table of it."""

from __future__ import annotations

import argparse
import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bundle.cli.options import (
    add_no_revive,
    add_participants,
    add_seed,
    add_supervision,
    add_training,
    profile_of,
    whole_number,
)

__all__ = ["FLARE", "add_job", "add_place", "declare_evaluation", "job_name", "run"]

logger = logging.getLogger("bundle.federate")

STAGE = "score"
FLARE = ("simulator", "poc")


ABOUT = """Score segmenters at the sites that hold the cases; no image leaves one.

Without --startup_kit the sites are on this machine, those of one data list: in this process, in FLARE's simulator, or
as processes with certificates of their own (--over). With it they are hospitals: each says in its site.yaml what it
lets out, and the segmenters are those that the server's server.yaml names, or those of the run in its run_dir.

Examples:
  asyndgan federate evaluate --task brats --dataset_dir DIR --run_dir runs/brats-small
  asyndgan federate evaluate --task brats --dataset_dir DIR --segmenter mine=segmenter.pt other=dist/BUNDLE --over poc
  asyndgan federate evaluate --task brats --profile small --startup_kit KIT --sites A B --run_dir runs/scores
"""


def declare_evaluation(parser: argparse.ArgumentParser) -> None:
    parser.description = ABOUT
    add_training(parser)
    add_place(parser, ("process", *FLARE))
    parser.add_argument(
        "--run_dir",
        type=Path,
        default=Path("runs", "evaluation"),
        metavar="DIR",
        help="folder of a run, whose segmenters are scored, and of what comes out (default runs/evaluation)",
    )
    parser.add_argument(
        "--segmenter",
        nargs="+",
        action="extend",
        default=[],
        type=named_segmenter,
        metavar="NAME=FILE",
        help="weights, or the folder of a packed bundle, in the place of the run's",
    )
    add_seed(parser)
    parser.add_argument(
        "--metric", nargs="+", default=[], metavar="NAME", help="that are shown (default: the task's first)"
    )
    parser.add_argument(
        "--min_cases", type=whole_number, metavar="N", help="of each site, as in a site.yaml (default 5)"
    )
    parser.add_argument(
        "--per_case", action="store_true", help="each site lets scores of single cases out, as in a site.yaml"
    )
    add_job(parser, "evaluation")


def add_place(parser: argparse.ArgumentParser, over: Sequence[str]) -> None:
    """Where the sites are."""
    parser.add_argument(
        "--startup_kit", type=Path, metavar="KIT", help="the administrator's startup kit, of hospitals that are there"
    )
    parser.add_argument(
        "--over", choices=over, default=over[0], help=f"what lies between sites of this machine (default {over[0]})"
    )
    parser.add_argument("--dataset_dir", type=Path, metavar="DIR", help="folder of datalist.json with all sites")


def add_job(parser: argparse.ArgumentParser, name: str) -> None:
    """How a job goes, at the sites of this machine or in hospitals."""
    add_participants(parser)
    add_no_revive(parser)
    parser.add_argument("--sites", nargs="+", metavar="NAME", help="all hospitals (default: those that are there)")
    parser.add_argument("--name", type=job_name, default=name, help=f"of the job (default {name})")
    add_supervision(parser)


def job_name(text: str) -> str:
    """The name of a job: it becomes that of a folder, and a part of FLARE's command lines."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise argparse.ArgumentTypeError(f"{text!r}, expected 1 to 64 letters A to Z, digits, '-' and '_'")
    return text


def named_segmenter(text: str) -> tuple[str, Path]:
    """A name and a path: ``mine=segmenter.pt``."""
    name, equals, path = text.partition("=")
    if not equals or not path or not re.fullmatch(r"\w[\w./ +-]{0,99}", name):
        raise argparse.ArgumentTypeError(f"{text!r}, expected NAME=FILE, the name of letters, digits and './ +-'")
    return name, Path(path)


def run(options: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """
    Raises:
        ValueError, OSError: see :func:`bundle.workflows.scoring.make_evaluation` and
            :func:`bundle.workflows.scoring.find_segmenters`.
    """
    from bundle.cli.jobs import run_at_hospitals
    from bundle.server.evaluation import RESULTS_FILE, matrix

    options.run_dir = options.run_dir.resolve()
    path = options.run_dir / RESULTS_FILE
    if options.startup_kit is not None:
        check_hospitals(options)
        run_at_hospitals(options, {"seed": options.seed} | overrides, STAGE, {path.name: path})
    else:
        on_this_machine(options, overrides, path)
    results = json.loads(path.read_text(encoding="utf-8"))
    for metric in options.metric or [results["key_metric"]]:
        if metric not in results["metrics"]:
            raise ValueError(f"unknown metric {metric!r}, expected some of {', '.join(results['metrics'])}")
        print(f"\n{matrix(results, metric)}")
    print(f"\nscores: {path}")
    return 0


def check_hospitals(options: argparse.Namespace) -> None:
    """
    Raises:
        ValueError: for words that are for sites of this machine.
    """
    if options.segmenter or options.dataset_dir or options.min_cases is not None or options.per_case:
        raise ValueError(
            "--segmenter, --dataset_dir, --min_cases and --per_case are for sites of this machine: hospitals say in "
            "site.yaml what they let out, and the server in server.yaml (segmenters) what is scored"
        )


def on_this_machine(options: argparse.Namespace, overrides: dict[str, Any], path: Path) -> None:
    if options.dataset_dir is None:
        raise ValueError("--dataset_dir: expected the folder of a data list, or --startup_kit of hospitals")
    from bundle.workflows.scoring import find_segmenters

    segmenters = dict(options.segmenter) or find_segmenters(options.run_dir, options.seed)
    segmenters = {name: file.resolve() for name, file in segmenters.items()}
    overrides = {"seed": options.seed} | overrides
    if options.over == "process":
        in_one_process(options, overrides, segmenters)
    else:
        from bundle.cli.trial import run_here

        server = {"run_dir": str(options.run_dir), "segmenters": {name: str(file) for name, file in segmenters.items()}}
        place = options.run_dir / "federated_evaluation"
        run_here(options, overrides, STAGE, place, rules(options), server, path)


def rules(options: argparse.Namespace) -> dict[str, Any]:
    """What every site of this machine says for itself."""
    said = {"min_cases": 5 if options.min_cases is None else options.min_cases}
    return said | ({"per_case": True} if options.per_case else {})


def in_one_process(options: argparse.Namespace, overrides: dict[str, Any], segmenters: dict[str, Path]) -> None:
    import yaml

    from bundle.composition import stage_files
    from bundle.data import load_datalist
    from bundle.plain_errors import name_errors_once
    from bundle.server import LocalScoring
    from bundle.workflows.scoring import make_evaluation, make_scoring_site, participant_workflow

    name_errors_once()
    logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)
    files = stage_files(STAGE, options.task, profile_of(options), options.config)
    given = {"run_dir": str(options.run_dir), "logging_file": False} | overrides
    given |= {"device": options.device} if options.device else {}
    own = given | rules(options) | {"dataset_dir": str(options.dataset_dir)}
    own |= {"release_policy": yaml.safe_load(options.release_policy)} if options.release_policy else {}
    names = load_datalist(options.dataset_dir).sites
    ends = {site: make_scoring_site(files, site, own)[0] for site in names}
    server = participant_workflow(files, "", given)
    federation = LocalScoring({site: end.score for site, end in ends.items()})
    try:
        make_evaluation(server, federation, options.run_dir, options.metric).run(segmenters)
    finally:
        for end in ends.values():
            end.gate.close()
