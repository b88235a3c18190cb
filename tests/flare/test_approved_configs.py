"""A network that is installed at the sites alone, federated by a config that each has approved."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from one_process import train_in_one_process
from tiny import NETWORKS

pytest.importorskip("nvflare", reason="the extra `federation` is not installed")

ROOT = Path(__file__).resolve().parents[2]
SIZES = NETWORKS | {"num_steps": 4, "epoch_length": 2}
INSTALLED = """
from torch import nn

class Network(nn.Sequential):
    def __init__(self, in_channels, out_channels):
        super().__init__(nn.Conv2d(in_channels, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, out_channels, 1), nn.Tanh())
"""
OWN = """
generator_def:
  _target_: hospital_network.Network
  _mode_: callable
  in_channels: '@condition_channels'
  out_channels: '@image_channels'
"""


@pytest.mark.federation
def test_an_own_network_is_federated_without_code_in_the_job(phantom_dir, tmp_path, monkeypatch):
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "hospital_network.py").write_text(INSTALLED, encoding="utf-8")
    mine = tmp_path / "mine.yaml"
    mine.write_text(OWN, encoding="utf-8")
    words = ["federate", "simulate", "--task", "brats", "--profile", "demo", "--config", str(mine)]
    words += ["--dataset_dir", str(phantom_dir), "--run_dir", str(tmp_path / "apart"), "--threads", "1"]
    words += ["--device", "cpu", "--set", *(f"{key}={json.dumps(value)}" for key, value in SIZES.items())]
    paths = os.pathsep.join([str(ROOT), str(tmp_path / "installed")])
    done = subprocess.run(
        [sys.executable, "-m", "bundle.cli", *words],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("A", "B", "server"):
        assert (tmp_path / "apart" / "participants" / name / "configs" / "mine.yaml").read_bytes() == mine.read_bytes()
    monkeypatch.syspath_prepend(str(tmp_path / "installed"))
    train_in_one_process(["train.yaml", "brats.yaml", "demo.yaml", mine], phantom_dir, tmp_path / "here", SIZES)
    theirs, ours = (
        torch.load(tmp_path / run / "seed_0/asyndgan/gan/generator.pt", map_location="cpu", weights_only=True)
        for run in ("apart", "here")
    )
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[key], ours[key]) for key in ours)
