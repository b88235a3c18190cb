"""The segmenter's training by several processes: on GPUs it is meant, and on the CPU it computes the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bundle.data import DrawSampler
from bundle.engines import share_of_batch

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"image_size": 32, "segmenter_steps": 4, "segmenter_epoch_length": 2, "segmenter_batch_size": 4}


def train(command, configs, phantom_dir, run_dir, **overrides):
    given = SIZES | {"dataset_dir": phantom_dir, "run_dir": run_dir, "setting": "real_all", "amp": "false"} | overrides
    words = ["-m", "monai.bundle", "run", "--workflow_name", "bundle.workflows.SegmentationWorkflow"]
    words += ["--config_file", str([str(ROOT / "configs" / f"{name}.yaml") for name in configs])]
    words += [word for key, value in given.items() for word in (f"--{key}", str(value))]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, *words], cwd=ROOT, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    outputs = run_dir / "seed_0" / "real_all" / "segmenter"
    assert (outputs / "record.json").is_file()
    return torch.load(outputs / "segmenter.pt", weights_only=True)


def test_two_processes_train_the_segmenter_of_one(phantom_dir, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    configs = ["segment", "brats", "demo"]
    two = train(torchrun, [*configs, "multi_gpu_segment"], phantom_dir, tmp_path / "two", ddp_backend="gloo")
    one = train([sys.executable], configs, phantom_dir, tmp_path / "one", device="cpu")
    assert two.keys() == one.keys()
    # Adam makes whole steps of gradients that are nothing but rounding, those of biases before a normalisation
    apart = torch.cat([(two[name] - weights).abs().flatten() for name, weights in one.items()])
    assert (apart < 1e-4).float().mean() > 0.98  # with other batches most weights would be 1e-3 apart


@pytest.mark.parametrize("num_replicas", [1, 2, 3])
def test_the_shares_of_all_processes_make_up_the_batches_of_one(num_replicas):
    whole = DrawSampler(range(10), num_draws=12, seed=3)
    shares = [DrawSampler(range(10), 12, seed=3, num_replicas=num_replicas, rank=r) for r in range(num_replicas)]
    for epoch in (1, 4):
        for sampler in (whole, *shares):
            sampler.set_epoch(epoch)
        batch, share = 6, share_of_batch(6, num_replicas)
        draws, parts = list(whole), [list(part) for part in shares]
        assert sum(map(len, shares)) == len(whole) == 12
        for step in range(2):
            together = {d for part in parts for d in part[step * share : (step + 1) * share]}
            assert together == set(draws[step * batch : (step + 1) * batch])


def test_a_batch_that_cannot_be_divided():
    with pytest.raises(ValueError, match="a batch of 7 cannot be divided among 2 processes"):
        share_of_batch(7, 2)
