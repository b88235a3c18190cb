import errno
import json
import logging
import math
import os
import signal
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from bundle.site.release import LedgerError, ReleaseLedger, check_head, summarize, verify
from bundle.site.release.chain import GENESIS, canonical, seal

ROOT = Path(__file__).resolve().parents[3]


class Clock:
    def __init__(self):
        self.now = datetime(2026, 11, 22, 9, 0, 0, 123456, tzinfo=UTC)

    def __call__(self):
        self.now += timedelta(seconds=61)
        return self.now


def fill(path, count=5):
    with ReleaseLedger(path, "Zürich", Clock()) as ledger:
        entries = [ledger.append("start", policy="gradients", policy_fields={"clip": 0.5, "more": [1, None]})]
        entries += [
            ledger.append("reply", step=step, samples=[step, 2], parts=[{"what": "image gradient", "shape": [2, 1, 8]}])
            for step in range(1, count)
        ]
    return entries


@pytest.fixture
def path(tmp_path):
    return tmp_path / "site" / "ledger.jsonl"


def test_round_trip(path):
    entries = fill(path)
    content = path.read_bytes()
    assert [json.loads(line) for line in content.splitlines()] == entries
    assert [entry["number"] for entry in entries] == [1, 2, 3, 4, 5]
    assert [entry["previous"] for entry in entries] == ["0" * 64, *(entry["hash"] for entry in entries[:-1])]
    assert entries[0]["time"] == "2026-11-22T09:01:01+00:00"
    assert entries[0]["site"] == "Zürich"
    assert b'"site":"Z\xc3\xbcrich"' in content
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    state = verify(path)
    assert (state.entries, state.whole, state.torn, state.problem) == (5, True, 0, "")
    assert (state.head, state.first, state.last) == (entries[-1]["hash"], entries[0]["time"], entries[-1]["time"])
    with ReleaseLedger(path, "Zürich", Clock()) as ledger:
        assert list(ledger.entries()) == entries
        assert ledger.head == (5, entries[-1]["hash"])
        entries.append(ledger.append("end"))
        assert list(ledger.entries()) == entries
        assert verify(path).entries == 6
    assert path.read_bytes().startswith(content)


def test_an_empty_ledger(path):
    with ReleaseLedger(path, "A") as ledger:
        assert ledger.head == (0, GENESIS)
        assert list(ledger.entries()) == []
    state = verify(path)
    assert (state.entries, state.whole, state.head, state.first, state.last) == (0, True, GENESIS, None, None)
    with pytest.raises(FileNotFoundError):
        verify(path.with_name("other"))


def test_times_are_of_one_zone(path):
    with ReleaseLedger(path, "A", lambda: datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2)))) as ledger:
        assert ledger.append("start")["time"] == "2025-12-31T22:00:00+00:00"


def test_the_hash_is_that_of_the_documented_form(path):
    import hashlib

    for entry in fill(path):
        rest = {key: value for key, value in entry.items() if key != "hash"}
        text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert hashlib.sha256(text.encode("utf-8")).hexdigest() == entry["hash"]


def test_fields_are_strict_json(path):
    with ReleaseLedger(path, "A") as ledger:
        entry = ledger.append("reply", epsilon=math.inf, shape=(2, 3), text="line\nbreak\u2028\0", small=-1e-300, z={})
        assert (entry["epsilon"], entry["shape"]) == ("inf", [2, 3])
        for value in (math.nan, -math.inf, np.zeros(2), np.int64(1), {1: 2}, {"a": {1}}, b"x", "\ud800", object()):
            with pytest.raises(ValueError, match=r"fields.deep\[1\].*: expected plain JSON, got "):
                ledger.append("reply", deep=[0, value])
        for name in ("number", "time", "site", "previous", "hash"):
            with pytest.raises(ValueError, match=f"{name}: the ledger writes this field itself"):
                ledger.append("reply", **{name: 1})
        for kind in ("", None):
            with pytest.raises(ValueError, match="kind: expected a name"):
                ledger.append(kind)
        # none of them is in the file
        assert list(ledger.entries()) == [entry]
    assert verify(path).entries == 1


