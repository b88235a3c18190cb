"""What would leave a site in a training, as a picture for those who decide: nothing of it leaves by being looked at."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from bundle.declarations.job import Job
from bundle.declarations.own_configs import own_configs
from bundle.flare.own_files import read_site
from bundle.flare.participant import make_workflow
from bundle.report.leaving import draw_leaving
from bundle.site.private_teacher import PrivateTeacher
from bundle.site.samples import outgoing
from bundle.site.site import Site
from bundle.site.teacher import Teacher

__all__ = ["preview"]


def preview(kit: Path, job: Job, output: Path, count: int = 8) -> str:
    """
    Draw the conditions of a site as they would leave, with the images that its teacher predicts for them, where its
    policy has one, and beside them the real images, which stay.

    Teachers are trained for it, by the secret and the folds of the site's ledger: the same that a training of the same
    words trains. One whose weights leave is not: it would take of the site's ε.

    Args:
        kit: the site's startup kit.
        job: the training.
        output: PNG to write; it shows real images, and belongs at the site.
        count: samples, evenly spaced over the site's.

    Returns:
        In a line, what the picture shows.

    Raises:
        ValueError: for a number of samples below 1.
        JobError, ReleaseRefused, OSError: as a training would be refused.
    """
    if count < 1:
        raise ValueError(f"--images: expected at least 1, got {count}")
    local = read_site(kit / "local")
    local.pop("allowed_overrides", None)
    about = json.loads((kit / "startup" / "fed_client.json").read_text(encoding="utf-8"))
    name = about["client"]["fqsn"]
    workflow = make_workflow(job, local, {"site_name": name}, own_configs(kit / "local"))
    (site,) = workflow.make("sites")
    try:
        chosen = np.unique(np.linspace(0, len(site.samples) - 1, count).round().astype(int)).tolist()
        rows = [_row(site, index) for index in chosen]
    finally:
        site.gate.close()
    draw_leaving(rows, workflow.make("num_classes"), output)
    return f"{len(rows)} of {len(site.samples)} samples: under {site.policy.describe()} {_what(site)} would leave"


def _what(site: Site) -> str:
    if isinstance(site.teacher, PrivateTeacher):
        return (
            f"no conditions and no image, and once the {site.teacher.size:,} weights of a teacher that is trained by "
            f"{site.teacher.num_steps:,} updates with noise"
        )
    if site.policy.conditions == "public":
        return "no conditions and no image"
    return "conditions, and no image" if site.teacher is None else "conditions and images of its teacher"


def _row(site: Site, index: int) -> dict[str, np.ndarray]:
    sample = site.samples[index]
    condition = torch.as_tensor(outgoing(sample))
    leaving = {} if site.policy.conditions == "public" else {"condition": condition.numpy()}
    if isinstance(site.teacher, Teacher):
        leaving["teacher"] = site.teacher.predict(index, condition).numpy()
    return leaving | {"real": torch.as_tensor(sample["image"]).numpy()}
