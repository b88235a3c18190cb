"""Checkpoints that say what they are of, and that are whole or refused."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bundle.checkpoints import CheckpointError, DamagedCheckpoint, load_checkpoint, previous_path, save_checkpoint

ROOT = Path(__file__).resolve().parents[1]
IDENTITY = {"role": "server", "seed": 0, "config": "abc"}


def state(value=1.0):
    return {
        "network": {"weight": torch.full((64, 8), value), "half": torch.ones(3, dtype=torch.bfloat16)},
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 2e-4, "betas": (0.5, 0.9)}]},
        "trainer": {"iteration": 7, "sites": {"A": {"state": "present", "why": None, "left": False}}},
    }


@pytest.fixture
def path(tmp_path):
    save_checkpoint(tmp_path / "latest.pt", state(), IDENTITY)
    return tmp_path / "latest.pt"


def test_what_is_saved_is_loaded(path):
    loaded = load_checkpoint(path, IDENTITY)
    assert loaded.keys() == state().keys()
    torch.testing.assert_close(loaded["network"], state()["network"], rtol=0, atol=0)
    assert loaded["optimizer"]["param_groups"] == state()["optimizer"]["param_groups"]
    assert loaded["trainer"] == state()["trainer"]
    # whoever looks into it with torch finds it as it is
    assert torch.load(path, weights_only=True)["trainer"] == state()["trainer"]


def test_equal_states_are_equal_files(path, tmp_path):
    save_checkpoint(tmp_path / "other.pt", state(), IDENTITY)
    assert path.read_bytes() == (tmp_path / "other.pt").read_bytes()


@pytest.mark.parametrize("seed", range(24))
def test_a_flipped_bit_is_found_or_changes_nothing(path, seed):
    content = bytearray(path.read_bytes())
    rng = random.Random(seed)
    # a third of them anywhere, the others in the tensors
    place = (
        rng.randrange(len(content)) if seed % 3 == 0 else content.index(b"\x00\x00\x80\x3f" * 8) + rng.randrange(2000)
    )
    content[place] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    try:
        loaded = load_checkpoint(path, IDENTITY)
    except DamagedCheckpoint as error:
        assert str(path) in str(error)  # noqa: PT017, either is right
    else:
        assert seed % 3 == 0
        assert repr(loaded) == repr(state())


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_damaged(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DamagedCheckpoint, match=f"the checkpoint {path} is damaged"):
        load_checkpoint(path, IDENTITY)


class Harmful:
    def __reduce__(self):
        return print, ("this ran",)


@pytest.mark.parametrize("content", [{"generator": Harmful()}, {"generator": torch.ones(1)}, [1, 2], torch.ones(2)])
def test_what_has_no_digest_is_refused(path, content, capsys):
    torch.save(content, path)
    with pytest.raises(DamagedCheckpoint, match=f"the checkpoint {path} is damaged"):
        load_checkpoint(path, IDENTITY)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"seed": 1}, "seed 0, expected 1"),
        ({"role": "site"}, "role 'server', expected 'site'"),
        ({"config": "abd"}, "config 'abc', expected 'abd'"),
        ({"site": "A"}, "site None, expected 'A'"),
        ({"seed": 1, "role": "site"}, "role 'server', expected 'site'; seed 0, expected 1|seed 0, expected 1; role"),
    ],
)
def test_a_foreign_checkpoint_is_refused_with_what_it_is(path, other, words):
    with pytest.raises(CheckpointError, match=words) as caught:
        load_checkpoint(path, IDENTITY | other)
    assert not isinstance(caught.value, DamagedCheckpoint)
    assert f"the checkpoint {path} is of another training" in str(caught.value)


def test_the_one_before_is_kept(path):
    for value in (2.0, 3.0):
        save_checkpoint(path, state(value), IDENTITY, keep_previous=True)
    values = [load_checkpoint(p, IDENTITY)["network"]["weight"][0, 0].item() for p in (previous_path(path), path)]
    assert values == [2.0, 3.0]


@pytest.mark.parametrize("limit", [0, 100, 1000, 3000])
def test_a_full_disk_leaves_both_as_they_were(path, limit):
    save_checkpoint(path, state(2.0), IDENTITY, keep_previous=True)
    before = {p.name: p.read_bytes() for p in path.parent.iterdir()}
    script = f"""
import resource, signal, sys, torch
from bundle.checkpoints import save_checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
try:
    save_checkpoint(sys.argv[1], {{"weight": torch.ones(64, 8)}}, {{}}, keep_previous=True)
except OSError as error:
    sys.exit(f"{{error.strerror}}: {{error.filename}}")
"""
    words = [sys.executable, "-c", script, str(path)]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert ended.stderr.strip().endswith(f"File too large: {path}")
    assert {p.name: p.read_bytes() for p in path.parent.iterdir()} == before


def test_nothing_else_is_kept(tmp_path):
    with pytest.raises(TypeError, match="tensors and plain values, not a set"):
        save_checkpoint(tmp_path / "latest.pt", {"a": {1}}, {})
