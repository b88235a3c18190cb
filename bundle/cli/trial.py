"""A federation on this machine, as a trial: FLARE's simulator, or server and sites with certificates of their own."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundle.cli.jobs import job_configs, make_federated_job, make_job, make_supervisor

if TYPE_CHECKING:
    from bundle.declarations.job import Job

__all__ = ["poc", "run_here", "show", "simulate", "write_page", "write_participants"]

logger = logging.getLogger("bundle.federate")


def write_participants(
    options: argparse.Namespace, folder: Path, overrides: dict, rules: dict[str, Any], server: dict[str, Any]
) -> list[str]:
    """
    The own files of server and sites that share this machine; returns the names of the sites. All are those of whoever
    makes the job, and let it override what it does.

    Args:
        options: of the command.
        folder: to write to, a folder for each participant.
        overrides: of the job.
        rules: what every site says for itself as well; with ``min_cases`` it has held-out cases.
        server: what the server says for itself.
    """
    import yaml

    from bundle.composition import task_files
    from bundle.config_files import ConfigFiles
    from bundle.data import load_datalist, write_site_lists
    from bundle.declarations.job import PRIVATE_OVERRIDES
    from bundle.declarations.own_configs import FOLDER
    from bundle.files import write_text
    from bundle.flare.names import check_folder, check_site_names
    from bundle.site.release import DEFAULT, ReleasePolicy

    def given(threads: int | None) -> dict:
        own = {"num_threads": threads, "device": options.device}
        return {key: value for key, value in own.items() if value is not None}

    def approve(name: str) -> None:
        """What the job says is approved: everybody here is who makes it."""
        shutil.rmtree(folder / name / FOLDER, ignore_errors=True)
        for config, path in configs.items():
            make_folder(folder / name / FOLDER)
            shutil.copyfile(path, folder / name / FOLDER / config)

    configs = job_configs(options)[1]
    # everybody here is who makes the job: the task's own policy will do for all
    of_task = ConfigFiles.load_config_files(task_files(options.task)).get("release_policy")
    policy = of_task if options.release_policy is None else yaml.safe_load(options.release_policy)
    ReleasePolicy.make(DEFAULT if policy is None else policy)
    check_folder(folder, "--run_dir")
    check_folder(Path(sys.executable), "Python")
    datalist = load_datalist(options.dataset_dir)
    check_site_names(datalist.sites)
    lists = write_site_lists(datalist, folder, held_out="min_cases" in rules)
    for site, path in lists.items():
        own: dict[str, Any] = {
            "dataset_dir": str(path.parent),
            "checkpoint_dir": str(_checkpoints(options, folder, site)),
        }
        own |= rules
        if policy is not None:
            own |= {"release_policy": policy, "allowed_overrides": sorted({*overrides, *PRIVATE_OVERRIDES})}
        approve(site)
        write_text(folder / site / "site.yaml", yaml.safe_dump(given(options.threads) | own))
    make_folder(folder / "server")
    approve("server")
    write_text(
        folder / "server" / "server.yaml",
        yaml.safe_dump(given(options.server_threads or options.threads) | server),
    )
    return sorted(lists)


def _checkpoints(options: argparse.Namespace, folder: Path, site: str) -> Path:
    """A site's own: it has them, and its ledger, where they are since the first training."""
    earlier = getattr(options, "earlier", None)
    before = None if earlier is None else earlier.resolve().parents[1] / folder.name / site
    if before is not None and (before / "site.yaml").is_file():
        import yaml

        return Path(yaml.safe_load((before / "site.yaml").read_text(encoding="utf-8"))["checkpoint_dir"])
    return folder / site / "checkpoints"


def write_training(options: argparse.Namespace, run_dir: Path, overrides: dict) -> tuple[Path, list[str]]:
    """The participants of a training: their folder, and the names of the sites."""
    server = {"run_dir": str(run_dir)}
    server |= {"public_conditions": str(options.public_conditions.resolve())} if options.public_conditions else {}
    server |= {"earlier": str(options.earlier.resolve())} if options.earlier else {}
    folder = run_dir / "participants"
    sites = write_participants(options, folder, overrides, {}, server)
    _write_secrets(folder, sites, overrides.get("seed", 0))
    return folder, sites


def _write_secrets(folder: Path, sites: list[str], seed: int) -> None:
    """Everybody here is one person, whose trial has the bits of a run in one process."""
    from bundle.flare.own_files import read_site
    from bundle.site.release import ReleasePolicy
    from bundle.site.release.secret import seeded_secret, site_secret

    for site in sites:
        own = read_site(folder / site)
        if ReleasePolicy.make(own["release_policy"]).repeatable:
            site_secret(make_folder(Path(own["release_dir"])) / f"{site}.secret", seeded_secret(seed, site))


def local_run(options: argparse.Namespace, overrides: dict) -> tuple[Path, Path]:
    """Folders of a run on this machine, and of the setting's outputs in it."""
    run_dir = (options.run_dir or Path("runs") / "federation").resolve()
    return run_dir, run_dir / f"seed_{overrides.get('seed', 0)}" / overrides.get("setting", "asyndgan") / "gan"


def simulate(options: argparse.Namespace, overrides: dict) -> int:
    from bundle.flare.jobs import run_simulation
    from bundle.flare.participant import LOCAL_FILES

    job = make_job(options, overrides)
    run_dir, outputs = local_run(options, overrides)
    folder, sites = write_training(options, run_dir, overrides)
    os.environ[LOCAL_FILES] = str(folder)
    run_simulation(job, sites, run_dir / "flare")
    if not (outputs / "record.json").is_file():
        raise RuntimeError(f"the training did not finish: {run_dir / 'flare'} holds the logs")
    show(outputs, run_dir)
    return 0


