"""Sites that lack modalities and label less, behind FLARE: the bits of one process, from lists of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from one_process import train_in_one_process

pytest.importorskip("nvflare", reason="the extra `federation` is not installed")

from bundle.prepare.preparation import PrepareOptions, prepare

ROOT = Path(__file__).resolve().parents[2]
SIZES = {
    "image_size": 32,
    "modalities": ["flair", "t1ce"],
    "label_groups": {"core": [1], "oedema": [2], "enhancing": [4]},
    "generator_channels": 8,
    "generator_blocks": 1,
    "discriminator_channels": 8,
    "num_steps": 6,
    "epoch_length": 2,
    "amp": False,
}


def outputs(run_dir):
    return run_dir / "seed_0" / "asyndgan" / "gan"


@pytest.mark.federation
def test_the_simulator_has_the_bits_and_the_bytes_of_one_process(phantom_dir, tmp_path):
    table, data = phantom_dir / "cases.csv", tmp_path / "data"
    options = {"sites": "table", "table": table, "modalities": ("flair", "t1ce"), "lacks": {"B": ["t1ce"]}}
    path = prepare(PrepareOptions("brats", phantom_dir, data, **options)).path
    content = json.loads(path.read_text(encoding="utf-8"))
    content["test"] = [item | {"site": None} for item in content["test"]]
    content["label_groups"] = {"B": {key: list(SIZES["label_groups"]) for key in ("1", "2", "4")}}
    path.write_text(json.dumps(content), encoding="utf-8")
    here, there = tmp_path / "here", tmp_path / "there"
    there.mkdir()
    train_in_one_process(("train.yaml", "brats.yaml", "demo.yaml"), data, here, SIZES)
    words = [sys.executable, "-m", "bundle.cli", "federate", "simulate", "--task", "brats", "--profile", "demo"]
    words += ["--dataset_dir", str(data), "--run_dir", str(there), "--threads", "1", "--device", "cpu"]
    words += ["--set", *(f"{key}={json.dumps(value)}" for key, value in SIZES.items())]
    done = subprocess.run(
        words,
        cwd=there,
        env={key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"} | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
    for name in ("generator.pt", "conditions.npz"):
        assert (outputs(there) / name).read_bytes() == (outputs(here) / name).read_bytes(), name
    records = [json.loads((outputs(folder) / "record.json").read_text(encoding="utf-8")) for folder in (here, there)]
    assert records[0]["sites"] == records[1]["sites"]
    assert records[1]["sites"]["B"]["modalities"] == "flair"
    assert "modalities" not in records[1]["sites"]["A"]
    ours, theirs = (record["wire"]["per_site"] for record in records)
    assert {site: counts["from"] for site, counts in theirs.items()} == {s: c["from"] for s, c in ours.items()}
    # half of the channels: half of the images
    images = SIZES["num_steps"] * 32 * 32 * 4
    batch = (theirs["A"]["to"] - theirs["B"]["to"]) / images
    assert batch == pytest.approx(round(batch), abs=0.05)
    assert round(batch) >= 1
    generator = torch.load(outputs(there) / "generator.pt", weights_only=True)
    assert all(torch.isfinite(tensor).all() for tensor in generator.values())
