"""Whatever crosses: mutated messages for both ends, and a whole training with a site that lies."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fuzz import Fuzzer
from small_sites import generator, sites

pytest.importorskip("nvflare", reason="the extra `federation` is not installed")

from wired_sites import ends, federate

from bundle.server import DistributedGanTrainer
from bundle.wire import Codec, Limits

NUMBER = int(os.environ.get("FUZZ_MESSAGES", 500))
"""Of mutated messages a side; ``make fuzz`` takes more."""


def test_both_ends_survive_any_bytes_in_bounded_memory(capfd):
    """In a process of its own: the ceiling on memory holds for it alone."""
    script = Path(__file__).with_name("fuzz_both_ends.py")
    done = subprocess.run([sys.executable, script, str(NUMBER)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    totals = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert [line.split(":")[0] for line in totals] == ["server", "site"]
    with capfd.disabled():
        print("", done.stdout if NUMBER > 2000 else "\n".join(totals), sep="\n")


def weights(trainer):
    return torch.cat([parameter.detach().flatten() for parameter in trainer.generator.parameters()])


def train(monkeypatch, evil=None, max_strikes=3):
    answers = ends(sites(lengths={"A": 3, "B": 5})) | ({"E": evil} if evil else {})
    limits = Limits((1, 8, 8), (2, 8, 8), max_batch_size=16)
    fed, _ = federate(monkeypatch, answers, limits=limits)
    torch.manual_seed(0)
    network = generator()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    kwargs = {"rejoin_interval": 1, "max_gradient_norm": 1e4, "condition_size": (8, 8), "max_strikes": max_strikes}
    trainer = DistributedGanTrainer("cpu", 1, 30, fed, network, optimizer, **kwargs)
    trainer.run()
    return trainer


def test_a_training_with_a_liar_ends_with_the_honest_sites_result(monkeypatch):
    """It says nothing that is a message, from the first word on: as if it had never been there."""
    (member,) = sites(lengths={"E": 4})
    end, fuzzer = ends([member])["E"], Fuzzer(7)

    def lie(data):
        answer = end(data)
        while True:
            spoilt = fuzzer.mutate(answer)
            try:
                Codec().decode(spoilt)
            except ValueError:
                return spoilt

    trainer = train(monkeypatch, lie, max_strikes=20)
    about = trainer.state.sites["E"]
    assert (about["state"], about["strikes"], about["failures"], about["answered"]) == ("left out", 20, 20, 0)
    assert torch.equal(weights(trainer), weights(train(monkeypatch)))


def test_a_liar_that_sometimes_does_not_is_struck_out_and_the_training_ends(monkeypatch):
    (member,) = sites(lengths={"E": 4})
    end, fuzzer = ends([member])["E"], Fuzzer(9)

    def half_a_lie(data):
        answer = end(data)
        return fuzzer.mutate(answer) if fuzzer.random.random() < 0.5 else answer

    trainer = train(monkeypatch, half_a_lie)
    assert trainer.state.iteration == 30
    assert trainer.state.sites["E"]["state"] == "left out"
    assert trainer.state.sites["E"]["strikes"] == 3
    assert [trainer.state.sites[site]["answered"] for site in "AB"] == [30, 30]
    assert torch.isfinite(weights(trainer)).all()
