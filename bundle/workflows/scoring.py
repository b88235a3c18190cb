"""A site that scores, made from configs, and what a server needs of them: the same in one process and over FLARE."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bundle.server import FederatedEvaluation
from bundle.server.evaluation import RESULTS_FILE, ScoringFederation
from bundle.site import ScoringSite
from bundle.workflows.workflow import CheckedWorkflow, SegmentationWorkflow

__all__ = ["find_segmenters", "make_evaluation", "make_scoring_site", "participant_workflow"]


def participant_workflow(files: Iterable[str], site: str, given: Mapping[str, Any]) -> CheckedWorkflow:
    """
    The workflow of ``score.yaml`` or ``average.yaml`` at one participant, initialized.

    Args:
        files: paths of its configs.
        site: name of the site; empty at the server, which has no data.
        given: values by key.
    """
    nowhere = {} if site else {"dataset_dir": ""}
    workflow = SegmentationWorkflow(config_file=list(files), **nowhere, **given, site_name=site)
    workflow.initialize()
    return workflow


def make_scoring_site(files: Iterable[str], site: str, given: Mapping[str, Any]) -> tuple[ScoringSite, dict[str, int]]:
    """
    Args:
        files, given: see :func:`participant_workflow`.
        site: name of the site.

    Returns:
        The site, and the bytes by type of what it may be sent.

    Raises:
        ValueError, OSError: what the configs, the data list or the release policy refuse.
    """
    # predictions are nobody's: they are gone with the site
    predictions = tempfile.TemporaryDirectory(prefix="predictions_")
    own = {**given, "prediction_dir": predictions.name}

    def evaluator(kept: Any = predictions) -> Any:
        return participant_workflow(files, site, own).make("evaluator")

    workflow = participant_workflow(files, site, own)
    made = workflow.make("scoring_site")(evaluator, workflow.make("network").state_dict())
    return made, made.requests(workflow.make("limits"))


def make_evaluation(
    workflow: CheckedWorkflow, federation: ScoringFederation, run_dir: Path, names: Iterable[str] = ()
) -> FederatedEvaluation:
    """
    The server's part.

    Args:
        workflow: :func:`participant_workflow` of the server.
        federation: the sites.
        run_dir: folder that ``federated_evaluation.json`` is written to.
        names: metrics that somebody wants to see.

    Raises:
        ValueError: one of them is none of the evaluation's.
    """
    metrics = metric_names(workflow)
    if unknown := [name for name in names if name not in metrics]:
        raise ValueError(f"unknown metric {unknown[0]!r}, expected some of {', '.join(metrics)}")
    about = {
        "task": workflow.make("task"),
        "metrics": metrics,
        "key_metric": next(iter(workflow.make("key_metric"))),
        "units": dict(workflow.make("metric_units")),
    }
    return FederatedEvaluation(
        federation, workflow.make("network").state_dict(), metrics, run_dir / RESULTS_FILE, about
    )


def metric_names(workflow: CheckedWorkflow) -> list[str]:
    """All metrics that a site may have scores of, those of groups of cases among them; the key metric first."""
    channels = workflow.make("metric_channels")
    handlers = [*workflow.make("key_metric"), *workflow.make("evaluation_metrics")]
    plain = [label for name in handlers for label in channels.get(name, [name])]
    return plain + [f"{name}/{group}" for name in plain for group in workflow.make("case_groups")]


def find_segmenters(run_dir: Path, seed: int = 0) -> dict[str, Path]:
    """
    Segmenters of a run by the name of their setting: ``seed_N/SETTING/segmenter/segmenter.pt``.

    Raises:
        FileNotFoundError: there are none.
    """
    folder = run_dir / f"seed_{seed}"
    found = {str(path.parents[1].relative_to(folder)): path for path in sorted(folder.rglob("segmenter/segmenter.pt"))}
    if not found:
        raise FileNotFoundError(f"{folder}: expected segmenters of a run, SETTING/segmenter/segmenter.pt")
    return found
