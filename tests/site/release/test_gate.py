import hashlib
import itertools
import json
import math
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bundle.site.release import POLICIES, LedgerError, ReleaseGate, ReleasePolicy, ReleaseRefused, epsilon, summarize

ROOT = Path(__file__).resolve().parents[3]


def stream(first=0):
    """Bytes that are the same in every test, of a quality that noise can be made of."""
    counter = itertools.count(first)

    def source(size):
        blocks = (hashlib.sha256(str(next(counter)).encode()).digest() for _ in range(math.ceil(size / 32)))
        return b"".join(blocks)[:size]

    return source


def private(**changes):
    return ReleasePolicy.make({"policy": "private", "clip_norm": 1.0} | changes)


def answer(gate, step, nonce, gradient=None):
    gate.redeem(step, nonce)
    gradient, noise = gate.gradient(torch.ones(2, 1, 4, 4) if gradient is None else gradient)
    following = gate.issue(step + 1, [])
    gate.record("reply", {"image gradient": gradient}, noise=noise, step=step)
    return following


def entries(path, kind):
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["kind"] == kind]


@pytest.mark.parametrize("terms", [("adversarial", "l1"), ("adversarial", "perceptual")])
def test_a_loss_beyond_the_policy_is_refused_before_anything_is_computed_and_written_down(tmp_path, terms):
    gate = ReleaseGate(POLICIES["guarded"], "A", tmp_path / "A.jsonl", num_steps=10)
    with pytest.raises(ReleaseRefused, match=terms[1]) as refused:
        gate.plan(terms)
    assert not refused.value.final
    (entry,) = entries(tmp_path / "A.jsonl", "refusal")
    assert (entry["reason"], entry["count"]) == ("a training that the policy forbids", 1)
    assert terms[1] in entry["last"]


def test_a_training_of_more_releases_than_there_may_be_is_refused_before_hours_are_spent():
    policy = ReleasePolicy.make({"policy": "guarded", "max_releases": 10})
    ReleaseGate(policy, "A", num_steps=10).plan(["adversarial"])
    with pytest.raises(ReleaseRefused, match="max_releases"):
        ReleaseGate(policy, "A", num_steps=11).plan(["adversarial"])


def test_a_training_that_issues_a_sample_too_often_is_refused_before_hours_are_spent():
    gate = ReleaseGate(ReleasePolicy.make({"policy": "guarded", "max_issues": 10}), "A", num_steps=1000)
    gate.plan(["adversarial"], batch_size=2, num_samples=200)
    with pytest.raises(ReleaseRefused, match=r"1000 steps issue conditions more often than .* 10 times"):
        gate.plan(["adversarial"], batch_size=2, num_samples=199)
    # where the server brings its own, the site issues none
    public = ReleaseGate(
        ReleasePolicy.make({"policy": "guarded", "max_issues": 10, "conditions": "public"}), "A", num_steps=1000
    )
    public.plan(["adversarial"], batch_size=2, num_samples=2)


def test_a_training_ends_with_its_last_step():
    gate = ReleaseGate(POLICIES["guarded"], "A", num_steps=10)
    for step in (1, 10):
        gate.check_step(step)
    for step in (11, 10**6, 2**62):
        with pytest.raises(ReleaseRefused, match="the training ends with step 10"):
            gate.check_step(step)


