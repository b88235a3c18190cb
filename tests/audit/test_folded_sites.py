"""Attacks on sites with folds: what they can ask, and which of them has nothing to attack."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from patients import Patients, answers, make

from bundle.audit.fresh_sites import renew_gate
from bundle.audit.membership_queries import ask
from bundle.audit.readout_run import run_readout


def folded(folder):
    return make(Patients("A", 12), "out_of_fold", ledger=lambda name: folder / f"{name}.jsonl")


def test_folds_stay_when_an_audit_takes_the_ledger_away(tmp_path):
    folder = tmp_path / "ledgers"
    folder.mkdir()
    trained = folded(folder)
    answers(trained, 1, 2)
    trained.gate.close()
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy/A.jsonl").unlink()
    site = folded(tmp_path / "copy")
    renew_gate(site, None)
    site.gate.close()
    shutil.rmtree(tmp_path / "copy")
    site.load_state_dict(trained.state_dict())
    image, condition = torch.zeros(1, 8, 8), site.samples[0]["condition"]
    reply = ask(site, image, condition)
    assert set(reply.losses) <= {"adversarial.1", "adversarial.2"}
    assert not (tmp_path / "copy").exists()


def test_one_network_stands_for_the_critics(tmp_path):
    site = folded(tmp_path)
    pair = torch.rand(2, 3, 8, 8)
    expected = torch.stack([critic.discriminator(pair) for critic in site.critic.critics]).mean(dim=0)
    assert torch.equal(site.critic.discriminator(pair), expected)


def test_reading_out_has_nothing_to_read(tmp_path):
    target = SimpleNamespace(sites={"A": folded(tmp_path)})
    with pytest.raises(ValueError, match="--site A: its release policy has folds"):
        run_readout(target, SimpleNamespace(site="A"), tmp_path, {})
