"""From the words of scripts/federate.py to a job, and who watches over it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

__all__ = ["make_federated_job", "make_job", "make_supervisor", "write_job"]


def make_job(options: argparse.Namespace, overrides: dict):
    from bundle import __version__
    from bundle.declarations.job import Job
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


def write_job(options: argparse.Namespace, overrides: dict, sites: list[str], folder: Path) -> tuple[Path, int]:
    """A job as a folder for FLARE in ``folder``, and without how many sites nothing goes on."""
    from bundle.flare.jobs import export_job
    from bundle.flare.names import check_site_names

    check_site_names(sites)
    job, min_sites = make_federated_job(options, overrides, sites)
    # by its name a job that is active is known to be of this training
    return export_job(job, f"{options.name}-{job.identity}", folder, min_sites), min_sites


def make_supervisor(
    options: argparse.Namespace,
    administrator,
    folder: Path,
    sites: list[str],
    min_sites: int,
    outputs: Path | None = None,
    look: Callable[[], None] | None = None,
):
    """A supervisor of a job; ``outputs`` of one whose server is on this machine, and says itself how far it is."""
    from bundle.flare.supervisor import Policy, Supervisor

    policy = Policy(
        max_restarts=options.max_restarts if options.supervise else 0,
        interval=2.0 if outputs else 5.0,
        patience=options.patience,
        report=None if outputs else Policy.report,
    )
    finished = None if outputs is None else (outputs / "record.json").is_file
    return Supervisor(administrator, folder, sites, min_sites, policy, finished, look)
