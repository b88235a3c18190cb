import math
from datetime import UTC, datetime, timedelta

import pytest

from bundle.site.release import ReleaseLedger, summarize, verify


class Clock:
    def __init__(self):
        self.now = datetime(2026, 11, 20, 23, 0, tzinfo=UTC)

    def __call__(self):
        self.now += timedelta(minutes=10)
        return self.now


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.jsonl"


def conditions(origin, shape=(2, 3, 8, 8)):
    return {"what": "conditions", "shape": list(shape), "dtype": "uint8", "bytes": 384, "origin": origin}


def reply(ledger, step, **fields):
    gradient = {"what": "image gradient", "shape": [2, 1, 8, 8], "dtype": "float32", "bytes": 512}
    losses = {"what": "losses", "names": ["adversarial", "l1"], "bytes": 16}
    ledger.append(
        "reply", step=step, parts=[gradient, losses, conditions("deformed")], samples=[step, step + 1], **fields
    )


def fill(path):
    """A day without noise, then one with it."""
    with ReleaseLedger(path, "CS", Clock()) as ledger:
        ledger.append("start", policy="published", policy_fields={"clip_norm": None, "terms": ["adversarial", "l1"]})
        ledger.append("open", step=1, parts=[conditions("real")], samples=[7, 1])
        for step in (1, 2, 3):
            reply(ledger, step)
        ledger.append("refusal", reason="conditions may not be kept")
        ledger.append("refusal", reason="conditions may not be kept")
        ledger.append("end")
        ledger.append("start", policy="noisy", policy_fields={"epsilon": 3, "clip_norm": 0.5, "nonces": True})
        ledger.append("open", step=4)
        for step in (4, 5):
            reply(ledger, step, epsilon=0.25 * step, delta=1e-5)
        ledger.append("refusal", reason="budget spent")
        return ledger.head


def test_a_page_about_a_ledger(path):
    number, head = fill(path)
    text = summarize(path)
    assert f"  File: {path}\n" in text.replace("\n    ", " ")
    expected = f"""
  Chain: whole, 13 entries, each follows from the one before.
  Site: CS
  Period: 2026-11-20 23:10 to 2026-11-21 01:10 (UTC)
Policies in force
  published: 2026-11-20 23:10 to 2026-11-21 00:20, 4 releases. gradients of: adversarial, l1
  noisy: 2026-11-21 00:30 to 2026-11-21 01:10, 3 releases. one answer per issue: yes; gradients clipped to: 0.5; epsilon, at most: 3
Releases
  7 releases: answers to synthetic images 5, openings of a training 2
  Image gradients: 10 of 1×8×8 (float32)
  Losses (numbers of each step): 5 adversarial, 5 l1
  Conditions (label maps): 12: 10 deformed, 2 real
  Size: 4,944 bytes (0.0 MB)
  Samples: conditions of 7 samples were issued 12 times in all, most often of sample 1: 2 times.
Differential privacy
  Epsilon so far: 1.25 with delta 1e-05 (a smaller epsilon protects more).
  5 of 7 releases state no epsilon, and are not covered by it.
Refusals
  2 × conditions may not be kept
  1 × budget spent
Number and hash of the last entry, to note elsewhere (on paper, in a mail)
  Entry {number}: {head}
What this page does not show
"""  # noqa: E501
    assert expected in text.replace("\n    ", " ")
    assert text.endswith("\n")


def test_the_most_often_issued_sample(path):
    with ReleaseLedger(path, "A") as ledger:
        for samples in ([1, 2], [2, 3], [2, 1]):
            ledger.append("conditions", parts=[conditions("real", (2, 3, 4, 4))], samples=samples)
    assert "conditions of 3 samples were issued 6 times in all, most often of sample 2: 3 times." in summarize(path)
    assert "Conditions (label maps): 6 real\n" in summarize(path)


def test_without_anything(path):
    ReleaseLedger(path, "A").close()
    text = summarize(path)
    for line in (
        "Chain: whole, 0 entries",
        "Site: none, no entries",
        "None stated.",
        "0 releases\n",
        "Image gradients: none",
        "Conditions (label maps): none",
        "Size: 0 bytes",
        "No differential privacy was used: no release states an epsilon.",
        "Refusals\n  None.",
        f"Entry 0: {'0' * 64}",
    ):
        assert line in text, line


