"""
The bundle in NVIDIA FLARE's simulator, a process for the server and one for each site: the same bits as in one process.

One simulation serves most tests; it takes longer than all its steps.
"""

import json
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from one_process import train_in_one_process
from simulations import TIMEOUT, finish, kill, load, outputs, record, simulate, start
from tiny import NETWORKS

pytest.importorskip("nvflare", reason="the extra `federation` is not installed")

from bundle.flare.kits import CLASSES
from bundle.wire import Codec
from bundle.wire.messages import OpenRequest

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
SITES = ("A", "B")
STEPS = 20
SIZES = NETWORKS | {"num_steps": STEPS, "epoch_length": 5}


@pytest.fixture(scope="module")
def local(phantom_dir, tmp_path_factory):
    """The training with all sites in this process: the folder of its outputs, and its sites' states by name."""
    run_dir = tmp_path_factory.mktemp("local")
    workflow = train_in_one_process(("train.yaml", "brats.yaml", "demo.yaml"), phantom_dir, run_dir, SIZES)
    fed = workflow.make("federation_def")
    states = {name: fed.site(name).state_dict() for name in fed.sites}
    return SimpleNamespace(outputs=outputs(run_dir), states=states)


@pytest.fixture(scope="module")
def simulated(phantom_dir, tmp_path_factory):
    """The same training in the simulator: the folder of the run."""
    run_dir = tmp_path_factory.mktemp("simulated")
    simulate(phantom_dir, run_dir, SIZES)
    return run_dir


def assert_same_training(run_dir, local):
    """Generator, optimiser, schedule, every site's discriminator and optimiser, and the released conditions."""
    theirs, ours = outputs(run_dir), local.outputs
    for name in ("generator.pt", "conditions.npz"):
        assert (theirs / name).read_bytes() == (ours / name).read_bytes(), name
    checkpoints = [load(folder / "checkpoints/latest.pt") for folder in (theirs, ours)]
    for key in ("generator", "optimizer", "lr_scheduler"):
        torch.testing.assert_close(checkpoints[0][key], checkpoints[1][key], rtol=0, atol=0)
    for site in SITES:
        (path,) = (run_dir / "participants" / site / "checkpoints").rglob(f"step_{STEPS:09d}_run_{STEPS:09d}.pt")
        state = load(path)
        identity = state.pop("identity")
        assert (identity["role"], identity["site"], identity["seed"]) == ("site", site, 0)
        assert identity["training"] == path.parents[1].name
        state.pop("digest")
        expected = dict(local.states[site])
        assert [state.pop(key) for key in ("policy", "folds")] == [expected.pop(key) for key in ("policy", "folds")]
        torch.testing.assert_close(state, expected, rtol=0, atol=0)


def test_a_training_in_the_simulator_ends_with_the_bits_of_one_in_one_process(simulated, local):
    assert_same_training(simulated, local)
    theirs, ours = record(outputs(simulated)), record(local.outputs)
    assert (theirs["steps"], theirs["losses"], theirs["sites"]) == (STEPS, ours["losses"], ours["sites"])
    assert all(about["answered"] == STEPS for about in theirs["sites"].values())


def test_it_sends_the_same_bytes_and_one_request_to_open_for_each_site(simulated, local):
    theirs, ours = record(outputs(simulated))["wire"], record(local.outputs)["wire"]
    opening = {site: len(Codec().encode(OpenRequest(site, 1))) for site in SITES}
    assert theirs["codec"] == ours["codec"] == "float32"
    for site in SITES:
        assert theirs["per_site"][site]["to"] == ours["per_site"][site]["to"] + opening[site]
        assert theirs["per_site"][site]["from"] == ours["per_site"][site]["from"]


def test_a_step_is_one_round_trip_for_each_site(simulated):
    wire = record(outputs(simulated))["wire"]
    released = np.load(outputs(simulated) / "conditions.npz").files
    # a request for up to 64 conditions, until one is answered with none
    requests = sum(-(-sum(name.startswith(f"{site}/") for name in released) // 64) + 1 for site in SITES)
    assert wire["steps"] == STEPS
    assert wire["messages_to_sites"] == wire["messages_from_sites"] == len(SITES) * (STEPS + 1) + requests


def test_the_servers_checkpoint_holds_nothing_of_the_sites(simulated, local):
    federation = load(outputs(simulated) / "checkpoints/latest.pt")["federation"]
    assert "sites" not in federation
    assert "sites" in load(local.outputs / "checkpoints/latest.pt")["federation"]


def test_the_simulated_job_brought_no_code(simulated):
    """It runs under the rules of a startup kit, which allow our classes and no code from outside."""
    (rules,) = {path.read_text(encoding="utf-8") for path in simulated.rglob("local/resources.json")}
    assert json.loads(rules)["class_allow_list"] == list(CLASSES)
    assert list((simulated / "flare").rglob("app_*/config/*.json"))
    assert list((simulated / "flare").rglob("*.py")) == []


@pytest.mark.federation
def test_a_federation_that_is_killed_and_started_again_ends_with_the_same_bits(phantom_dir, local, tmp_path):
    """Server and sites at once, in the middle of the steps: each goes back to its own checkpoint."""
    process = start(phantom_dir, tmp_path)
    checkpoint = outputs(tmp_path) / "checkpoints/latest.pt"
    end = time.monotonic() + TIMEOUT
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    running = process.poll() is None
    kill(process)
    said = process.communicate()[0].decode(errors="replace")
    assert running, said
    assert 0 < load(checkpoint)["trainer"]["iteration"] < STEPS
    assert not (outputs(tmp_path) / "generator.pt").exists()
    again = start(phantom_dir, tmp_path)
    said = finish(again)
    assert again.returncode == 0, said
    assert_same_training(tmp_path, local)
    assert record(outputs(tmp_path))["steps"] == STEPS
