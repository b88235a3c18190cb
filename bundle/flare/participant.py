"""What server and sites have in common: a place for their own file, and the workflow made of it and a job."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nvflare.collab import collab

from bundle import __version__
from bundle.declarations.job import TRAIN, Job, JobError, of_stage
from bundle.installation import config_dir
from bundle.text import SERVER
from bundle.threads import log_threads, set_threads
from bundle.workflows import DistributedGANWorkflow

__all__ = ["LOCAL_FILES", "SERVER", "local_folder", "make_workflow", "settings"]

LOCAL_FILES = "ASYNDGAN_LOCAL_FILES"
"""Environment variable: a folder with ``NAME/site.yaml`` for several participants of one machine."""


def local_folder(name: str) -> Path:
    folder = os.environ.get(LOCAL_FILES)
    return Path(folder) / name if folder else Path(collab.workspace.get_site_config_dir())


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
