"""A phantom run with a synthetic data set, and scores as its stages write them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bundle.cli.main import main


@pytest.fixture(scope="session")
def drawn(phantom_dir, tiny_sizes, tmp_path_factory) -> Path:
    """The folder of a run that has trained and generated, through the commands; read only, copy it to change it."""
    folder = tmp_path_factory.mktemp("drawn")
    sizes = [f"{key}={json.dumps(value)}" for key, value in tiny_sizes.items()]
    words = ["--task", "brats", "--profile", "demo", "--dataset_dir", str(phantom_dir), "--run_dir", str(folder)]
    for stage in ("train", "generate"):
        assert main([stage, *words, "--set", *sizes]) == 0
    return folder
