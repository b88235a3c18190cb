"""The command that reads a site's ledger."""

import json

import pytest

from bundle.site.release import ReleaseLedger
from scripts.audit_privacy import main


@pytest.fixture
def ledger(tmp_path):
    path = tmp_path / "A.jsonl"
    with ReleaseLedger(path, "A") as written:
        for number in range(3):
            written.append("reply", step=number, parts=[])
    return path


def entries(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_whole_ledger_is_one_page(ledger, capsys):
    assert main(["ledger", str(ledger)]) == 0
    page = capsys.readouterr().out
    assert "Chain: whole, 3 entries" in page
    assert entries(ledger)[-1]["hash"] in page


def test_a_torn_last_line_is_told_and_no_fault(ledger, capsys):
    with open(ledger, "ab") as file:
        file.write(b'{"kind":"rep')
    assert main(["ledger", str(ledger)]) == 0
    assert "an entry that was not finished" in " ".join(capsys.readouterr().out.split())


def test_a_changed_ledger_is_told_by_the_status(ledger, capsys):
    head = entries(ledger)[0]["hash"]
    ledger.write_text(ledger.read_text(encoding="utf-8").replace('"step":1', '"step":7'), encoding="utf-8")
    assert main(["ledger", str(ledger)]) == 1
    assert "BROKEN" in capsys.readouterr().out
    # an entry before the break is held, and the chain is broken all the same
    assert main(["ledger", str(ledger), "--head", "1", head]) == 1
    assert "Entry 1 is the one" in capsys.readouterr().out


def test_a_noted_head_is_looked_for(ledger, capsys):
    noted = entries(ledger)[1]["hash"]
    assert main(["ledger", str(ledger), "--head", "2", noted]) == 0
    assert "Entry 2 is the one that was noted" in capsys.readouterr().out
    for number in ("1", "3", "9"):
        assert main(["ledger", str(ledger), "--head", number, noted]) == 1
        assert f"Entry {number} is NOT the one" in capsys.readouterr().out


@pytest.mark.parametrize("head", [("two", "0" * 64), ("0", "0" * 64), ("2", "abc")])
def test_what_cannot_be_a_head_is_said(ledger, capsys, head):
    assert main(["ledger", str(ledger), "--head", *head]) == 2
    assert "expected" in capsys.readouterr().err


def test_no_ledger_is_another_status(tmp_path, capsys):
    assert main(["ledger", str(tmp_path / "none.jsonl")]) == 2
    assert "none.jsonl" in capsys.readouterr().err
