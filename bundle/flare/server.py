"""The server's end: :class:`FlareServer` runs the training."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from nvflare.collab import collab

from bundle.declarations.job import Job
from bundle.flare.participant import SERVER, local_folder, make_workflow, read_server
from bundle.flare.watch import Watch

__all__ = ["RESULTS", "FlareServer"]

logger = logging.getLogger(__name__)

RESULTS = ("generator.pt", "record.json")
"""Files of a finished training that an administrator may collect. Conditions are not among them."""


class FlareServer:
    """
    The server's end: runs the training of ``train.yaml`` as it would run in one process.

    Args:
        job: :meth:`Job.to_dict` of the training.
    """

    def __init__(self, job: dict) -> None:
        self.job = job

    @collab.main
    def run(self) -> None:
        local = read_server(local_folder(SERVER))
        workflow = make_workflow(Job.from_dict(self.job), local, {})
        watch = Watch(workflow)
        try:
            workflow.run()
        except Exception as error:
            # FLARE writes it out at length in its own log
            logger.error("the training stopped: %s", error)
            raise
        finally:
            workflow.make("federation_def").close()
        workflow.finalize()
        if not workflow.finished:
            raise RuntimeError("the training ended without its record")
        record = Path(workflow.make("finished"))
        results = Path(collab.workspace.get_result_root(collab.fl_ctx.get_job_id()))
        for name in RESULTS:
            shutil.copyfile(record.with_name(name), results / name)
        watch.say_goodbye()
