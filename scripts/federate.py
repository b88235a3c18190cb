#!/usr/bin/env python
"""Train with the sites behind NVIDIA FLARE.

Examples:
    python scripts/federate.py simulate --config_file "['train.yaml','brats.yaml','small.yaml']" --dataset_dir DIR
    python scripts/federate.py poc --config_file "['train.yaml','brats.yaml','small.yaml']" --dataset_dir DIR
    python scripts/federate.py submit --startup_kit KIT --config_file "['train.yaml','brats.yaml','small.yaml']"
    python scripts/federate.py status --startup_kit KIT
"""

from __future__ import annotations

import argparse
import ast
import json
import logging
import os
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


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, allow_abbrev=False)

    simulate = command("simulate", "FLARE's simulator: one process per site, on this machine")
    poc = command("poc", "server and sites as they would run apart, on this machine: own certificates, TLS, sockets")
    submit = command("submit", "have a running FLARE server train")
    status = command("status", "which sites are there, which jobs, and how far they are")
    stop = command("stop", "end a job at its next checkpoint")
    collect = command("collect", "get the generator and the record of a finished job")
    for one in (simulate, poc, submit):
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
    submit.add_argument("--name", default="training", help="of the job (default training)")
    submit.add_argument("--sites", nargs="+", help="all sites of the run (default: those that are there)")
    for one in (submit, status, stop, collect):
        one.add_argument("--startup_kit", type=Path, required=True, help="the administrator's startup kit")
    for one in (stop, collect):
        one.add_argument("--job", required=True, help="the job's id; status shows it")
    stop.add_argument("--now", action="store_true", help="do not wait for the checkpoint")
    collect.add_argument("--output", type=Path, required=True, help="folder to write to")
    for one in (poc, submit):
        one.add_argument("--min_sites", type=int, help="sites without which nothing goes on (default: the configs')")
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


def write_participants(options: argparse.Namespace, run_dir: Path, overrides: dict) -> tuple[Path, list[str]]:
    """
    The own files of server and sites that share this machine; returns their folder and the names of the sites. All are
    those of whoever makes the job, and let it override what it does.
    """
    import yaml

    from bundle.data import load_datalist, write_site_lists
    from bundle.federation.job import PRIVATE_OVERRIDES
    from bundle.files import write_text
    from bundle.privacy import DEFAULT, ReleasePolicy

    def given(threads: int | None) -> dict:
        own = {"num_threads": threads, "device": options.device}
        return {key: value for key, value in own.items() if value is not None}

    policy = None if options.release_policy is None else yaml.safe_load(options.release_policy)
    ReleasePolicy.make(DEFAULT if policy is None else policy)
    folder = run_dir / "participants"
    lists = write_site_lists(load_datalist(options.dataset_dir), folder)
    for site, path in lists.items():
        own = {"dataset_dir": str(path.parent), "checkpoint_dir": str(folder / site / "checkpoints")}
        if policy is not None:
            own |= {"release_policy": policy, "allowed_overrides": sorted({*overrides, *PRIVATE_OVERRIDES})}
        write_text(folder / site / "site.yaml", yaml.safe_dump(given(options.num_threads) | own))
    (folder / "server").mkdir(parents=True, exist_ok=True)
    server = {"run_dir": str(run_dir)} | given(options.server_threads or options.num_threads)
    server |= {"public_conditions": str(options.public_conditions.resolve())} if options.public_conditions else {}
    write_text(folder / "server" / "server.yaml", yaml.safe_dump(server))
    return folder, sorted(lists)


def make_job(options: argparse.Namespace, overrides: dict):
    from bundle import __version__
    from bundle.federation.job import Job
    from bundle.installation import config_dir

    return Job.make(options.config_file, overrides, config_dir(), __version__)


def make_federated_job(options: argparse.Namespace, overrides: dict, sites: list[str]):
    """The job for these sites, and without how many of them nothing goes on: more than there are means all."""
    from bundle.installation import config_dir

    given = {} if options.min_sites is None else {"min_sites": options.min_sites}
    job = make_job(options, given | {"site_names": sites} | overrides)
    number = job.value("min_sites", config_dir())
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ValueError(f"min_sites: expected a whole number of at least 1, got {number!r}")
    return job, min(number, len(sites))


def local_run(options: argparse.Namespace, overrides: dict) -> tuple[Path, Path]:
    """Folders of a run on this machine, and of the setting's outputs in it."""
    run_dir = (options.run_dir or ROOT / "runs" / "federation").resolve()
    return run_dir, run_dir / f"seed_{overrides.get('seed', 0)}" / overrides.get("setting", "asyndgan") / "gan"


def simulate(options: argparse.Namespace, overrides: dict) -> int:
    from bundle.federation.flare import LOCAL_FILES, run_simulation

    job = make_job(options, overrides)
    run_dir, outputs = local_run(options, overrides)
    folder, sites = write_participants(options, run_dir, overrides)
    os.environ[LOCAL_FILES] = str(folder)
    run_simulation(job, sites, run_dir / "flare")
    if not (outputs / "record.json").is_file():
        raise RuntimeError(f"the training did not finish: {run_dir / 'flare'} holds the logs")
    show(outputs, run_dir / "flare")
    return 0


