import math

import pytest

from bundle.report.scores import case_values, key_metrics


def test_a_case_counts_with_the_mean_of_its_seeds_or_not_at_all():
    per_case = {"a": [0.5, 0.7], "b": [0.9], "c": [None, 0.5], "d": [float("inf")], "e": []}
    values = case_values({"settings": {"real_all": {"dice": {"per_case": per_case}}}}, "real_all", "dice")
    assert list(values) == ["a", "b", "c", "d", "e"]
    assert (values["a"], values["b"]) == pytest.approx((0.6, 0.9))
    assert all(math.isnan(values[case]) for case in "cde")
    assert case_values({"settings": {"real_all": None}}, "real_all", "dice") == {}


def test_the_papers_metrics_are_the_key_ones():
    def settings(*names):
        return {"settings": {"asyndgan": {name: {"mean": 0.5} for name in names}}}

    assert key_metrics(settings("aji", "pq", "dice")) == ["dice", "aji"]
    assert key_metrics(settings("novel", "hd95")) == ["hd95"]
    assert key_metrics({}) == []
