"""Folds, teachers of both kinds, drawn label maps, DP-SGD behind FLARE: the bits of one process; the same secrets."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from one_process import train_in_one_process
from simulations import outputs, simulate
from tiny import NETWORKS

pytest.importorskip("nvflare", reason="the extra `federation` is not installed")

from wired_sites import wired_training

from bundle.server import write_conditions
from bundle.site.release import verify
from bundle.workflows import DistributedGANWorkflow

ROOT = Path(__file__).resolve().parents[2]
FILES = ("train.yaml", "brats.yaml", "demo.yaml")
SECRETS = {"A": "0" * 31 + "1", "B": "2" * 32}
POLICIES = {
    "out_of_fold": "out_of_fold",
    "drawn": {"policy": "guarded", "conditions": "drawn", "min_patients": 2},
    "dp_sgd": {
        "policy": "private",
        "mechanism": "dp_sgd",
        "epsilon": 4.0,
        "patients_per_update": 2,
        "max_noise": None,
        "scalar_losses": True,
        "teacher": True,
    },
}
# augmentation draws from the one stream that torch has in a process, and here both ends are in one, side by side
SIZES = NETWORKS | {"num_steps": 6, "epoch_length": 2, "bend_prob": 0.5, "discriminator_augmentation": {}}
GUIDED = ("out_of_fold", "dp_sgd")
"""Those with teachers: G sees their images as well, or what their weights predict."""


def write_secret(folder, site):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{site}.secret").write_text(SECRETS[site] + "\n", encoding="ascii")


def servers_own(folder):
    """Label maps of the server's own, for a policy under which sites issue none."""
    path = folder / "bank.npz"
    whole, tumor = np.zeros((2, 32, 32), np.uint8), np.zeros((2, 32, 32), np.uint8)
    whole[1, 4:28, 4:28] = 1
    tumor[1, 4:28, 4:28] = 1
    tumor[:, 10:16, 10:16] = [[[1]], [[0]]]
    write_conditions(path, {"public": [whole, tumor]})
    return {"public_conditions": str(path)}


def weights(run_dir):
    return torch.load(outputs(run_dir) / "generator.pt", weights_only=True)


@pytest.fixture(scope="module", params=POLICIES)
def local(request, phantom_dir, tmp_path_factory):
    """The training with all sites in this process: its policy, its folder, and the output of its last step."""
    run_dir = tmp_path_factory.mktemp("local")
    for site in SECRETS:
        write_secret(outputs(run_dir) / "releases", site)
    policy = POLICIES[request.param]
    server = servers_own(run_dir) if request.param == "dp_sgd" else {}
    sizes = SIZES | {"generator_guide": request.param in GUIDED}
    workflow = train_in_one_process(FILES, phantom_dir, run_dir, sizes | {"release_policy": policy} | server)
    output = workflow.make("train::trainer").state.output[0]
    return SimpleNamespace(policy=policy, run_dir=run_dir, output=output, server=server, sizes=sizes)


def assert_same(run_dir, local):
    taught = ["teacher.npz"] if local.policy == "out_of_fold" else []
    released = [f"teachers/{site}.safetensors" for site in SECRETS] if local.server else ["conditions.npz"]
    for name in ("generator.pt", *released, *taught):
        assert (outputs(run_dir) / name).read_bytes() == (outputs(local.run_dir) / name).read_bytes(), name


def test_every_step_has_its_paired_term_where_there_is_a_teacher(local):
    """The server makes the steps' conditions again, bends and flips among it, and finds them the same; or has R."""
    beside = {"paired"} if local.server or local.policy == "out_of_fold" else {"discriminator"}
    for losses in local.output["losses"].values():
        assert set(losses) == {"adversarial"} | beside


def test_two_ends_of_flare_have_the_bits_of_one_process(phantom_dir, local, tmp_path, monkeypatch):
    given = {"allowed_overrides": [*local.sizes]} if local.server else {}

    def before(site, folder):
        write_secret(folder / "releases", site)

    ends, _, files = wired_training(
        monkeypatch, tmp_path, phantom_dir, FILES, local.sizes, before, release_policy=local.policy, **given
    )
    run_dir = tmp_path / "outputs"
    workflow = DistributedGANWorkflow(
        config_file=files,
        bundle_root=str(tmp_path),
        run_dir=str(run_dir),
        device="cpu",
        **local.sizes,
        **local.server,
    )
    workflow.initialize()
    workflow.run()
    assert_same(run_dir, local)
    for site, end in ends.items():
        end.stop()
        kept = sorted(path.name for path in (tmp_path / "kept" / site).rglob("teacher_*.pt"))
        trained = 1 if local.server else 2 * (local.policy == "out_of_fold")
        assert kept == [f"teacher_{number}.pt" for number in range(trained)]
        assert verify(tmp_path / "kept" / site / "releases" / f"{site}.jsonl").whole


@pytest.mark.federation
def test_the_simulator_has_the_bits_of_one_process(phantom_dir, local, tmp_path):
    for site in SECRETS:
        write_secret(tmp_path / "participants" / site / "checkpoints" / "releases", site)
    servers = [word for key, value in local.server.items() for word in (f"--{key}", value)]
    simulate(phantom_dir, tmp_path, local.sizes, "--release_policy", json.dumps(local.policy), *servers)
    assert_same(tmp_path, local)