def test_what_is_delivered_counts_as_what_is_issued(tmp_path):
    policy = ReleasePolicy.make({"policy": "guarded", "max_issues": 3})
    for number in range(3):
        gate = ReleaseGate(policy, "A", tmp_path / "A.jsonl")
        if number == 1:
            gate.issue(1, ["7"])
        else:
            gate.deliver(["7"])
        gate.record("conditions", {})
        gate.close()
    gate = ReleaseGate(policy, "A", tmp_path / "A.jsonl")
    gate.deliver(["8"])
    for ask in (gate.deliver, lambda samples: gate.issue(2, samples)):
        with pytest.raises(ReleaseRefused, match="issued 3 times"):
            ask(["8", "7"])


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_refusals_are_counted_in_few_entries(tmp_path):
    path = tmp_path / "A.jsonl"
    gate = ReleaseGate(POLICIES["guarded"], "A", path)
    gate._records.refusals._clock = clock = Clock()
    for number in range(1000):
        gate.note_refusal("a batch for no conditions", f"step {number}\n\x1b[2J{'x' * 1000}")
    (first,) = entries(path, "refusal")
    assert (first["reason"], first["count"]) == ("a batch for no conditions", 1)
    assert first["last"].isprintable()
    assert len(first["last"]) == 300
    gate.note_refusal("another", "of another kind is written at once")
    assert [entry["count"] for entry in entries(path, "refusal")] == [1, 1]
    clock.now = 61
    gate.record("open", {})  # whatever is asked for next
    assert [entry["count"] for entry in entries(path, "refusal")] == [1, 1, 999]
    gate.note_refusal("another", "at the end")
    assert [entry["count"] for entry in entries(path, "refusal")] == [1, 1, 999, 1]
    gate.note_refusal("another", "at the end")
    gate.close()
    assert sum(entry["count"] for entry in entries(path, "refusal")) == gate.refused == 1003
    assert "1,000 × a batch for no conditions" in summarize(path)


@pytest.mark.parametrize("end", ["del gate", "pass"])
def test_refusals_that_wait_are_written_when_the_object_or_the_process_ends(tmp_path, end):
    script = f"""
import sys
from bundle.site.release import POLICIES, ReleaseGate
gate = ReleaseGate(POLICIES["guarded"], "A", sys.argv[1])
for _ in range(7):
    gate.note_refusal("kind", "words")
{end}
"""
    path = tmp_path / "A.jsonl"
    subprocess.run([sys.executable, "-c", script, path], cwd=ROOT, check=True)
    assert [entry["count"] for entry in entries(path, "refusal")] == [1, 6]


