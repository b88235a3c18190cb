#!/usr/bin/env python
"""Train with the sites behind NVIDIA FLARE.

Examples:
    python scripts/federate.py simulate --config_file "['train.yaml','brats.yaml','small.yaml']" --dataset_dir DIR
    python scripts/federate.py poc --config_file "['train.yaml','brats.yaml','small.yaml']" --dataset_dir DIR
    python scripts/federate.py check --startup_kit KIT
    python scripts/federate.py submit --startup_kit KIT --config_file "['train.yaml','brats.yaml','small.yaml']"
    python scripts/federate.py status --startup_kit KIT
"""

from __future__ import annotations

import argparse
import ast
import logging
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

logger = logging.getLogger("bundle.federate")


def config_names(text: str) -> list[str]:
    """
    Names of configs, from a list as MONAI's ``--config_file`` takes it; flare.yaml comes last, whether or not it is
    among them. A job carries names only: a path has to be that of a config that every participant has.
    """
    from bundle.installation import config_dir

    try:
        files = [Path(file) for file in (ast.literal_eval(text) if text.startswith("[") else [text])]
    except (ValueError, SyntaxError, TypeError):
        raise argparse.ArgumentTypeError(f"{text}: expected a list such as ['train.yaml','brats.yaml']") from None
    for file in files:
        if file.name != str(file) and file.resolve().parent != config_dir():
            raise argparse.ArgumentTypeError(
                f"{file}: expected the name of a config, or a path to one in {config_dir()}: a job carries no files"
            )
    return [*(file.name for file in files if file.name != "flare.yaml"), "flare.yaml"]


