"""The benchmark `means` measures the same work in every way."""

import torch

from scripts.benchmark.__main__ import main
from scripts.benchmark.means import GENERATORS, OPTIMISERS


def test_the_table(capsys, monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    tiny = ["--image_size", "16", "--channels", "2", "--blocks", "1", "--repeats", "1"]
    assert main(["means", *tiny]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == [*GENERATORS, *OPTIMISERS]
