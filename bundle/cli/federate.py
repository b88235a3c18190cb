"""Train and score with the sites behind NVIDIA FLARE: on this machine as a trial, or as the coordinator of hospitals.

A job carries names of configs and plain values, no code, no expression and no path. Where --task, --profile or
--config names a file of yours, it carries its digest: every hospital, and the server, approves the file by putting it
into local/configs/ of its startup kit.

Examples:
  asyndgan federate simulate --task brats --dataset_dir DIR
  asyndgan federate poc --task brats --profile demo --dataset_dir DIR
  asyndgan federate check --startup_kit KIT
  asyndgan federate submit --startup_kit KIT --task brats --profile small
  asyndgan federate status --startup_kit KIT
  asyndgan federate evaluate --task brats --dataset_dir DIR --run_dir runs/brats-small
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bundle.cli.averaging import declare_averaging
from bundle.cli.evaluation import declare_evaluation, job_name
from bundle.cli.options import (
    add_min_sites,
    add_no_revive,
    add_participants,
    add_supervision,
    add_training,
    make_parser,
    overrides,
)
from bundle.cli.terminal import show_lines_with_time

if TYPE_CHECKING:
    from bundle.flare.administrator import Administrator

__all__ = ["declare", "end_job", "job_name", "summary"]


def summary(command: str) -> str:
    return "Train and score with the sites behind NVIDIA FLARE"


def declare(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="part", required=True, metavar="PART")

    def part(name: str, text: str, does: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        one = make_parser(commands.add_parser, text[0].upper() + text[1:] + ".", name, help=text)
        one.set_defaults(run=run, does=does, begin_process=begin_process)
        return one

    simulated = part("simulate", "FLARE's simulator: one process per site, on this machine", simulate)
    tried = part(
        "poc", "server and sites as they would run apart, on this machine: own certificates, TLS, sockets", poc
    )
    kits = part("kits", "write a server's or a site's own rules, and its own file, into its startup kit", prepare_kits)
    checked = part("check", "whether a site's or the server's startup kit is ready to be started", check)
    submitted = part("submit", "have a running FLARE server train", submit)
    exported = part("export", "write the job that submit would submit, for `nvflare job submit`", export)
    evaluated = part("evaluate", "score segmenters at the sites that hold the cases; no image leaves one", evaluate)
    declare_evaluation(evaluated)
    averaged = part("average", "train a segmenter by federated averaging; weights leave the sites", average)
    declare_averaging(averaged)
    shown = part("status", "which sites are there, which jobs, and how far they are", status)
    stopped = part("stop", "end a job at its next checkpoint", stop)
    collected = part("collect", "get the generator and the record, or the scores, of a finished job", collect)
    for one in (simulated, tried, submitted, exported):
        add_training(one)
    for one in (simulated, tried):
        one.add_argument(
            "--dataset_dir", type=Path, required=True, metavar="DIR", help="folder of datalist.json with all sites"
        )
        one.add_argument("--run_dir", type=Path, metavar="DIR", help="folder of the run (default runs/federation)")
        add_participants(one)
        one.add_argument(
            "--public_conditions", type=Path, metavar="FILE", help="for sites that let none out, as in a server.yaml"
        )
        one.add_argument(
            "--earlier",
            type=Path,
            metavar="DIR",
            help="outputs of an earlier run here (RUN_DIR/seed_0/asyndgan), which this one goes on from",
        )
    add_no_revive(tried)
    kits.add_argument(
        "kits", nargs="*", type=Path, default=[Path(".")], metavar="KIT", help="startup kits (default: this folder)"
    )
    for one in (submitted, exported):
        one.add_argument("--name", type=job_name, default="training", help="of the job (default training)")
    submitted.add_argument(
        "--sites", nargs="+", metavar="NAME", help="all sites of the run (default: those that are there)"
    )
    exported.add_argument("--sites", nargs="+", required=True, metavar="NAME", help="all sites of the run")
    checked.add_argument(
        "--startup_kit", type=Path, required=True, metavar="KIT", help="the startup kit of a site or the server"
    )
    add_deep(checked)
    for one in (submitted, shown, stopped, collected):
        one.add_argument(
            "--startup_kit", type=Path, required=True, metavar="KIT", help="the administrator's startup kit"
        )
    for one in (stopped, collected):
        one.add_argument("--job", required=True, metavar="ID", help="the job's id; status shows it")
    stopped.add_argument("--now", action="store_true", help="do not wait for the checkpoint")
    for one in (collected, exported):
        one.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write to")
    add_min_sites(exported)
    for one in (tried, submitted):
        add_supervision(one)


def add_deep(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--deep", action="store_true", help="decode all images and labels of a site, as training does")


def run(options: argparse.Namespace) -> int:
    """
    Raises:
        bundle.data.DataError, ValueError, OSError: what was refused.
        bundle.flare.supervisor.GivenUp, bundle.flare.administrator.NotAllowed: see there.
    """
    if getattr(options, "over", "") == "process" and options.startup_kit is None:
        show_lines_with_time()
    else:
        require_flare()
    return options.does(options)


def begin_process() -> None:
    """What FLARE's processes inherit of this one, before torch is loaded."""
    from bundle.installation import config_dir, is_checkout

    if is_checkout():
        paths = [str(config_dir().parent), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))


