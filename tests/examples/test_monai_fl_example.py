"""The example of a federation in one file, run as it stands."""

import runpy
from pathlib import Path

import torch

from bundle.server import LocalFederation

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "monai_fl" / "train.py"


def test_it_ends_with_the_generator_of_sites_that_are_called_directly(capsys):
    example = runpy.run_path(str(EXAMPLE))
    hosted = {site.name: example["SiteAlgo"](site) for site in example["hospitals"]()}
    networks = [
        example["train"](federation, 40)
        for federation in (example["HostedFederation"](hosted), LocalFederation(example["hospitals"]()))
    ]
    first, second = (network.state_dict() for network in networks)
    assert all(torch.equal(first[name], second[name]) for name in first)
    example["main"](["--steps", "40"])
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["A", "B", "C"]
