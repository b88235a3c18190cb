"""Lists of institutions that arrive one after another, and their scores."""

import json

import pytest

from bundle.data import load_datalist
from scripts.institutions_over_time import draw_curves, scores, write_lists


def test_every_list_has_its_own_training_cases_and_all_held_out_ones(phantom_dir, tmp_path):
    whole = load_datalist(phantom_dir)
    lists = write_lists(phantom_dir, tmp_path, ["B", "A"])
    assert list(lists) == ["B", "A", "all"]
    for part, folder in lists.items():
        found = load_datalist(folder)
        assert {item["site"] for item in found.training} == ({"A", "B"} if part == "all" else {part})
        assert {item["case"] for item in found.test} == {item["case"] for item in whole.test}
        assert all(item["site"] in (None, part) or part == "all" for item in found.test)
    with pytest.raises(SystemExit, match="has A, B, not C"):
        write_lists(phantom_dir, tmp_path / "other", ["A", "C"])


def test_scores_are_means_over_patients_and_over_those_of_each_institution(tmp_path):
    (tmp_path / "evaluation").mkdir()
    per_case = {"1": 0.2, "2": 0.4, "3": 0.9}
    content = {"metrics": {"dice": {"per_case": per_case}}}
    (tmp_path / "evaluation" / "metrics.json").write_text(json.dumps(content), encoding="utf-8")
    found = scores(tmp_path, {"1": "A", "2": "A", "3": "B"})
    assert found == pytest.approx({"A": 0.3, "B": 0.9, "all": 0.5})
    ways = {"with replay": [found, found], "without": [found, found], "all at once": [found]}
    draw_curves(ways, ["A", "B"], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5000