def test_every_changed_byte_is_found(path):
    with ReleaseLedger(path, "Ü", Clock()) as ledger:
        for kind in ("start", "reply"):
            ledger.append(kind)
    content = path.read_bytes()
    last_line = content.rindex(b"\n", 0, -1) + 1
    with open(path, "r+b", buffering=0) as file:
        for place, byte in enumerate(content):
            for other in {byte ^ 1, byte ^ 2, byte ^ 128, *b"\n\0 }"} - {byte}:
                os.pwrite(file.fileno(), bytes([other]), place)
                state = verify(path)
                # in the last line it may look like a power cut, which is reported too
                assert not state.whole or (state.torn and state.entries == 1 and place >= last_line), (place, other)
            os.pwrite(file.fileno(), bytes([byte]), place)
    assert verify(path).entries == 2


def test_removed_added_and_moved_lines_are_found(path):
    entries = fill(path)
    lines = path.read_bytes().splitlines(keepends=True)

    def changed(*order):
        path.write_bytes(b"".join(lines[i] if isinstance(i, int) else i for i in order))
        state = verify(path)
        with pytest.raises(LedgerError, match=f"{path}, line "):
            ReleaseLedger(path, "Zürich")
        assert not state.whole
        return state.entries, state.problem

    assert changed(1, 2, 3, 4) == (
        0,
        "line 1: it is entry 2, not 1: entries are missing, added or in another order",
    )
    assert changed(0, 1, 3, 4)[0] == 2
    assert changed(0, 2, 1, 3, 4)[0] == 1
    assert changed(0, 1, 2, 2, 3, 4)[0] == 3
    # made anew with a right hash
    forged = {**entries[2], "step": 99}
    del forged["hash"]
    forged = canonical(seal(forged)) + b"\n"
    assert changed(0, 1, forged, 3, 4) == (3, "line 4: it does not follow the entry before")
    assert changed(0, 1, 2, canonical(entries[3] | {"step": 7}) + b"\n", 4)[1].startswith("line 4: its content was cha")
    # JSON that means the same, and JSON that two programs may read differently
    spaced = json.dumps(entries[4], sort_keys=True, ensure_ascii=False).encode() + b"\n"
    twice = b'{"kind":"end",' + lines[4][1:]
    for line in (spaced, twice):
        assert changed(0, 1, 2, 3, line) == (4, "line 5: it is not written as the ledger writes")
    for line in (b"{}\n", b"1\n", b'{"number":NaN}\n', canonical({**entries[4], "time": "now"}) + b"\n"):
        assert changed(0, 1, 2, 3, line) == (4, "line 5: it is not an entry of a ledger")
    assert changed(0, 1, b"\n", 2, 3, 4) == (2, "line 3: no entry can be read from it")
    # two lines made one are no power cut
    assert changed(0, 1, 2, lines[3][:-1], 4)[1] == "line 4: it is not written as the ledger writes"


def test_truncated_anywhere_it_goes_on_after_the_last_whole_entry(path, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: None)  # a thousand times over, it takes a minute
    with ReleaseLedger(path, "Zürich", Clock()) as ledger:
        entries = [ledger.append("reply") for _ in range(5)]
    content = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(content) if byte == ord("\n")]
    for size in range(len(content)):
        target = tmp_path / "cut"
        target.write_bytes(content[:size])
        whole = sum(end <= size for end in ends)
        rest = size - ([0, *ends])[whole]
        before = verify(target)
        assert (before.entries, before.whole, before.torn) == (whole, True, rest)
        assert target.stat().st_size == size  # verified without a change
        if whole not in (0, 4) and rest > 2 and size % 7:
            continue  # the lines between are as the last: to open each a thousand times takes 10 s
        caplog.clear()
        with ReleaseLedger(target, "Zürich", Clock()) as ledger:
            assert ledger.head == (whole, entries[whole - 1]["hash"] if whole else GENESIS)
            ledger.append("start")
        torn = tmp_path / "cut.torn-1"
        assert torn.exists() == bool(rest)
        if rest:
            assert f"after entry {whole} was not written to its end: its {rest} bytes were cut off" in caplog.text
            assert torn.read_bytes() == content[size - rest : size]
            assert stat.S_IMODE(torn.stat().st_mode) == 0o600
            torn.unlink()
        after = verify(target)
        assert (after.entries, after.whole, after.torn) == (whole + 1, True, 0)


def test_torn_lines_are_all_kept(path):
    fill(path, 2)
    for number, rest in enumerate((b'{"a', b"\0\0\0\0", b"\xff\n"), 1):
        with open(path, "ab") as file:
            file.write(rest)
        ReleaseLedger(path, "Zürich").close()
        assert Path(f"{path}.torn-{number}").read_bytes() == rest
    assert verify(path).entries == 2


