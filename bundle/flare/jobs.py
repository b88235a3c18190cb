"""FLARE jobs that carry a training: exported for a running federation, or run in FLARE's simulator."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

from nvflare.collab import CollabRecipe
from nvflare.fuel.utils import log_utils
from nvflare.recipe import SimEnv

from bundle.declarations.job import Job
from bundle.files import write_json
from bundle.flare.kits import CLASS_RULES
from bundle.flare.logs import quiet
from bundle.flare.server import FlareServer
from bundle.flare.site import FlareSite

__all__ = ["export_job", "run_simulation"]

NAME = "training"
START_TIMEOUT = 600.0
"""Seconds that sites may take to prepare their data."""


class _InstalledCode(CollabRecipe):
    """
    A recipe whose job carries no source files: FLARE takes any as code from outside (BYOC), which no list of classes
    holds for. And it would put them on the path of imports by their bare names, of which ``site`` is Python's own.
    """

    def finalize(self):
        self._job.set_app_packages([__name__.partition(".")[0]])
        return super().finalize()

    @staticmethod
    def _user_source_entries(objs: Sequence[object]) -> list:
        return []


def _recipe(job: Job, name: str, min_sites: int) -> CollabRecipe:
    """The FLARE job of a training. It holds names of installed classes only: sites may forbid code from outside."""
    content = job.to_dict()
    return _InstalledCode(
        job_name=name,
        server=FlareServer(content),
        client=FlareSite(content),
        sync_task_timeout=START_TIMEOUT,
        min_clients=min_sites,
    )


def export_job(job: Job, name: str, folder: Path, min_sites: int = 1) -> Path:
    """
    Write a FLARE job without code to a folder, to be submitted as often as needed.

    Args:
        job: what to train.
        name: of the FLARE job.
        folder: to write to; an older job of that name in it is replaced.
        min_sites: sites that must be there for it to start.

    Returns:
        The job's own folder in ``folder``.
    """
    shutil.rmtree(folder / name, ignore_errors=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it takes the digest of the configs for a password
        _recipe(job, name, min_sites).export(str(folder))
    return folder / name


def run_simulation(job: Job, sites: Sequence[str], workspace: Path) -> None:
    """
    Run a job in FLARE's simulator: a process for the server and one for each site, on this machine. The job is as it
    would be submitted, and participants allow the same classes.

    Args:
        job: what to train.
        sites: their names; their own files are where :data:`LOCAL_FILES` says.
        workspace: folder of FLARE's logs.

    Raises:
        RuntimeError: when the simulator fails.
    """
    workspace.mkdir(parents=True, exist_ok=True)
    # what every participant is given for its own rules
    write_json(workspace / NAME / "local" / "resources.json", CLASS_RULES)
    config = workspace / "log_config.json"
    default = Path(log_utils.__file__).with_name(log_utils.DEFAULT_LOG_JSON)
    config.write_text(json.dumps(quiet(json.loads(default.read_text(encoding="utf-8")))), encoding="utf-8")
    environment = SimEnv(
        clients=list(sites), num_threads=len(sites), workspace_root=str(workspace), log_config=str(config)
    )
    _recipe(job, NAME, len(sites)).run(environment)
