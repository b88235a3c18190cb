"""The server's end: :class:`FlareServer` runs the training, the evaluation or the averaging."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nvflare.collab import collab

from bundle.declarations.job import AVERAGE, SCORE, Job
from bundle.declarations.own_configs import own_configs
from bundle.flare.agreed import TRAINED
from bundle.flare.federation import FlareFederation
from bundle.flare.own_files import read_server
from bundle.flare.participant import SERVER, local_folder, make_workflow, settings
from bundle.flare.watch import TrainingWatch, Watch
from bundle.installation import config_dir
from bundle.workflows.averaging import proximal_weight
from bundle.workflows.averaging_rounds import Averaging, average_over
from bundle.workflows.scoring import find_segmenters, make_evaluation, participant_workflow

__all__ = ["FlareServer"]

logger = logging.getLogger(__name__)


class FlareServer:
    """
    The server's end: runs the training of ``train.yaml`` as it would run in one process, has the sites score, or
    averages what they train.

    Args:
        job: :meth:`Job.to_dict`.
    """

    def __init__(self, job: dict) -> None:
        self.job = job

    @collab.main
    def run(self) -> None:
        folder = local_folder(SERVER)
        local, own = read_server(folder), own_configs(folder)
        job = Job.from_dict(self.job)
        try:
            watch, files = {SCORE: _evaluate, AVERAGE: _average}.get(job.stage, _train)(job, local, own)
        except Exception as error:
            # FLARE writes it out at length in its own log
            logger.error("the job stopped: %s", error)
            raise
        results = Path(collab.workspace.get_result_root(collab.fl_ctx.get_job_id()))
        for file in files:
            shutil.copyfile(file, results / file.name)
        watch.say_goodbye()


def _train(job: Job, local: Mapping[str, Any], own: Mapping[str, Path]) -> tuple[Watch, list[Path]]:
    workflow = make_workflow(job, local, {}, own)
    watch = TrainingWatch(workflow)
    try:
        workflow.run()
    finally:
        workflow.make("federation_def").close()
    workflow.finalize()
    if not workflow.finished:
        raise RuntimeError("the training ended without its record")
    record = Path(workflow.make("finished"))
    return watch, [record.with_name(name) for name in TRAINED]


def _evaluate(job: Job, local: Mapping[str, Any], own: Mapping[str, Path]) -> tuple[Watch, list[Path]]:
    run_dir = Path(local["run_dir"])
    segmenters = local.get("segmenters") or find_segmenters(run_dir, job.value("seed", config_dir(), own))
    said = settings(job, local, SCORE, own)
    workflow = participant_workflow(job.files(config_dir(), own), "", said)
    federation = _federation(workflow, workflow.make("score_timeout"))
    evaluation = make_evaluation(workflow, federation, run_dir)
    watch = Watch(lambda: _progress(federation, evaluation.done, len(segmenters)))
    try:
        evaluation.run(segmenters)
    finally:
        federation.close()
    return watch, [Path(evaluation.path)]


def _average(job: Job, local: Mapping[str, Any], own: Mapping[str, Path]) -> tuple[Watch, list[Path]]:
    said = settings(job, local, AVERAGE, own)
    workflow = participant_workflow(job.files(config_dir(), own), "", said)
    federation = _federation(workflow, workflow.make("round_timeout"))
    averaging = Averaging(federation, workflow.make("network").state_dict(), workflow.make("min_sites"))
    steps = workflow.make("averaging_steps")
    rounds = workflow.make("segmenter_steps") // steps
    about = {"steps": rounds * steps, "local_steps": steps, "proximal_mu": proximal_weight(workflow)}
    watch = Watch(lambda: _progress(federation, averaging.done, rounds))
    try:
        folder = Path(workflow.make("fit::folder"))
        files = average_over(averaging, rounds, folder, workflow.make("fit::about") | about)
    finally:
        federation.close()
    return watch, files


def _federation(workflow: Any, timeout: float) -> FlareFederation:
    return FlareFederation(sites=workflow.make("site_names"), step_timeout=timeout, limits=workflow.make("limits"))


def _progress(federation: FlareFederation, done: int, of: int) -> dict[str, Any]:
    wire = federation.ledger.summary()
    return {
        **{"step": done, "steps": of, "saved": done},
        **{f"bytes_{way}_sites": int(wire[f"bytes_{way}_sites"]) for way in ("to", "from")},
        "sites": {site: {"state": "present"} for site in federation.sites},
    }
