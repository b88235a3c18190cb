"""What server and sites have in common: a place for their own file, and the workflow made of it and a job."""

from __future__ import annotations

import logging
import os
import pydoc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from nvflare.collab import collab

from bundle import __version__
from bundle.federation.job import Job
from bundle.installation import config_dir

__all__ = ["LOCAL_FILES", "SERVER", "local_folder", "make_workflow"]

LOCAL_FILES = "ASYNDGAN_LOCAL_FILES"
"""Environment variable: a folder with ``NAME/site.yaml`` for several participants of one machine."""
SERVER = "server"
"""The server's name among the participants."""
WORKFLOW = "bundle.workflows.DistributedGANWorkflow"


def local_folder(name: str) -> Path:
    folder = os.environ.get(LOCAL_FILES)
    return Path(folder) / name if folder else Path(collab.workspace.get_site_config_dir())


def make_workflow(job: Job, local: Mapping[str, Any], given: Mapping[str, Any]):
    job.check(config_dir(), __version__)
    own = dict(local)
    torch.set_num_threads(int(own.pop("num_threads", torch.get_num_threads())))
    logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)
    # found by its name: the federation knows no workflows
    workflow = pydoc.locate(WORKFLOW)(
        config_file=job.files(config_dir()),
        bundle_root=str(config_dir().parent),
        logging_file=False,  # FLARE's logging stays as it is
        **job.overrides,
        **given,
        **own,
    )
    workflow.initialize()
    return workflow
