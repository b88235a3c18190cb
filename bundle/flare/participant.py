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


def make_workflow(
    job: Job, local: Mapping[str, Any], given: Mapping[str, Any], own: Mapping[str, Path]
) -> DistributedGANWorkflow:
    """The training of a job at one participant, initialized; what is its own wins over the job."""
    said = settings(job, local, TRAIN, own)
    workflow = DistributedGANWorkflow(config_file=job.files(config_dir(), own), **given, **said)
    workflow.initialize()
    return workflow


def settings(job: Job, local: Mapping[str, Any], stage: str, own: Mapping[str, Path]) -> dict[str, Any]:
    """
    What the configs of a job are overridden with at a participant: what is its own wins. Sets the number of threads.

    Args:
        job: to do.
        local: the participant's own file.
        stage: of the job.
        own: paths of the configs that the participant has approved, by name.

    Raises:
        JobError: not a job for this package, or of another stage.
    """
    job.check(config_dir(), __version__, own)
    if job.stage != stage:
        raise JobError(f"a job of {job.stage}.yaml, expected one of {stage}.yaml")
    said = of_stage(stage, local)
    said.pop("segmenters", None)  # files, and nothing that configs know
    set_threads(said.pop("num_threads", None))
    log_threads()
    logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)
    # FLARE's logging stays as it is
    return {"bundle_root": str(config_dir().parent), "logging_file": False, **job.overrides, **said}
