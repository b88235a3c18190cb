"""Data and sizes that several tests share."""

from __future__ import annotations

import gc
import logging
import os
import random
import secrets
from pathlib import Path

# Bits depend on the number of threads, so all tests have one, and what they start inherits it. OpenMP reads it once,
# when torch is imported, and for every thread of Python anew.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch
from tiny import NETWORKS

from bundle.phantoms.brains import write_brats_phantoms
from bundle.phantoms.nuclei import write_nuclei_phantoms
from bundle.prepare.preparation import PrepareOptions, prepare

torch.set_num_threads(1)
# stages collect what they leave: not among all that was imported
gc.freeze()


@pytest.fixture(autouse=True)
def _no_lines_to_what_is_closed():
    """A command logs to the stderr of its process; that of an earlier test is closed."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if getattr(getattr(handler, "stream", None), "closed", False):
            root.removeHandler(handler)


@pytest.fixture(autouse=True)
def _what_sites_draw_in_secret_can_be_repeated(request, monkeypatch):
    """Else a test of who is drawn by a secret sees, once in a hundred runs, that nobody is. Other processes draw on."""
    stream = random.Random(request.node.nodeid)
    monkeypatch.setattr(secrets, "token_hex", lambda count=32: stream.randbytes(count).hex())
    monkeypatch.setattr(secrets, "randbits", stream.getrandbits)


@pytest.fixture(scope="session")
def phantom_dir(tmp_path_factory) -> Path:
    """
    Phantom brains in BraTS layout with their ``datalist.json``: read only, copy it to change it.

    Sites A and B, each with two training cases and one test case, four modalities, 32×32×8 voxels.
    """
    folder = tmp_path_factory.mktemp("phantoms")
    table = write_brats_phantoms(folder, ("A", "B"), cases_per_site=2, test_cases_per_site=1, shape=(32, 32, 8))
    prepare(PrepareOptions("brats", folder, folder, sites="table", table=table, name="phantoms"))
    return folder


@pytest.fixture(scope="session")
def nuclei_dir(tmp_path_factory) -> Path:
    """
    Phantom tiles of 90×90 pixels with their ``datalist.json``: read only, copy it to change it.

    Sites breast and liver, each with two training tiles and one test tile, and one test tile of another organ.
    """
    folder = tmp_path_factory.mktemp("nuclei")
    source = folder / "published"
    write_nuclei_phantoms(source, ("breast", "liver"), 2, 1, size=90, other_cases=1)
    prepare(PrepareOptions("multi_organ", source, folder, sites="table", table=source / "cases.csv", name="tiles"))
    return folder


@pytest.fixture(scope="session")
def tiny_sizes() -> dict:
    """Overrides of the configs' sizes with which every stage ends after seconds on one core."""
    return NETWORKS | {
        "batch_size": 1,
        "num_steps": 4,
        "epoch_length": 2,
        "copies": 1,
        "segmenter_channels": [4, 8],
        "segmenter_batch_size": 2,
        "segmenter_steps": 4,
        "segmenter_epoch_length": 2,
        "feature_steps": 4,
        "feature_epoch_length": 2,
        "device": "cpu",
    }