def require_flare() -> None:
    """
    Show of FLARE what matters.

    Raises:
        ValueError: FLARE is not installed.
    """
    from importlib.util import find_spec

    if find_spec("nvflare") is None:
        raise ValueError("NVIDIA FLARE is not installed: pip install 'asyndgan-bundle[federation]'")
    show_lines_with_time()
    logging.getLogger("nvflare").setLevel(logging.CRITICAL)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def simulate(options: argparse.Namespace) -> int:
    from bundle.cli import trial

    return trial.simulate(options, overrides(options.set))


def poc(options: argparse.Namespace) -> int:
    from bundle.cli import trial

    return trial.poc(options, overrides(options.set))


def evaluate(options: argparse.Namespace) -> int:
    from bundle.cli import evaluation

    return evaluation.run(options, overrides(options.set))


def average(options: argparse.Namespace) -> int:
    from bundle.cli import averaging

    return averaging.run(options, overrides(options.set))


def prepare_kits(options: argparse.Namespace) -> int:
    from bundle.flare.kits import prepare_kit
    from bundle.flare.own_files import write_own_file

    for kit in options.kits:
        prepare_kit(kit)
        print(f"{kit}: wrote its rules, local/*.json")
        say_own_file(kit, write_own_file(kit))
    return 0


def say_own_file(kit: Path, written: Path | None) -> None:
    print(f"{kit}: {'kept its own file' if written is None else f'wrote {written}, fill it in'}")


def check(options: argparse.Namespace) -> int:
    from bundle.flare.preflight import check_kit

    return 0 if check_kit(options.startup_kit, options.deep) else 2


def submit(options: argparse.Namespace) -> int:
    from bundle.cli.jobs import make_supervisor, write_job
    from bundle.flare.administrator import Administrator

    given = overrides(options.set)
    administrator = Administrator(options.startup_kit)
    try:
        # asked in any case: a kit that gets no answer is no use to a supervisor, which would wait for one
        there = administrator.sites()
        sites = sorted(options.sites or sites_of_active_job(administrator) or there)
        if not sites:
            raise ValueError("no site is there; status shows them")
        with tempfile.TemporaryDirectory() as place:
            folder, min_sites = write_job(options, given, sites, Path(place))
            supervisor = make_supervisor(options, administrator, folder, sites, min_sites)
            if not options.supervise:
                print(f"job: {supervisor.start()}")
                return 0
            try:
                finished = supervisor.run()
            except KeyboardInterrupt:
                print(f"\n{not_watched(supervisor.jobs)}", file=sys.stderr)
                raise
    finally:
        administrator.close()
    print(f"\nfinished: job {finished}; collect --job {finished} gets the generator")
    return 0