def test_a_refusal_that_cannot_be_written_is_one_all_the_same(tmp_path, monkeypatch, caplog):
    gate = ReleaseGate(POLICIES["guarded"], "A", tmp_path / "A.jsonl")
    with monkeypatch.context() as patched:
        patched.setattr("os.write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(ReleaseRefused):
            gate.refuse("kind", "words")
    assert "could not be written down" in caplog.text
    gate.close()
    assert [entry["count"] for entry in entries(tmp_path / "A.jsonl", "refusal")] == [1]


def deformed(path):
    return ReleaseGate(ReleasePolicy.make({"policy": "guarded", "conditions": "deformed"}), "A", path)


def test_the_secret_stays_with_the_ledger(tmp_path):
    path = tmp_path / "A.jsonl"
    gates = [deformed(path) for _ in range(2)]
    assert gates[0].secret == gates[1].secret != deformed(tmp_path / "B.jsonl").secret
    kept = tmp_path / "A.secret"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    gates[0].record("open", {})
    gates[0].close()
    assert f"{gates[0].secret:032x}" not in path.read_text(encoding="utf-8")
    before = kept.read_text(encoding="ascii")
    # lost, and drawn anew: the second deformation of every label map does not leave
    kept.unlink()
    with pytest.raises(LedgerError, match=r"A\.secret is not the secret by which .*A\.jsonl says"):
        deformed(path).record("open", {})
    kept.write_text("", encoding="ascii")
    with pytest.raises(LedgerError, match=r"A\.secret: expected 32 hexadecimal digits"):
        _ = deformed(path).secret
    kept.write_text(before, encoding="ascii")
    deformed(path).record("open", {})


def test_a_nonce_is_answered_once_and_for_its_own_step():
    gate = ReleaseGate(POLICIES["guarded"], "A")
    nonce = gate.issue(1, ["0", "1"])
    assert gate.issue(1, ["0", "1"]) == nonce, "asked again before it was answered: nothing new is issued"
    for step, other in ((2, nonce), (1, "other"), (1, "")):
        with pytest.raises(ReleaseRefused, match="nonce"):
            gate.redeem(step, other)
    gate.redeem(1, nonce)
    with pytest.raises(ReleaseRefused, match="nonce"):
        gate.redeem(1, nonce)
    assert gate.issue(1, ["0", "1"]) != nonce


def test_a_sample_is_issued_as_often_as_the_policy_says_and_the_count_outlives_the_process(tmp_path):
    policy = ReleasePolicy.make({"policy": "guarded", "max_issues": 3})
    for number in range(3):
        gate = ReleaseGate(policy, "A", tmp_path / "A.jsonl")
        gate.issue(number + 1, ["7", "8"])
        gate.record("open", {"conditions": torch.zeros(2, 1, 4, 4, dtype=torch.uint8)})
        del gate
    gate = ReleaseGate(policy, "A", tmp_path / "A.jsonl")
    gate.issue(4, ["1", "2"])
    with pytest.raises(ReleaseRefused, match="issued 3 times") as refused:
        gate.issue(5, ["2", "8"])
    assert refused.value.final


def test_all_planned_releases_fit_the_budget_and_the_next_one_does_not(tmp_path):
    gate = ReleaseGate(private(epsilon=2.0, delta=1e-5), "A", tmp_path / "A.jsonl", source=stream(), num_steps=20)
    nonce = gate.issue(1, [])
    for step in range(1, 21):
        nonce = answer(gate, step, nonce)
    told = [entry["epsilon"] for entry in entries(tmp_path / "A.jsonl", "reply")]
    noise = {round(entry["noise_multiplier"], 9) for entry in entries(tmp_path / "A.jsonl", "reply")}
    assert told == sorted(told)
    assert 1.99 < told[-1] <= 2.0 + 1e-6
    assert len(noise) == 1, "the noise stays the same from step to step"
    assert told[-1] == pytest.approx(epsilon(noise.pop(), 20, 1e-5), rel=1e-6)
    with pytest.raises(ReleaseRefused, match="budget is spent") as refused:
        answer(gate, 21, nonce)
    assert refused.value.final


def test_the_budget_is_that_of_all_trainings_the_ledger_knows(tmp_path):
    for first in (1, 11):
        gate = ReleaseGate(private(epsilon=2.0), "A", tmp_path / "A.jsonl", source=stream(first * 1000), num_steps=20)
        nonce = gate.issue(first, [])
        for step in range(first, first + 10):
            nonce = answer(gate, step, nonce)
        spent = gate.epsilon
        del gate
    noise = [entry["noise_multiplier"] for entry in entries(tmp_path / "A.jsonl", "reply")]
    assert noise[0] == pytest.approx(noise[-1]), "a training that was interrupted goes on with the same noise"
    assert spent == pytest.approx(2.0, rel=1e-3)
    other = ReleaseGate(private(epsilon=2.0), "A", tmp_path / "A.jsonl", num_steps=20)
    with pytest.raises(ReleaseRefused, match="budget is spent"):
        other.redeem(1, other.issue(1, []))


def test_steps_done_twice_cost_noise_and_never_more_than_the_budget():
    gate = ReleaseGate(private(epsilon=2.0), "A", source=stream(), num_steps=10)
    for _ in range(40):  # a server that goes back to the first step again and again
        answer(gate, 1, gate.issue(1, []))
    assert gate.epsilon < 2.0
    nonce = gate.issue(2, [])
    for step in range(2, 11):
        nonce = answer(gate, step, nonce)
    assert gate.epsilon <= 2.0 + 1e-6


def test_the_same_bytes_again_are_no_new_release_in_whichever_process(tmp_path):
    def replied(gate, gradient, noise):
        gate.record("reply", {"image gradient": gradient}, noise=noise)
        gate.close()

    gradient = torch.rand(2, 1, 4, 4)
    for _ in range(3):
        gate = ReleaseGate(private(epsilon=2.0), "A", tmp_path / "A.jsonl")
        replied(gate, gradient, 5.0)
        replied(gate, gradient, 5.0)
    once = gate.epsilon
    assert once == pytest.approx(epsilon(5.0, 1, 1e-5))
    assert gate.releases == 1
    assert len(entries(tmp_path / "A.jsonl", "repeated reply")) == 5
    replied(gate, gradient + 1, 5.0)
    assert gate.epsilon > once


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_an_answer_that_was_kept_does_not_leave_with_too_little_noise(tmp_path, noise):
    gate = ReleaseGate(private(epsilon=2.0), "A", tmp_path / "A.jsonl")
    with pytest.raises(ReleaseRefused, match="less noise than what is left") as refused:
        gate.record("reply", {"image gradient": torch.rand(2, 1, 4, 4)}, noise=noise)
    assert refused.value.final
    assert gate.epsilon == 0
    assert not entries(tmp_path / "A.jsonl", "reply")


def test_a_step_that_failed_takes_what_its_answer_would_have(tmp_path):
    how = private(epsilon=2.0), "A", tmp_path / "A.jsonl"
    gate = ReleaseGate(*how, num_steps=10)
    for step in (1, 2):
        gate.redeem(step, gate.issue(step, []))
        gate.note_failure(step)
    spent = gate.epsilon
    assert spent == pytest.approx(epsilon(gate.spending.noise, 2, 1e-5), rel=1e-6)
    gate.close()
    again = ReleaseGate(*how, num_steps=10)
    nonce = again.issue(3, [])
    assert again.epsilon == pytest.approx(spent)
    for step in range(3, 11):
        nonce = answer(again, step, nonce)
    assert 1.99 < again.epsilon <= 2.0 + 1e-6


def test_no_finite_epsilon_is_claimed_after_a_release_without_noise(tmp_path):
    open_gate = ReleaseGate(POLICIES["guarded"], "A", tmp_path / "A.jsonl")
    answer(open_gate, 1, open_gate.issue(1, []))
    del open_gate
    gate = ReleaseGate(private(epsilon=2.0), "A", tmp_path / "A.jsonl", num_steps=10)
    with pytest.raises(ReleaseRefused, match="without noise"):
        gate.redeem(1, gate.issue(1, []))
    assert gate.epsilon == math.inf


def test_what_is_returned_is_clipped_and_noisy_and_scalars_are_not():
    gate = ReleaseGate(private(epsilon=2.0), "A", source=stream(), num_steps=10)
    gate.redeem(1, gate.issue(1, []))
    first, noise = gate.gradient(torch.zeros(2, 1, 32, 32))
    gate.redeem(2, gate.issue(2, []))
    again, _ = gate.gradient(torch.zeros(2, 1, 32, 32))
    sigma = noise * 2 * 1.0 * math.sqrt(2)
    assert first.std().item() == pytest.approx(sigma, rel=0.1)
    assert abs(torch.corrcoef(torch.stack([first.flatten(), again.flatten()]))[0, 1]) < 0.1
    assert gate.losses({"adversarial": 0.3}) == {}
    clipped = ReleaseGate(private(epsilon=math.inf), "A", num_steps=10)
    clipped.redeem(1, clipped.issue(1, []))
    released, noise = clipped.gradient(torch.full((2, 1, 32, 32), 5.0))
    clipped.record("reply", {"image gradient": released}, noise=noise)
    assert torch.linalg.vector_norm(released.flatten(1), dim=1).tolist() == pytest.approx([1.0, 1.0])
    assert clipped.epsilon == math.inf


@pytest.mark.parametrize(("said", "expected"), [("exact", 1234), ("rounded", 1000), (5, 5)])
def test_what_is_said_of_the_number_of_samples(said, expected):
    assert (
        ReleaseGate(ReleasePolicy.make({"policy": "guarded", "num_samples": said}), "A").num_samples(1234) == expected
    )


def test_a_ledger_that_cannot_be_written_stops_the_release(tmp_path, monkeypatch):
    gate = ReleaseGate(POLICIES["guarded"], "A", tmp_path / "A.jsonl")
    gate.issue(1, ["0"])
    gate.record("open", {})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.write", full)
    with pytest.raises(OSError, match="No space"):
        gate.record("reply", {"image gradient": torch.zeros(1, 1, 2, 2)})
