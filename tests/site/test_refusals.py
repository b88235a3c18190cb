"""What a site's end refuses behind FLARE is in the site's ledger, all of it and in few entries."""

import json
import random

import pytest
import torch
from small_sites import sites

from bundle.site.release import ReleasePolicy, verify
from bundle.wire import Codec
from bundle.wire.messages import ConditionRequest, OpenRequest, Refusal, SiteInfo, SiteReply, SyntheticBatch

pytest.importorskip("nvflare", reason="the extra `federation` is not installed")

from wired_sites import Collab, at, flare_site, see


def messages(rng, info):
    """What a server might send, honest and not."""
    images = torch.rand(2, 1, 8, 8) * 2 - 1
    step, nonce = (info.step + isinstance(info, SiteReply), info.nonce) if info else (1, "")
    return [
        OpenRequest("A", rng.choice([step, 1, step + 1, 0, -3, 10**6])),
        SyntheticBatch("A", rng.choice([step, step, step - 1, step + 1]), rng.choice([images, images * 3, images[:1]])),
        SyntheticBatch("A", step, images, nonce),
        ConditionRequest("A", rng.randrange(-3, 12), rng.randrange(-3, 12)),
        rng.choice([OpenRequest("B", 1), Refusal("A", "x"), SyntheticBatch("B", 1, images, nonce)]),
    ]


def test_every_refusal_that_is_sent_is_counted_in_the_ledger(tmp_path, monkeypatch):
    path = tmp_path / "A.jsonl"
    policy = ReleasePolicy.make({"policy": "guarded", "max_issues": 8})
    (site,) = sites({"A": 9}, l1_weight=0.0, policy=policy, ledger=lambda name: path)
    end = flare_site(site)
    see(monkeypatch, Collab())
    rng, codec, info, refused, given = random.Random(3), Codec(), None, 0, 0
    torch.manual_seed(0)
    for number in range(400):
        data = codec.encode(rng.choice(messages(rng, info))) if number % 9 else rng.randbytes(rng.randrange(200))
        with at("A", caller="B" if number % 50 == 7 else "server"):
            answer = codec.decode(end.receive(data))
        refused += isinstance(answer, Refusal)
        given += not isinstance(answer, Refusal)
        info = answer if isinstance(answer, SiteInfo | SiteReply) else info
    end.stop()
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    written = [entry for entry in entries if entry["kind"] == "refusal"]
    assert verify(path).whole
    assert refused > 100
    assert given > 20
    assert sum(entry["count"] for entry in written) == refused
    assert len(entries) - len(written) == given + 1  # and the start
    assert len(written) < 20