def not_watched(jobs: list[str]) -> str:
    """What becomes of a training whose supervisor was interrupted."""
    again = "the same command watches over the training again"
    return f"job {jobs[-1]} goes on, and nobody watches it: {again}, stop --job {jobs[-1]} ends it" if jobs else again


def export(options: argparse.Namespace) -> int:
    from bundle.cli.jobs import write_job

    folder, _ = write_job(options, overrides(options.set), sorted(options.sites), options.output)
    print(f"{folder}\nnvflare job submit -j {shlex.quote(str(folder))} --startup-kit KIT")
    return 0


def sites_of_active_job(administrator: Administrator) -> list[str]:
    """All sites of the training that runs, those that are away too; none when there is none or it does not say."""
    abouts = (administrator.progress(job) for job in administrator.running())
    return next((list(about["sites"]) for about in abouts if about is not None), [])


def status(options: argparse.Namespace) -> int:
    from bundle.flare.administrator import Administrator

    administrator = Administrator(options.startup_kit)
    try:
        sites, running = administrator.sites(), administrator.running()
        print(f"sites: {', '.join(sorted(sites)) or 'none'}")
        for job in administrator.jobs():
            print(f"job {job['job_id']}  {job.get('job_name', '')}  {job.get('status', '')}")
            about = administrator.progress(job["job_id"]) if job["job_id"] in running else None
            if about is not None:
                print(f"    step {about['step']} of {about['steps']}, saved up to step {about['saved']}")
                for site, its in about["sites"].items():
                    print(f"    {site}: {', '.join(f'{key} {value}' for key, value in its.items())}")
    finally:
        administrator.close()
    return 0


def stop(options: argparse.Namespace) -> int:
    from bundle.flare.administrator import Administrator

    administrator = Administrator(options.startup_kit)
    try:
        print(end_job(administrator, options.job, options.now))
    finally:
        administrator.close()
    return 0


def end_job(administrator: Administrator, job: str, now: bool) -> str:
    """End a job, after its next checkpoint unless ``now``; returns what came of it: a finished training stays."""
    from bundle.flare.supervisor import ACTIVE

    about = None
    while not now:
        about = administrator.progress(job, pause=True)
        if about is not None and about["finished"]:
            return f"the training is finished; collect --job {job} gets the generator"
        # one that waits to be started has no process, and nothing to lose
        if about["paused"] if about is not None else job not in administrator.running():
            break
        time.sleep(2)
    ended = administrator.status(job)
    if ended not in ACTIVE:
        return f"the job had ended: {ended}"
    administrator.abort(job)
    end = time.monotonic() + 30
    while job in administrator.running() and time.monotonic() < end:
        time.sleep(1)
    return "ended" if about is None else f"ended after step {about['saved']}, which is saved"


def collect(options: argparse.Namespace) -> int:
    from bundle.flare.administrator import Administrator
    from bundle.flare.agreed import RESULTS

    administrator = Administrator(options.startup_kit)
    try:
        with tempfile.TemporaryDirectory() as place:
            folder = administrator.download(options.job, Path(place))
            results = [{name: path for name in names for path in sorted(folder.rglob(name))[:1]} for names in RESULTS]
            found = next((found for found, names in zip(results, RESULTS, strict=True) if set(found) == set(names)), {})
            if not found:
                raise ValueError(f"job {options.job} left neither a generator nor scores: it is not finished")
            options.output.mkdir(parents=True, exist_ok=True)
            for name, path in found.items():
                shutil.copyfile(path, options.output / name)
    finally:
        administrator.close()
    print("\n".join(str(options.output / name) for name in found))
    return 0
