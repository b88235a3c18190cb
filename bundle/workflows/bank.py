"""A bank of conditions that the server owns, of public label maps for example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bundle.installation import config_dir
from bundle.server import write_conditions
from bundle.shapes import by_patient
from bundle.workflows.workflow import DistributedGANWorkflow

__all__ = ["list_conditions", "make_bank"]


def make_bank(files: Sequence[str], dataset_dir: str, output: Path, overrides: Mapping[str, Any]) -> dict[str, int]:
    """
    Write the conditions of all training cases of a data list, as sites with these configs would release them.

    Args:
        files: configs of a training: stage, task, profile.
        dataset_dir: folder of the data list. Its test cases are left out.
        output: ``.npz``, see :func:`bundle.server.write_conditions`.
        overrides: values for keys of the configs.

    Returns:
        Number of conditions by site of the data list.

    Raises:
        ValueError: ``output`` has another ending.
        bundle.workflows.ConfigError, bundle.data.DataError: see there.
    """
    if output.suffix != ".npz":
        raise ValueError(f"{output}: expected a name that ends with .npz")
    _, conditions = list_conditions(files, dataset_dir, overrides)
    found = {site: [one for own in of.values() for one in own] for site, of in conditions.items()}
    write_conditions(output, found)
    return {site: len(own) for site, own in found.items()}


def list_conditions(
    files: Sequence[str], dataset_dir: str, overrides: Mapping[str, Any]
) -> tuple[Any, dict[str, dict[str, list[np.ndarray]]]]:
    """
    The conditions of all training cases of a data list.

    Args:
        files, dataset_dir, overrides: see :func:`make_bank`.

    Returns:
        The task's ``shape_model``, and conditions X×H×W uint8 by site and patient.
    """
    workflow = DistributedGANWorkflow(
        list(files),
        bundle_root=str(config_dir().parent),
        dataset_dir=dataset_dir,
        logging_file=False,  # the command's stays as it is
        **({"setting": "asyndgan"} | dict(overrides)),
    )
    workflow.initialize()
    found = {}
    for site, samples in workflow.make("site_samples").items():
        every = range(len(samples))
        patients = (samples.origin(index)[0] for index in every)
        found[site] = by_patient((samples[index]["condition"] for index in every), patients)
    return workflow.make("shape_model"), found
