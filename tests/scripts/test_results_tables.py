import json
from pathlib import Path

import pytest

from scripts.results_tables import main, with_tables

PAGES = sorted((Path(__file__).resolve().parents[2] / "docs").rglob("*.md"))


def write_run(folder):
    settings = {
        name: {"dice": {"mean": mean, "per_seed": [mean], "per_case": {"a": [mean], "b": [mean]}}}
        for name, mean in {"real_all": 0.8, "asyndgan": 0.6}.items()
    }
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps({"settings": settings, "seeds": [0]}), encoding="utf-8")


def test_tables_are_printed_and_written_between_the_marks(tmp_path, capsys):
    write_run(tmp_path / "run")
    page = tmp_path / "page.md"
    page.write_text("Before.\n\n<!-- tables of run/results.json -->\nold\n<!-- end of tables -->\nAfter.\n", "utf-8")
    assert main([str(tmp_path / "run" / "results.json"), str(page)]) == 0
    printed = capsys.readouterr().out
    assert "| Real-All | – | 0.800 |" in printed
    assert "AsynDGAN − setting" in printed  # statistics of results that have none yet
    text = page.read_text(encoding="utf-8")
    assert text.startswith("Before.\n\n<!-- tables of run/results.json -->\n\n" + printed)
    assert text.endswith("\n<!-- end of tables -->\nAfter.\n")
    assert with_tables(page) == text


def test_what_cannot_be_done_is_said(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("No tables.\n", encoding="utf-8")
    assert main([str(page)]) == 2
    assert "no line '<!-- tables of" in capsys.readouterr().err
    page.write_text("<!-- tables of gone/results.json -->\n<!-- end of tables -->\n", encoding="utf-8")
    assert main([str(page)]) == 2
    assert "gone/results.json" in capsys.readouterr().err


@pytest.mark.parametrize("page", [p for p in PAGES if "<!-- tables of" in p.read_text("utf-8")], ids=lambda p: p.name)
def test_the_tables_in_the_docs_are_those_of_their_results(page):
    assert with_tables(page) == page.read_text(encoding="utf-8")
