"""What server and sites have in common: a place for their own file, and the workflow made of it and a job."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nvflare.collab import collab

from bundle import __version__
from bundle.declarations.job import SERVER_KEYS, SITE_KEYS, TRAIN, Job, JobError, of_stage, read_local
from bundle.installation import config_dir
from bundle.site.release import DEFAULT
from bundle.text import SERVER
from bundle.threads import log_threads, set_threads
from bundle.workflows import DistributedGANWorkflow

__all__ = ["LOCAL_FILES", "SERVER", "local_folder", "make_workflow", "read_server", "read_site", "settings"]

LOCAL_FILES = "ASYNDGAN_LOCAL_FILES"
"""Environment variable: a folder with ``NAME/site.yaml`` for several participants of one machine."""
MIN_CASES = 5
"""Held-out cases that a site's sums of scores are over at least, unless the site says otherwise."""


def local_folder(name: str) -> Path:
    folder = os.environ.get(LOCAL_FILES)
    return Path(folder) / name if folder else Path(collab.workspace.get_site_config_dir())


def read_site(folder: Path) -> dict[str, Any]:
    """
    A site's own file in a folder, ``site.yaml``, with the defaults of what a job must not decide.

    Raises:
        JobError: unreadable, or a key is unknown or missing.
    """
    local = _read(folder / "site.yaml", SITE_KEYS, ("dataset_dir", "checkpoint_dir"))
    # a config that the job names may hold another one, and the policy is the site's own
    local.setdefault("release_policy", DEFAULT)
    local.setdefault("min_cases", MIN_CASES)
    local.setdefault("per_case", False)
    local.setdefault("allow_averaging", False)
    # one ledger for all trainings: what the site has let out adds up
    local.setdefault("release_dir", str(Path(local["checkpoint_dir"]) / "releases"))
    return local


def read_server(folder: Path) -> dict[str, Any]:
    """The server's own file in a folder, ``server.yaml``; errors are those of :func:`read_site`."""
    return _read(folder / "server.yaml", SERVER_KEYS, ("run_dir",))


def _read(path: Path, keys: frozenset[str], needed: tuple[str, ...]) -> dict[str, Any]:
    local = read_local(path, keys)
    if missing := [key for key in needed if not local.get(key)]:
        raise JobError(f"{path.name}: expected {' and '.join(missing)}, a folder")
    return local


def make_workflow(job: Job, local: Mapping[str, Any], given: Mapping[str, Any]) -> DistributedGANWorkflow:
    """The training of a job at one participant, initialized; what is its own wins over the job."""
    workflow = DistributedGANWorkflow(config_file=job.files(config_dir()), **given, **settings(job, local, TRAIN))
    workflow.initialize()
    return workflow


def settings(job: Job, local: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """
    What the configs of a job are overridden with at a participant: what is its own wins. Sets the number of threads.

    Raises:
        JobError: not a job for this package, or of another stage.
    """
    job.check(config_dir(), __version__)
    if job.stage != stage:
        raise JobError(f"a job of {job.stage}.yaml, expected one of {stage}.yaml")
    own = of_stage(stage, local)
    own.pop("segmenters", None)  # files, and nothing that configs know
    set_threads(own.pop("num_threads", None))
    log_threads()
    logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)
    # FLARE's logging stays as it is
    return {"bundle_root": str(config_dir().parent), "logging_file": False, **job.overrides, **own}
