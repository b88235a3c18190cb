"""From the words of ``asyndgan federate`` to a job, and who watches over it."""

from __future__ import annotations

import argparse
import logging
import math
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundle.cli.options import profile_of
from bundle.composition import locate

if TYPE_CHECKING:
    from bundle.declarations.job import Job
    from bundle.flare.administrator import Administrator
    from bundle.flare.supervisor import Supervisor

__all__ = ["job_configs", "make_federated_job", "make_job", "make_supervisor", "run_at_hospitals", "write_job"]

logger = logging.getLogger("bundle.federate")

LAST = "flare.yaml"
"""Comes last in every training, whether or not it is asked for."""


def job_configs(options: argparse.Namespace, stage: str = "train") -> tuple[list[str], dict[str, Path]]:
    """
    The configs of a job, which carries their names, and digests of those that are none of this package's.

    Args:
        options: ``task``, ``profile`` and ``config``.
        stage: ``train``, or the config that another one begins with.

    Returns:
        Names in their order; paths by name of those that every participant is to approve.

    Raises:
        ValueError: two files of the same name.
        FileNotFoundError: one is missing.
    """
    from bundle.installation import config_dir

    names: list[str] = []
    own: dict[str, Path] = {}
    # what they are based on, if anything, every participant has as well
    for name in filter(None, (stage, options.task, profile_of(options), *options.config)):
        file = Path(locate(name)).resolve()
        if file.parent != config_dir():
            if file.name in names:
                raise ValueError(f"{file}: the job names another config {file.name}; give this file another name")
            own[file.name] = file
        names.append(file.name)
    return (names if stage != "train" else [*(name for name in names if name != LAST), LAST]), own


def make_job(options: argparse.Namespace, overrides: dict[str, Any], stage: str = "train") -> Job:
    """
    The job of a stage.

    Raises:
        bundle.declarations.job.JobError: see :meth:`bundle.declarations.job.Job.make`.
        ValueError: see :func:`job_configs`.
    """
    from bundle import __version__
    from bundle.declarations.job import Job
    from bundle.installation import config_dir

    names, own = job_configs(options, stage)
    return Job.make(names, overrides, config_dir(), __version__, own)


def make_federated_job(
    options: argparse.Namespace, overrides: dict[str, Any], sites: list[str], stage: str = "train"
) -> tuple[Job, int]:
    """The job for these sites, and without how many of them nothing goes on: more than there are means all."""
    from bundle.installation import config_dir

    given = {} if options.min_sites is None else {"min_sites": options.min_sites}
    job = make_job(options, given | {"site_names": sites} | overrides, stage)
    number = job.value("min_sites", config_dir(), job_configs(options, stage)[1])
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ValueError(f"min_sites: expected a whole number of at least 1, got {number!r}")
    return job, min(number, len(sites))


def write_job(
    options: argparse.Namespace, overrides: dict[str, Any], sites: list[str], folder: Path, stage: str = "train"
) -> tuple[Path, int]:
    """A job as a folder for FLARE in ``folder``, and without how many sites nothing goes on."""
    from bundle.flare.jobs import export_job
    from bundle.flare.names import check_site_names

    check_site_names(sites)
    job, min_sites = make_federated_job(options, overrides, sites, stage)
    for config, digest in job.approved.items():
        logger.info("%s is to be approved by every site and the server, in local/configs/: sha256 %s", config, digest)
    # by its name a job that is active is known to be this one
    return export_job(job, f"{options.name}-{job.identity}", folder, min_sites), min_sites


def run_at_hospitals(
    options: argparse.Namespace, overrides: dict[str, Any], stage: str, files: Mapping[str, Path]
) -> None:
    """
    Have the hospitals that ``--startup_kit`` reaches do a job, and fetch what it leaves.

    Args:
        options: of the command.
        overrides: of the job.
        stage: of the job.
        files: where to write what, by its name at the server.

    Raises:
        ValueError: no site is there.
        RuntimeError: the job left something else.
    """
    from bundle.flare.administrator import Administrator

    administrator = Administrator(options.startup_kit)
    try:
        sites = sorted(options.sites or administrator.sites())
        if not sites:
            raise ValueError("no site is there; status shows them")
        with tempfile.TemporaryDirectory() as place:
            folder, min_sites = write_job(options, overrides, sites, Path(place), stage)
            job = make_supervisor(options, administrator, folder, sites, min_sites).run()
            downloaded = administrator.download(job, Path(place))
            found = {name: path for name in files for path in sorted(downloaded.rglob(name))[:1]}
            if found.keys() != files.keys():
                raise RuntimeError(f"job {job} left no results; its log at the server says why")
            for name, path in files.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(found[name], path)
    finally:
        administrator.close()


def make_supervisor(
    options: argparse.Namespace,
    administrator: Administrator,
    folder: Path,
    sites: list[str],
    min_sites: int,
    last: Path | None = None,
    look: Callable[[], None] | None = None,
) -> Supervisor:
    """A supervisor of a job; ``last`` is what one leaves whose server is on this machine."""
    from bundle.flare.supervisor import Policy, Supervisor

    policy = Policy(max_restarts=options.max_restarts if options.supervise else 0, patience=options.patience)
    if last is not None:
        policy = replace(policy, interval=2.0, report=math.inf)
    finished = None if last is None else last.is_file
    return Supervisor(administrator, folder, sites, min_sites, policy, finished, look)
