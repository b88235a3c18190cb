"""The stand-ins of the benchmark `line`: they change when things happen, and nothing that is computed."""

from argparse import Namespace

import pytest
import torch

pytest.importorskip("nvflare", reason="the extra `federation` is not installed")

from bundle.flare import federation
from scripts.benchmark import line
from scripts.benchmark.__main__ import main


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    monkeypatch.setattr(federation, "collab", federation.collab)


def test_in_turns_and_overlapping_are_the_same_training():
    quick = Namespace(sites=3, batch_size=1, image_size=8, forward=0, backward=0, site=0, steps=4)
    ends = []
    for way in (line.IN_TURNS, line.OVERLAPPING):
        torch.manual_seed(0)
        trainer = line.trainer(way, quick, (line.Line(0, 1e9), line.Line(0, 1e9)))
        trainer.run()
        trainer.federation.close()
        assert all(about["answered"] == 4 for about in trainer.state.sites.values())
        ends.append([parameter.detach().clone() for parameter in trainer.generator.parameters()])
    assert all(torch.equal(one, two) for one, two in zip(*ends, strict=True))


def test_the_table(capsys):
    quick = ["--forward", "0", "--backward", "0", "--site", "0", "--image_size", "8", "--steps", "4"]
    assert main(["line", "--latency", "0", "--bandwidth", "1000", *quick]) == 0
    head, _, row = capsys.readouterr().out.splitlines()
    assert head.count("|") == row.count("|") == 7
    assert row.startswith("| 0 ms | 1000 | 0.0")
