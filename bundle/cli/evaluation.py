"""``asyndgan federate evaluate``: segmenters scored at the sites that hold the cases, and the table of it."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import tempfile
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

__all__ = ["declare_evaluation", "job_name", "run"]

logger = logging.getLogger("bundle.federate")

STAGE = "score"
LOCAL = ("process", "simulator", "poc")


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
    parser.add_argument(
        "--startup_kit", type=Path, metavar="KIT", help="the administrator's startup kit, of hospitals that are there"
    )
    parser.add_argument(
        "--over", choices=LOCAL, default="process", help="what lies between the sites of this machine (default process)"
    )
    parser.add_argument("--dataset_dir", type=Path, metavar="DIR", help="folder of datalist.json with all sites")
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
    add_participants(parser)
    add_no_revive(parser)
    parser.add_argument("--sites", nargs="+", metavar="NAME", help="all hospitals (default: those that are there)")
    parser.add_argument("--name", type=job_name, default="evaluation", help="of the job (default evaluation)")
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
    from bundle.server.evaluation import RESULTS_FILE, matrix

    options.run_dir = options.run_dir.resolve()
    path = options.run_dir / RESULTS_FILE
    if options.startup_kit is not None:
        at_hospitals(options, overrides, path)
    else:
        on_this_machine(options, overrides, path)
    results = json.loads(path.read_text(encoding="utf-8"))
    for metric in options.metric or [results["key_metric"]]:
        if metric not in results["metrics"]:
            raise ValueError(f"unknown metric {metric!r}, expected some of {', '.join(results['metrics'])}")
        print(f"\n{matrix(results, metric)}")
    print(f"\nscores: {path}")
    return 0


def on_this_machine(options: argparse.Namespace, overrides: dict[str, Any], path: Path) -> None:
    if options.dataset_dir is None:
        raise ValueError("--dataset_dir: expected the folder of a data list, or --startup_kit of hospitals")
    from bundle.workflows.scoring import find_segmenters

    segmenters = dict(options.segmenter) or find_segmenters(options.run_dir, options.seed)
    segmenters = {name: file.resolve() for name, file in segmenters.items()}
    overrides = {"seed": options.seed} | overrides
    {"process": in_one_process, "simulator": in_simulator, "poc": apart}[options.over](
        options, overrides, segmenters, path
    )


def rules(options: argparse.Namespace) -> dict[str, Any]:
    """What every site of this machine says for itself."""
    said = {"min_cases": 5 if options.min_cases is None else options.min_cases}
    return said | ({"per_case": True} if options.per_case else {})


def in_one_process(options: argparse.Namespace, overrides: dict[str, Any], segmenters: dict, path: Path) -> None:
    import yaml

    from bundle.composition import stage_files
    from bundle.data import load_datalist
    from bundle.plain_errors import name_errors_once
    from bundle.server import LocalScoring
    from bundle.workflows.scoring import make_evaluation, make_scoring_site, scoring_workflow

    if options.num_threads is not None:
        import torch

        torch.set_num_threads(options.num_threads)
    name_errors_once()
    logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)
    files = stage_files(STAGE, options.task, profile_of(options), options.config)
    given = {"run_dir": str(options.run_dir), "logging_file": False} | overrides
    given |= {"device": options.device} if options.device else {}
    own = given | rules(options) | {"dataset_dir": str(options.dataset_dir)}
    own |= {"release_policy": yaml.safe_load(options.release_policy)} if options.release_policy else {}
    names = load_datalist(options.dataset_dir).sites
    ends = {site: make_scoring_site(files, site, own)[0] for site in names}
    server = scoring_workflow(files, "", given)
    federation = LocalScoring({site: end.score for site, end in ends.items()})
    try:
        make_evaluation(server, federation, options.run_dir, options.metric).run(segmenters)
    finally:
        for end in ends.values():
            end.gate.close()


def in_simulator(options: argparse.Namespace, overrides: dict[str, Any], segmenters: dict, path: Path) -> None:
    from bundle.cli.jobs import make_job
    from bundle.flare.jobs import run_simulation
    from bundle.flare.participant import LOCAL_FILES

    job = make_job(options, overrides, STAGE)
    folder, flare = folders(options)
    sites = write_own_files(options, folder, overrides, segmenters)
    os.environ[LOCAL_FILES] = str(folder)
    path.unlink(missing_ok=True)  # by it the end of this evaluation is told
    run_simulation(job, sites, flare)
    if not path.is_file():
        raise RuntimeError(f"the evaluation did not finish: {flare} holds the logs")


def apart(options: argparse.Namespace, overrides: dict[str, Any], segmenters: dict, path: Path) -> None:
    from bundle.cli.jobs import make_federated_job
    from bundle.cli.trial import run_apart

    folder, flare = folders(options)
    sites = write_own_files(options, folder, overrides, segmenters)
    job, min_sites = make_federated_job(options, overrides, sites, STAGE)
    path.unlink(missing_ok=True)  # by it the end of this evaluation is told
    run_apart(options, job, sites, min_sites, folder, flare, path)


def folders(options: argparse.Namespace) -> tuple[Path, Path]:
    """Of the participants' own files, and of FLARE's logs."""
    place = options.run_dir / "federated_evaluation"
    return place / "participants", place / "flare"


def write_own_files(
    options: argparse.Namespace, folder: Path, overrides: dict[str, Any], segmenters: dict[str, Path]
) -> list[str]:
    from bundle.cli.trial import write_participants

    server = {"run_dir": str(options.run_dir), "segmenters": {name: str(file) for name, file in segmenters.items()}}
    return write_participants(options, folder, overrides, rules(options), server)


def at_hospitals(options: argparse.Namespace, overrides: dict[str, Any], path: Path) -> None:
    from bundle.cli.jobs import make_supervisor, write_job
    from bundle.files import write_text
    from bundle.flare.administrator import Administrator

    if options.segmenter or options.dataset_dir or options.min_cases is not None or options.per_case:
        raise ValueError(
            "--segmenter, --dataset_dir, --min_cases and --per_case are for sites of this machine: hospitals say in "
            "site.yaml what they let out, and the server in server.yaml (segmenters) what is scored"
        )
    administrator = Administrator(options.startup_kit)
    try:
        sites = sorted(options.sites or administrator.sites())
        if not sites:
            raise ValueError("no site is there; status shows them")
        with tempfile.TemporaryDirectory() as place:
            folder, min_sites = write_job(options, {"seed": options.seed} | overrides, sites, Path(place), STAGE)
            job = make_supervisor(options, administrator, folder, sites, min_sites).run()
            found = sorted(administrator.download(job, Path(place)).rglob(path.name))
            if not found:
                raise RuntimeError(f"job {job} left no scores; its log at the server says why")
            write_text(path, found[0].read_text(encoding="utf-8"))
    finally:
        administrator.close()