def test_a_torn_line_that_cannot_be_kept_is_not_cut(path, monkeypatch):
    fill(path, 2)
    with open(path, "ab") as file:
        file.write(b'{"torn')
    content = path.read_bytes()
    monkeypatch.setattr(
        "bundle.site.release.torn_lines.os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    with pytest.raises(OSError, match="No space left"):
        ReleaseLedger(path, "Zürich")
    assert path.read_bytes() == content
    assert sorted(p.name for p in path.parent.iterdir()) == [".lock", path.name]


@pytest.mark.parametrize("content", [b"notes\n", b'{"a": 1}', b'{"a": 1}\n', b'{\n "a": 1\n}\n', b"[]"])
def test_a_file_of_another_kind_is_left_alone(tmp_path, content):
    path = tmp_path / "notes"
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=f"{path}, line 1: "):
        ReleaseLedger(path, "A")
    assert path.read_bytes() == content


def test_a_ledger_belongs_to_one_site(path):
    fill(path)
    with pytest.raises(LedgerError, match=f"{path}, line 1: site is 'Zürich', expected 'B'"):
        ReleaseLedger(path, "B")
    # and is not kept locked by the refusal
    ReleaseLedger(path, "Zürich").close()


def test_two_writers_are_refused(path):
    first = ReleaseLedger(path, "A")
    first.append("start")
    for _ in range(2):
        with pytest.raises(LedgerError, match=f"{path} is in use by another process"):
            ReleaseLedger(path, "A")
    assert verify(path).entries == 1  # to read is allowed
    script = "import sys; from bundle.site.release import ReleaseLedger; ReleaseLedger(sys.argv[1], 'A')"
    other = subprocess.run([sys.executable, "-c", script, path], cwd=ROOT, capture_output=True, text=True)
    assert "is in use by another process" in other.stderr
    first.close()
    first.close()
    with pytest.raises(LedgerError, match="the ledger is closed"):
        first.append("end")
    with ReleaseLedger(path, "A") as second:
        assert second.append("start")["number"] == 2


@pytest.mark.parametrize("meddle", ["append", "cut", "remove", "replace"])
def test_a_file_that_changes_under_the_ledger_is_noticed(path, meddle):
    with ReleaseLedger(path, "A") as ledger:
        ledger.append("start")
        content = path.read_bytes()
        if meddle == "append":
            path.write_bytes(content + b"x")
        elif meddle == "cut":
            path.write_bytes(content[:-1])
        else:
            path.unlink()
        if meddle == "replace":
            path.write_bytes(content.replace(b"start", b"stark"))
        with pytest.raises(LedgerError, match="was changed, replaced or removed by somebody else"):
            ledger.append("reply")