def poc(options: argparse.Namespace, overrides: dict) -> int:
    run_dir, outputs = local_run(options, overrides)
    folder, sites = write_training(options, run_dir, overrides)
    job, min_sites = make_federated_job(options, overrides, sites)
    if (outputs / "record.json").is_file():
        logger.info("finished before")
    else:
        run_apart(options, job, sites, min_sites, folder, run_dir / "flare", outputs / "record.json")
    show(outputs, run_dir)
    return 0


def run_apart(
    options: argparse.Namespace, job: Job, sites: list[str], min_sites: int, folder: Path, flare: Path, last: Path
) -> None:
    """
    Run a job with server and sites as processes of this machine, with certificates of their own.

    Args:
        options: of the command.
        job: what to do.
        sites: their names.
        min_sites: without how many of them nothing goes on.
        folder: of the participants' own files.
        flare: folder for logs.
        last: the file with which the job is done.
    """
    from bundle.flare.administrator import Administrator
    from bundle.flare.jobs import export_job
    from bundle.flare.kits import ADMINISTRATOR, free_port, prepare_kit, provision
    from bundle.flare.logs import keep_logs
    from bundle.flare.participant import LOCAL_FILES, SERVER
    from bundle.flare.processes import Participants

    # keys and certificates last as long as the trial
    with tempfile.TemporaryDirectory(prefix="kits_", dir=make_folder(flare)) as place:
        kits = provision(Path(place), sites, free_port())
        environment = os.environ | {
            LOCAL_FILES: str(folder),
            "NVFLARE_CLIENT_OUTCOME_WAIT_TIMEOUT": "10",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        }
        for name in (SERVER, *sites):
            prepare_kit(kits[name], check=False)  # what there is to check was checked
        processes = {name: kits[name] for name in (SERVER, *sites)}
        administrator = Administrator(kits[ADMINISTRATOR])
        participants = Participants(
            processes, flare, environment, shown=[SERVER], revive=None if options.no_revive else 5.0
        )
        try:
            with participants:
                logger.info("server and %d sites are started; their logs are in %s", len(sites), flare)
                job_folder = export_job(job, job.stage, Path(place) / "job", min_sites)
                make_supervisor(options, administrator, job_folder, sites, min_sites, last, participants.look).run()
        finally:
            administrator.close()
            keep_logs(processes, flare)


def run_here(
    options: argparse.Namespace,
    overrides: dict[str, Any],
    stage: str,
    place: Path,
    rules: dict[str, Any],
    server: dict[str, Any],
    last: Path,
) -> None:
    """
    Run a job of a stage with sites of this machine, ``--over`` FLARE's simulator or as processes with certificates.

    Args:
        options: of the command.
        overrides: of the job.
        stage: of the job.
        place: folder for the participants' own files, and for logs.
        rules, server: see :func:`write_participants`.
        last: the file with which the job is done.

    Raises:
        RuntimeError: it is not there at the end.
    """
    from bundle.flare.jobs import run_simulation
    from bundle.flare.participant import LOCAL_FILES

    folder, flare = place / "participants", place / "flare"
    sites = write_participants(options, folder, overrides, rules, server)
    job, min_sites = make_federated_job(options, overrides, sites, stage)
    last.unlink(missing_ok=True)
    if options.over == "poc":
        return run_apart(options, job, sites, min_sites, folder, flare, last)
    os.environ[LOCAL_FILES] = str(folder)
    run_simulation(job, sites, flare)
    if not last.is_file():
        raise RuntimeError(f"the job did not finish: {flare} holds the logs")


def make_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def show(outputs: Path, run_dir: Path) -> None:
    """What came of a trial: who answered and what crossed, here and as a page."""
    record = json.loads((outputs / "record.json").read_text(encoding="utf-8"))
    for site, about in record.get("sites", {}).items():
        print(f"{site}: {', '.join(f'{key} {value}' for key, value in about.items())}")
    wire = record["wire"]
    print(f"{wire['bytes_to_sites'] / 1e6:.1f} MB to and {wire['bytes_from_sites'] / 1e6:.1f} MB from the sites")
    print(
        f"generator: {outputs / 'generator.pt'}\nrecord:    {outputs / 'record.json'}\nlogs:      {run_dir / 'flare'}"
    )
    print(f"page:      {write_page(outputs, record, run_dir)}")


def write_page(outputs: Path, record: dict, run_dir: Path) -> Path:
    """``report.html`` of a training without segmenters: its losses, who answered, and the bytes by site."""
    from bundle.report import PageFigure, loss_curves, read_scalars, write_report

    curves = run_dir / "figures" / "losses.png"
    curves.parent.mkdir(exist_ok=True)
    loss_curves({"AsynDGAN": read_scalars(outputs / "events")}, curves)
    results = {key: record[key] for key in ("wire", "sites", "seconds", "policy") if key in record}
    results |= {"name": "Federation on this machine", "train": {"asyndgan": record}, "settings": {}}
    notes = (
        "This run trained the generator behind NVIDIA FLARE, with server and sites as processes of their own. It made "
        "no synthetic data set and trained no segmentation model."
    )
    figures = [PageFigure(curves, "Losses", "Per site and term.", group="losses", pages="both")]
    path = run_dir / "report.html"
    return write_report(path, results, figures, notes, results_path=str(outputs.relative_to(run_dir) / "record.json"))