def poc(options: argparse.Namespace, overrides: dict) -> int:
    from bundle.federation.flare import (
        ADMINISTRATOR,
        LOCAL_FILES,
        SERVER,
        Administrator,
        Participants,
        export_job,
        prepare_kit,
        provision,
    )

    run_dir, outputs = local_run(options, overrides)
    folder, sites = write_participants(options, run_dir, overrides)
    job, min_sites = make_federated_job(options, overrides, sites)
    if (outputs / "record.json").is_file():
        logger.info("finished before")
        show(outputs, run_dir / "flare")
        return 0
    flare = run_dir / "flare"
    # keys and certificates last as long as the trial
    with tempfile.TemporaryDirectory(prefix="kits_", dir=make_folder(flare)) as place:
        kits = provision(Path(place), sites, free_port())
        environment = os.environ | {
            LOCAL_FILES: str(folder),
            "NVFLARE_CLIENT_OUTCOME_WAIT_TIMEOUT": "10",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        }
        for name in (SERVER, *sites):
            prepare_kit(kits[name])
        processes = {name: kits[name] for name in (SERVER, *sites)}
        administrator = Administrator(kits[ADMINISTRATOR])
        participants = Participants(
            processes, flare, environment, shown=[SERVER], revive=None if options.no_revive else 5.0
        )
        try:
            with participants:
                logger.info("server and %d sites are started; their logs are in %s", len(sites), flare)
                job_folder = export_job(job, "training", Path(place) / "job", min_sites)
                make_supervisor(options, administrator, job_folder, sites, min_sites, outputs, participants.look).run()
        finally:
            administrator.close()
            keep_logs(processes, flare)
    show(outputs, flare)
    return 0


def submit(options: argparse.Namespace, overrides: dict) -> int:
    from bundle.federation.flare import Administrator, export_job

    administrator = Administrator(options.startup_kit)
    try:
        sites = sorted(options.sites or sites_of_active_job(administrator) or administrator.sites())
        if not sites:
            raise ValueError("no site is there; status shows them")
        job, min_sites = make_federated_job(options, overrides, sites)
        with tempfile.TemporaryDirectory() as place:
            # by its name a job that is active is known to be of this training
            folder = export_job(job, f"{options.name}-{job.identity}", Path(place), min_sites)
            supervisor = make_supervisor(options, administrator, folder, sites, min_sites)
            if not options.supervise:
                print(f"job: {supervisor.start()}")
                return 0
            finished = supervisor.run()
    finally:
        administrator.close()
    print(f"\nfinished: job {finished}; collect --job {finished} gets the generator")
    return 0


def sites_of_active_job(administrator) -> list[str]:
    """All sites of the training that runs, those that are away too; none when there is none or it does not say."""
    abouts = (administrator.progress(job) for job in administrator.running())
    return next((list(about["sites"]) for about in abouts if about is not None), [])


def make_supervisor(
    options, administrator, folder: Path, sites: list[str], min_sites: int, outputs: Path | None = None, look=None
):
    from bundle.federation.flare import Policy, Supervisor

    interval = 2.0 if outputs else 5.0
    policy = Policy(
        max_restarts=options.max_restarts if options.supervise else 0, interval=interval, patience=options.patience
    )
    return Supervisor(
        administrator,
        folder,
        sites,
        min_sites,
        policy,
        None if outputs is None else (outputs / "record.json").is_file,
        look,
    )


def status(options: argparse.Namespace) -> int:
    from bundle.federation.flare import Administrator

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
    from bundle.federation.flare import Administrator

    administrator = Administrator(options.startup_kit)
    try:
        print(end_job(administrator, options.job, options.now))
    finally:
        administrator.close()
    return 0


def end_job(administrator, job: str, now: bool) -> str:
    """End a job, after its next checkpoint unless ``now``; returns what came of it: a finished training stays."""
    from bundle.federation.flare.supervisor import ACTIVE

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
    from bundle.federation.flare import RESULTS, Administrator

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


def make_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def free_port() -> int:
    from nvflare.fuel.utils.network_utils import get_open_ports

    return get_open_ports(1)[0]


def keep_logs(kits: dict[str, Path], folder: Path) -> None:
    """FLARE's own logs of every participant and job: the kits go, with their keys."""
    for name, kit in kits.items():
        for path in sorted(kit.rglob("*log*.txt")) + sorted(kit.rglob("audit*.log")):
            kept = folder / name / path.relative_to(kit)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, kept)


def show(outputs: Path, logs: Path) -> None:
    record = json.loads((outputs / "record.json").read_text(encoding="utf-8"))
    for site, about in record.get("sites", {}).items():
        print(f"{site}: {', '.join(f'{key} {value}' for key, value in about.items())}")
    wire = record["wire"]
    print(f"{wire['bytes_to_sites'] / 1e6:.1f} MB to and {wire['bytes_from_sites'] / 1e6:.1f} MB from the sites")
    print(f"generator: {outputs / 'generator.pt'}\nrecord:    {outputs / 'record.json'}\nlogs:      {logs}")


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
    from bundle.federation.flare import GivenUp
    from bundle.federation.job import JobError
    from scripts.run_experiments import overrides

    try:
        if options.command in ("simulate", "poc", "submit"):
            return globals()[options.command](options, overrides(options.set))
        return globals()[options.command](options)
    except (DataError, JobError, GivenUp, OSError, ValueError) as error:
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
