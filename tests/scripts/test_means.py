"""The benchmark `means` measures the same work in every way."""

import argparse

import pytest
import torch

from scripts.benchmark.__main__ import main
from scripts.benchmark.means import GENERATORS, OPTIMISERS, TRANSFORMS, add_arguments, ways

TINY = ["--image_size", "16", "--channels", "2", "--blocks", "1", "--repeats", "1"]


def test_the_table(capsys, monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    assert main(["means", *TINY]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == [*GENERATORS, *OPTIMISERS, *TRANSFORMS]


@pytest.mark.parametrize(("way", "tolerance"), [("one forward for all", 1e-4), ("bfloat16", 0.3)])
def test_every_way_has_the_gradients_of_the_first(way, tolerance):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    timed = ways(parser.parse_args(TINY))
    one, other = (torch.cat([part.flatten() for part in timed[name]()]) for name in (GENERATORS[0], way))
    assert (one - other).norm() <= tolerance * one.norm()