@pytest.mark.parametrize("failure", ["half", "none", "short", "fsync"])
def test_a_full_disk_leaves_whole_entries(path, monkeypatch, failure):
    write, sync = os.write, os.fsync

    def full(handle, data):
        if failure in ("half", "short"):
            written = write(handle, data[: len(data) // 2])
        if failure == "short":
            return written
        raise OSError(errno.ENOSPC, "No space left on device")

    calls = []

    def failing_once(handle):
        calls.append(handle)
        if len(calls) == 1:
            raise OSError(errno.EIO, "Input/output error")
        sync(handle)

    with ReleaseLedger(path, "A", Clock()) as ledger:
        ledger.append("start")
        content = path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(*(("os.fsync", failing_once) if failure == "fsync" else ("os.write", full)))
            with pytest.raises(OSError) as caught:
                ledger.append("reply", step=1)
        assert caught.value.errno == (errno.EIO if failure == "fsync" else errno.ENOSPC)
        assert caught.value.filename == str(path)
        assert path.read_bytes() == content
        assert ledger.append("reply", step=1)["number"] == 2
    state = verify(path)
    assert (state.entries, state.whole, state.torn) == (2, True, 0)


def test_a_disk_that_can_not_even_be_cut_back_closes_the_ledger(path, monkeypatch, caplog):
    write = os.write
    ledger = ReleaseLedger(path, "A")
    ledger.append("start")
    with monkeypatch.context() as patch:
        patch.setattr("os.write", lambda handle, data: write(handle, data[:40]))
        patch.setattr("os.ftruncate", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
        with pytest.raises(OSError, match="only 40 of"):
            ledger.append("reply")
    assert "could not be cut back to its last entry, and is closed" in caplog.text
    with pytest.raises(LedgerError, match="the ledger is closed"):
        ledger.append("reply")
    with ReleaseLedger(path, "A") as again:
        assert again.append("start")["number"] == 2


def test_threads_share_a_ledger(path):
    with ReleaseLedger(path, "A") as ledger:
        threads = [Thread(target=lambda: [ledger.append("reply") for _ in range(20)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (verify(path).entries, verify(path).whole) == (80, True)


def test_a_killed_writer_leaves_what_it_was_told_was_written(path):
    script = """
import sys
from bundle.site.release import ReleaseLedger
ledger = ReleaseLedger(sys.argv[1], "A")
while True:
    print(ledger.append("reply", parts=[{"what": "x" * 5000}])["number"], flush=True)
"""
    told = 0
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", script, path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        first = told
        while told < first + 20:
            told = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        told = max([told, *(int(line) for line in process.stdout.read().split())])
        process.wait()
        process.stdout.close()
        state = verify(path)
        assert state.whole
        # it may have written one more before it could say so
        assert told <= state.entries <= told + 1
        told = state.entries
    with ReleaseLedger(path, "A") as ledger:  # the lock went with it
        assert ledger.append("start")["number"] == told + 1


def test_a_noted_head_reveals_what_the_chain_does_not(path):
    entries = fill(path)
    noted = 4, entries[3]["hash"]
    assert check_head(path, *noted)
    assert check_head(path, 4, noted[1].upper())
    assert not check_head(path, 3, noted[1])
    assert not check_head(path, 9, noted[1])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]))
    assert verify(path).whole
    assert not check_head(path, *noted)
    # all of it anew, one second later
    path.unlink()
    clock = Clock()
    clock.now += timedelta(seconds=1)
    with ReleaseLedger(path, "Zürich", clock) as ledger:
        for entry in entries:
            ledger.append(entry["kind"])
    assert verify(path).whole
    assert not check_head(path, *noted)
    path.write_bytes(b"".join(lines[1:]))
    with pytest.raises(LedgerError, match="line 1: it is entry 2"):
        check_head(path, *noted)
    for arguments in ((0, noted[1]), (True, noted[1]), (4, noted[1][:-1]), (4, "g" * 64)):
        with pytest.raises(ValueError, match=r"number: expected|hash: expected 64 hexadecimal digits"):
            check_head(path, *arguments)


def test_a_torn_line_is_told_to_the_log_of_the_bundle(path, caplog):
    fill(path, 2)
    with open(path, "ab") as file:
        file.write(b"{")
    ReleaseLedger(path, "Zürich").close()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("bundle.site.release.ledger", logging.WARNING)


def test_a_clock_that_goes_back_is_in_the_ledger(path, caplog):
    times = [datetime(2026, 1, 1, hour, tzinfo=UTC) for hour in (10, 11, 9, 9, 12)]
    with ReleaseLedger(path, "A", iter(times[:2]).__next__) as ledger:
        ledger.append("start")
        ledger.append("reply")
    # also where it goes back between two processes
    with ReleaseLedger(path, "A", iter(times[2:]).__next__) as ledger:
        entries = [ledger.append("reply") for _ in times[2:]]
    assert [entry.get("clock_went_back") for entry in entries] == [7200, None, None]
    assert "the clock went back by 7200 s" in caplog.text
    assert verify(path).whole
    assert "The clock went back 1 time, by 7,200 s at most" in " ".join(summarize(path).split())


def test_three_hundred_ledgers_are_one_open_file(tmp_path):
    def opened():
        return len(os.listdir("/proc/self/fd"))

    before = opened()
    ledgers = [ReleaseLedger(tmp_path / f"site {number}.jsonl", "A") for number in range(300)]
    for ledger in ledgers[:3]:
        ledger.append("start")
    assert opened() <= before + 1
    with pytest.raises(LedgerError, match="in use"):
        ReleaseLedger(tmp_path / "site 7.jsonl", "A")
    other = "import sys; from bundle.site.release import ReleaseLedger; ReleaseLedger(sys.argv[1], 'A').append('start')"
    for number in (7, 300):  # a byte each: what is not held can be had
        words = [sys.executable, "-c", other, str(tmp_path / f"site {number}.jsonl")]
        assert (subprocess.run(words, cwd=ROOT, capture_output=True).returncode == 0) == (number == 300)
    for ledger in ledgers:
        ledger.close()
    assert opened() <= before  # what others left open may have been closed meanwhile
    ReleaseLedger(tmp_path / "site 7.jsonl", "A").close()
