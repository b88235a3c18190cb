"""Two trainings in NVIDIA FLARE's simulator, the second with other sites: the bits of one process."""

import json

import pytest
import torch
from one_process import train_in_one_process
from simulations import load, outputs, record, simulate

pytest.importorskip("nvflare", reason="the extra `federation` is not installed")

from test_flare import SIZES

from bundle.data import load_datalist
from bundle.data.datalist import write_part

pytestmark = pytest.mark.long

FEW = {**SIZES, "num_steps": 10}
FILES = ("train.yaml", "brats.yaml", "demo.yaml")


@pytest.fixture(scope="module")
def later(phantom_dir, tmp_path_factory):
    """A data list without site A, and with a new site, C, that has the cases of A."""
    datalist = load_datalist(phantom_dir)
    items = [{**item, "site": "C"} if item["site"] == "A" else item for item in datalist.training]
    return write_part(datalist, tmp_path_factory.mktemp("later"), "later", items, []).parent


def test_a_training_that_goes_on_with_other_sites_has_the_bits_of_one_process(phantom_dir, later, tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        for time in ("first", "second"):
            (folder / time).mkdir(parents=True)
    train_in_one_process(FILES, phantom_dir, ours / "first", FEW)
    earlier = ours / "first" / "seed_0" / "asyndgan"
    train_in_one_process(FILES, later, ours / "second", FEW | {"earlier": str(earlier)})

    simulate(phantom_dir, theirs / "first", FEW)
    stored = theirs / "first" / "participants" / "B" / "checkpoints"
    (job,) = (folder.name for folder in stored.iterdir() if folder.name != "releases")
    earlier = theirs / "first" / "seed_0" / "asyndgan"
    said = simulate(later, theirs / "second", FEW | {"earlier_training": job}, "--earlier", str(earlier))
    assert "site A has left: the generator is reminded by" in said
    assert "new here: site C" in said

    ours, theirs = outputs(ours / "second"), outputs(theirs / "second")
    for name in ("generator.pt", "conditions.npz", "replay/A.pt", "replay/conditions.npz"):
        assert (theirs / name).read_bytes() == (ours / name).read_bytes(), name
    expected, found = (load(folder / "checkpoints/latest.pt") for folder in (ours, theirs))
    torch.testing.assert_close(found["optimizer"], expected["optimizer"], rtol=0, atol=0)
    assert record(theirs)["sites"].keys() == {"B", "C"}
    assert "L1 to the generator of before" in json.dumps(record(theirs)["losses"])
