"""Sites that lack modalities and label less, behind FLARE: the bits of one process, from lists of their own."""

import json

import pytest
import torch
from one_process import train_in_one_process
from simulations import load, outputs, record, simulate
from tiny import NETWORKS

pytest.importorskip("nvflare", reason="the extra `federation` is not installed")

from bundle.prepare.preparation import PrepareOptions, prepare

pytestmark = pytest.mark.long

SIZES = NETWORKS | {
    "modalities": ["flair", "t1ce"],
    "label_groups": {"core": [1], "oedema": [2], "enhancing": [4]},
    "num_steps": 6,
    "epoch_length": 2,
}


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
    train_in_one_process(("train.yaml", "brats.yaml", "demo.yaml"), data, here, SIZES)
    simulate(data, there, SIZES)
    for name in ("generator.pt", "conditions.npz"):
        assert (outputs(there) / name).read_bytes() == (outputs(here) / name).read_bytes(), name
    records = [record(outputs(folder)) for folder in (here, there)]
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
    generator = load(outputs(there) / "generator.pt")
    assert all(torch.isfinite(tensor).all() for tensor in generator.values())