def test_empty_batches_hold_no_label_maps(path):
    with ReleaseLedger(path, "A") as ledger:
        ledger.append("conditions", parts=[conditions("real", (0,)), conditions("real", (5, 0, 8, 8))])
    assert "Conditions (label maps): 0 real\n" in summarize(path)


def test_no_noise_is_no_guarantee(path):
    with ReleaseLedger(path, "A") as ledger:
        reply(ledger, 1, epsilon=math.inf, delta=1e-5)
    assert "Epsilon so far: infinite. That is no guarantee at all." in summarize(path)
    with ReleaseLedger(path, "A") as ledger:
        reply(ledger, 2, epsilon=None)
    assert "Epsilon so far: infinite." in summarize(path)


def test_an_accounting_that_began_anew_is_told(path):
    with ReleaseLedger(path, "A") as ledger:
        for step, epsilon in enumerate((1.0, 2.0, 2.0, 0.5, 1.0), 1):
            reply(ledger, step, epsilon=epsilon)
    text = summarize(path)
    assert "Epsilon so far: 1 with delta not stated" in text
    assert "began anew 1 time, last at entry 4: the epsilon above does not cover what was released before" in (
        " ".join(text.split())
    )
    assert "5 releases before any policy was stated." in text


def test_a_broken_chain_comes_first(path):
    fill(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3] + lines[4:]))
    text = " ".join(summarize(path).split())
    assert "Chain: BROKEN. line 4: it is entry 5, not 4" in text
    assert "This page covers the 3 entries before the break only." in text
    assert "2 releases: openings of a training 1, answers to synthetic images 1" in text
    assert "whole" not in text.split("Policies")[0]


def test_a_torn_line_is_told_and_left(path):
    fill(path)
    content = path.read_bytes() + b'{"bytes":1'
    path.write_bytes(content)
    text = " ".join(summarize(path).split())
    assert "whole, 13 entries" in text
    assert "After the last entry are 10 bytes of an entry that was not finished" in text
    assert path.read_bytes() == content


def test_it_is_one_page_whatever_is_in_the_ledger(tmp_path):
    path = tmp_path / ("long name " * 20) / ("ledger " * 20)
    words = "word " * 100
    with ReleaseLedger(path, words, Clock()) as ledger:
        ledger.append("open", parts=[{}])
        for number in range(12):
            fields = {f"field {name}": words for name in range(20)}
            ledger.append("start", policy=f"policy {number} {words}", policy_fields=fields)
            parts = [
                {"what": "image gradient", "shape": [1, number, 256, 256], "dtype": words},
                {"what": "losses", "names": [f"loss {number} {words}"]},
                {"what": "conditions", "shape": [number + 1, 3], "origin": f"origin {number} {words}"},
                {"what": f"other {number} {words}"},
            ]
            ledger.append(f"kind {number} {words}", parts=parts, samples=[words], epsilon=12 - number, delta=words)
            ledger.append("refusal", reason=f"reason {number}\n\x1b[2J{words}")
    with open(path, "ab") as file:
        file.write(b'{"')
    for _ in range(2):
        lines = summarize(path).splitlines()
        assert len(lines) <= 60, len(lines)
        assert max(map(len, lines)) <= 100
        assert all(line.isprintable() for line in lines)
        # nothing of importance is pushed out
        assert any("not state" in line or "state no epsilon" in line for line in lines)
        assert any(verify(path).head in line for line in lines)
        path.write_bytes(path.read_bytes()[:-100] + b"\nx\n")


@pytest.mark.parametrize(
    "fields",
    [
        {"parts": "none"},
        {"parts": [1, None, "x", {"what": 3, "bytes": "many", "shape": "x"}]},
        {"parts": [{"what": "losses", "names": 5}, {"what": "conditions"}, {"what": "image gradient", "shape": ["a"]}]},
        {"samples": 3, "epsilon": "much", "delta": []},
        {"samples": [None, [1], {"a": 1}]},
        {"policy": ["a"], "policy_fields": "b"},
    ],
)
def test_fields_of_other_types_do_not_stop_it(path, fields):
    with ReleaseLedger(path, "A") as ledger:
        for kind in ("start", "reply", "refusal"):
            ledger.append(kind, **fields)
    assert "1 release: answers to synthetic images 1" in summarize(path)
