"""Steps that ask one of two sites, in NVIDIA FLARE's simulator: the bits of one process, also after an interruption."""

import time

import pytest
import torch
from one_process import train_in_one_process
from simulations import TIMEOUT, finish, kill, load, outputs, record, start

pytest.importorskip("nvflare", reason="the extra `federation` is not installed")

from test_flare import SIZES

pytestmark = pytest.mark.long

SAMPLED = {**SIZES, "sites_per_step": 1}


@pytest.fixture(scope="module")
def expected(phantom_dir, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("local")
    train_in_one_process(("train.yaml", "brats.yaml", "demo.yaml"), phantom_dir, run_dir, SAMPLED)
    return outputs(run_dir)


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_training_that_asks_one_of_two_sites_has_the_bits_of_one_process(
    phantom_dir, tmp_path, expected, interrupted
):
    process = start(phantom_dir, tmp_path, SAMPLED)
    if interrupted:
        latest, deadline = outputs(tmp_path) / "checkpoints" / "latest.pt", time.monotonic() + TIMEOUT
        while process.poll() is None and not latest.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        kill(process)
        assert latest.exists()
        process = start(phantom_dir, tmp_path, SAMPLED)
    said = finish(process)
    assert process.returncode == 0, said
    theirs, ours = (load(folder / "checkpoints/latest.pt") for folder in (outputs(tmp_path), expected))
    assert (outputs(tmp_path) / "generator.pt").read_bytes() == (expected / "generator.pt").read_bytes()
    for key in ("generator", "optimizer"):
        torch.testing.assert_close(theirs[key], ours[key], rtol=0, atol=0)
    about = record(outputs(tmp_path))["sites"]
    assert about == record(expected)["sites"]
    assert sum(site["answered"] for site in about.values()) == SAMPLED["num_steps"]
