"""Can it be told from a segmenter whose images it was trained with?

What federated averaging sends are a segmenter's weights, which anybody can ask how well they fit an image: an image
trained with has a lower loss (Yeom et al. 2018, *Privacy Risk in Machine Learning*, section 3.2). A segmenter trained
on synthetic images is attacked in the same way, with the same patients and the same control.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from bundle.audit.candidates import Candidates, gather
from bundle.audit.membership_audit import CONTROLS, SEGMENTER, Attack, summarize
from bundle.data import SampleDataset, complete
from bundle.files import require_file
from bundle.networks import load_weights
from bundle.workflows.experiment import Stages

__all__ = ["audit_segmenters", "segmenter_losses"]


def segmenter_losses(
    network: torch.nn.Module, candidates: Candidates, loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> np.ndarray:
    """
    Args:
        network: the segmenter, B×C×H×W to logits B×(K+1)×H×W.
        candidates: images, and labels N×1×H×W for conditions.
        loss: of logits and labels of a batch.

    Returns:
        N float64: the loss of every slice by itself.
    """
    network.eval()
    with torch.no_grad():
        pairs = zip(candidates.images.split(1), candidates.conditions.split(1), strict=True)
        return np.array([loss(network(y), label).item() for y, label in pairs])


def audit_segmenters(
    stages: Stages, settings: Sequence[str], seed: int = 0, slices: int | None = None
) -> dict[str, dict[str, Any]]:
    """
    Attack the segmenters of a run by their loss.

    Args:
        stages: of the run; its segmenters are trained.
        settings: whose segmenters.
        seed: of the run, and of the resamples of patients.
        slices: of every patient at most, evenly spaced; None for all.

    Returns:
        By setting what :func:`bundle.audit.membership_audit.summarize` says of the attack and of its control, a
        segmenter with random weights.

    Raises:
        FileNotFoundError: for a setting without a trained segmenter.
        ValueError: without held-out patients of the sites.
    """
    workflows = {setting: stages.workflow("segment", setting, seed) for setting in settings}
    paths = {s: stages.output_dir(s, seed) / "segmenter" / "segmenter.pt" for s in settings}
    for path in paths.values():
        require_file(path, "asyndgan run and asyndgan segment train segmenters")
    first = workflows[settings[0]]
    candidates = _candidates(first, slices)
    loss = first.make("segmenter_loss_def")

    def attack(name: str, network: torch.nn.Module) -> Attack:
        return Attack(name, -segmenter_losses(network, candidates, loss), candidates)

    control = attack(CONTROLS[SEGMENTER], first.make("network_def").cpu())
    found = {}
    for setting, workflow in workflows.items():
        network = load_weights(workflow.make("segmenter_def")(), paths[setting], "segment.yaml writes it")
        found[setting] = summarize([attack(SEGMENTER, network), control], seed)
    return found


def _candidates(workflow: Any, slices: int | None) -> Candidates:
    """The training slices of the sites, and those of held-out patients of the same hospitals, prepared alike."""
    datalist = complete(workflow.make("datalist"), "an audit")
    parts = []
    for member, items in ((True, datalist.training), (False, datalist.test)):
        of_site = {site: [item for item in items if item.get("site") == site] for site in datalist.sites}
        of_site = {site: found for site, found in of_site.items() if found}
        if not of_site:
            raise ValueError(f"{workflow.make('dataset_dir')}: test: expected held-out cases of the sites, got none")
        prepared = {
            site: SampleDataset(
                found,
                workflow.make("case_preprocessing"),
                workflow.make("select_samples"),
                keys=("image", "label"),
                name=f"{'training' if member else 'held-out'} cases of {site}",
            )
            for site, found in of_site.items()
        }
        parts.append(gather(prepared, of_site, member, slices, "label"))
    return Candidates.joined(parts)