def job_name(text: str) -> str:
    """The name of a job: it becomes that of a folder, and a part of FLARE's command lines."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise argparse.ArgumentTypeError(f"{text!r}, expected 1 to 64 letters A to Z, digits, '-' and '_'")
    return text


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, allow_abbrev=False)

    simulate = command("simulate", "FLARE's simulator: one process per site, on this machine")
    poc = command("poc", "server and sites as they would run apart, on this machine: own certificates, TLS, sockets")
    check = command("check", "whether a site's or the server's startup kit is ready to be started")
    submit = command("submit", "have a running FLARE server train")
    export = command("export", "write the job that submit would submit, for `nvflare job submit`")
    status = command("status", "which sites are there, which jobs, and how far they are")
    stop = command("stop", "end a job at its next checkpoint")
    collect = command("collect", "get the generator and the record of a finished job")
    for one in (simulate, poc, submit, export):
        one.add_argument("--config_file", type=config_names, required=True, help="configs of configs/, as for MONAI")
        one.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="config keys, plain values")
    for one in (simulate, poc):
        one.add_argument("--dataset_dir", type=Path, required=True, help="folder of datalist.json with all sites")
        one.add_argument("--run_dir", type=Path, help="folder of the run (default runs/federation)")
        one.add_argument("--num_threads", type=int, help="threads of the server and of each site")
        one.add_argument("--server_threads", type=int, help="threads of the server alone: it computes while sites wait")
        one.add_argument("--device", help="of the server and of each site")
        one.add_argument("--release_policy", help="of each site, as in a site.yaml (default guarded)")
        one.add_argument("--public_conditions", type=Path, help="for sites that let none out, as in a server.yaml")
    poc.add_argument("--no_revive", action="store_true", help="leave a participant that died alone")
    for one in (submit, export):
        one.add_argument("--name", type=job_name, default="training", help="of the job (default training)")
    submit.add_argument("--sites", nargs="+", help="all sites of the run (default: those that are there)")
    export.add_argument("--sites", nargs="+", required=True, help="all sites of the run")
    check.add_argument("--startup_kit", type=Path, required=True, help="the startup kit of a site or the server")
    check.add_argument("--deep", action="store_true", help="decode all images and labels of a site, as training does")
    for one in (submit, status, stop, collect):
        one.add_argument("--startup_kit", type=Path, required=True, help="the administrator's startup kit")
    for one in (stop, collect):
        one.add_argument("--job", required=True, help="the job's id; status shows it")
    stop.add_argument("--now", action="store_true", help="do not wait for the checkpoint")
    for one in (collect, export):
        one.add_argument("--output", type=Path, required=True, help="folder to write to")
    for one in (poc, submit, export):
        one.add_argument("--min_sites", type=int, help="sites without which nothing goes on (default: the configs')")
    for one in (poc, submit):
        one.add_argument(
            "--supervise",
            action=argparse.BooleanOptionalAction,
            default=True,
            help="submit the job again when it ends without success, or when a site comes back",
        )
        one.add_argument("--max_restarts", type=int, default=5, help="in a row without a new checkpoint (default 5)")
        one.add_argument(
            "--patience", type=float, default=600, help="seconds without the server or enough sites (default 600)"
        )
    return parser.parse_args(arguments)


def simulate(options: argparse.Namespace, overrides: dict) -> int:
    from scripts.federation_trial import simulate

    return simulate(options, overrides)


def poc(options: argparse.Namespace, overrides: dict) -> int:
    from scripts.federation_trial import poc

    return poc(options, overrides)


def check(options: argparse.Namespace) -> int:
    from bundle.flare.preflight import check_kit

    return 0 if check_kit(options.startup_kit, options.deep) else 2


def submit(options: argparse.Namespace, overrides: dict) -> int:
    from bundle.flare.administrator import Administrator
    from scripts.federation_jobs import make_supervisor, write_job

    administrator = Administrator(options.startup_kit)
    try:
        # asked in any case: a kit that gets no answer is no use to a supervisor, which would wait for one
        there = administrator.sites()
        sites = sorted(options.sites or sites_of_active_job(administrator) or there)
        if not sites:
            raise ValueError("no site is there; status shows them")
        with tempfile.TemporaryDirectory() as place:
            folder, min_sites = write_job(options, overrides, sites, Path(place))
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


def export(options: argparse.Namespace, overrides: dict) -> int:
    from scripts.federation_jobs import write_job

    folder, _ = write_job(options, overrides, sorted(options.sites), options.output)
    print(f"{folder}\nnvflare job submit -j {folder} --startup-kit KIT")
    return 0


def sites_of_active_job(administrator) -> list[str]:
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


def end_job(administrator, job: str, now: bool) -> str:
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
    from bundle.flare.server import RESULTS

    administrator = Administrator(options.startup_kit)
    try:
        with tempfile.TemporaryDirectory() as place:
            folder = administrator.download(options.job, Path(place))
            found = {name: path for name in RESULTS for path in sorted(folder.rglob(name))[:1]}
            if set(found) != set(RESULTS):
                raise ValueError(f"job {options.job} left no generator: its training is not finished")
            options.output.mkdir(parents=True, exist_ok=True)
            for name, path in found.items():
                shutil.copyfile(path, options.output / name)
    finally:
        administrator.close()
    print("\n".join(str(options.output / name) for name in RESULTS))
    return 0


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    warnings.filterwarnings("ignore")
    from bundle.text import console

    logging.basicConfig(
        level=logging.INFO, handlers=[console("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S")]
    )
    logging.getLogger("nvflare").setLevel(logging.CRITICAL)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    from bundle.data import DataError
    from bundle.declarations.job import JobError
    from bundle.flare.administrator import NotAllowed
    from bundle.flare.supervisor import GivenUp
    from scripts.run_experiments import overrides

    try:
        if options.command in ("simulate", "poc", "submit", "export"):
            return globals()[options.command](options, overrides(options.set))
        return globals()[options.command](options)
    except (DataError, JobError, GivenUp, NotAllowed, OSError, ValueError) as error:
        print(f"\n{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    # before torch is loaded: where processes share cores, a thread that spins for long while it waits takes them from
    # the others, and one that sleeps at once loses what a second thread gains
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        status_code = main()
    except SystemExit as error:
        status_code = error.code if isinstance(error.code, int) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status_code)  # FLARE leaves threads behind that may never end
