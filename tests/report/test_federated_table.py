"""Scores from inside the hospitals on the page."""

import json

import pytest
from gain_results import gain_results

from bundle.report import make_report
from bundle.report.federated import federated_table

SUMS = {"sum": 4.5, "sum_of_squares": 3.0, "count": 9}
SCORED = {
    "sites": ["A", "B"],
    "segmenters": {
        "real_subset/A": {
            "sites": {"A": {"dice": SUMS}},
            "failures": {"B": "refused: too few held-out cases to let scores of them out (min_cases)"},
            "pooled": {"dice": {"count": 9, "mean": 0.5, "std": 0.1}},
        },
        "ours": {"failure": "ours.pt: weights of another network"},
    },
}


def test_means_come_from_sums_and_what_was_refused_is_said():
    table = federated_table({"federated_evaluation": SCORED}, "dice")
    assert [(row.name, row.cells) for row in table.rows] == [
        ("Real-Subset-A", ("0.500 (9)", "–", "0.500 (9)")),
        ("ours", ("–", "–", "–")),
    ]
    assert any("B, real_subset/A: refused: too few" in note for note in table.notes)
    assert any("no site, ours: ours.pt" in note for note in table.notes)


@pytest.mark.parametrize("metric", ["hd95", "unknown"])
def test_a_metric_that_nobody_let_out(metric):
    assert federated_table({"federated_evaluation": SCORED}, metric).rows[0].cells == ("–", "–", "–")


def test_without_any_there_are_no_rows():
    assert federated_table({}, "dice").rows == ()


def test_the_page_takes_them_from_the_folder_of_the_run(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(gain_results(seeds=1)), encoding="utf-8")
    assert "Scored inside" not in make_report(tmp_path).read_text(encoding="utf-8")
    (tmp_path / "federated_evaluation.json").write_text(json.dumps(SCORED), encoding="utf-8")
    for shareable in (True, False):
        page = make_report(tmp_path, shareable).read_text(encoding="utf-8")
        assert "Scored inside the hospitals" in page
        assert "0.500 (9)" in page
    (tmp_path / "federated_evaluation.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(ValueError, match=r"federated_evaluation.json: expected a mapping"):
        make_report(tmp_path)
