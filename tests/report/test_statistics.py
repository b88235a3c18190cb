import json
import math

import numpy as np
import pytest
from scipy import stats

from bundle.report.statistics import compare, compute_statistics, holm, mean_interval, ratio, signed_rank_p


def by_case(values):
    return {f"c{number}": float(value) for number, value in enumerate(values)}


def results_of(**settings):
    """Results with one metric; ``settings`` as lists over cases of lists over seeds."""
    blocks = {
        name: {"dice": {"mean": 0.5, "per_case": {f"c{n}": seeds for n, seeds in enumerate(values)}}}
        for name, values in settings.items()
    }
    return {"settings": blocks}


def test_the_exact_p_of_few_pairs_is_that_of_counting_signs():
    # of the 2^5 ways to give signs to the ranks 1 to 5, two are at least as extreme as all of one sign
    assert signed_rank_p(np.array([0.1, 0.2, 0.3, 0.4, 0.5])) == pytest.approx(2 / 2**5)
    assert signed_rank_p(-np.array([0.1, 0.2, 0.3, 0.4, 0.5])) == pytest.approx(2 / 2**5)
    # rank sum 1 of the negative: those of all positive, and of 1 negative, twice
    assert signed_rank_p(np.array([-0.1, 0.2, 0.3, 0.4, 0.5])) == pytest.approx(4 / 2**5)


def test_pairs_without_a_difference_are_ranked_and_then_left_out():
    # ranks 3 to 5 remain for the three that differ: all of one sign in 2 of 2^3 ways
    assert signed_rank_p(np.array([0.0, 0.0, 0.3, 0.4, 0.5])) == pytest.approx(2 / 2**3)
    # of 4 differences with ranks 2 to 5, sums of the negative up to 2 come from 2 of 2^4 ways
    assert signed_rank_p(np.array([0.0, -0.1, 0.2, 0.3, 0.4])) == pytest.approx(2 * 2 / 2**4)
    assert signed_rank_p(np.zeros(4)) == 1.0
    assert signed_rank_p(np.array([0.3])) is None


def test_holms_correction():
    # Holm 1979: 4 × 0.005, 3 × 0.01, 2 × 0.03, and 0.04 may not fall below 0.06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.6]) == [1.0, None, 1.0]
    assert holm([]) == []


def test_a_comparison_says_what_it_rests_on():
    ours = {"a": 0.5, "b": 0.6, "c": math.nan, "d": 0.7, "only here": 0.9}
    theirs = {"a": 0.4, "b": 0.6, "c": 0.5, "d": 0.9}
    found = compare(ours, theirs, {})
    assert found["difference"] == pytest.approx((0.1 + 0.0 - 0.2) / 3)
    assert found["ratio"] == pytest.approx(1.8 / 1.9)
    assert {"cases": 3, "patients": 3, "left_out": 2, "equal": 1}.items() <= found.items()
    low, high = found["difference_interval"]
    assert -0.2 - 1e-9 < low < found["difference"] < high < 0.1 + 1e-9
    nothing = compare({"a": 0.5}, {"b": 0.5}, {})
    assert (nothing["p"], nothing["difference"], nothing["cases"]) == (None, None, 0)


def test_cases_of_one_patient_are_drawn_together_and_are_one_pair():
    ours = by_case([0.9, 0.7, 0.5, 0.3])
    theirs = by_case([0.8, 0.8, 0.3, 0.2])
    patients = {"c0": "p", "c1": "p", "c2": "q", "c3": "r"}
    found = compare(ours, theirs, patients)
    assert (found["cases"], found["patients"], found["equal"]) == (4, 3, 1)
    # the mean is over cases: the patient with two counts twice
    assert found["difference"] == pytest.approx((0.1 - 0.1 + 0.2 + 0.1) / 4)
    # all of one patient: nothing to draw
    assert compare(ours, theirs, dict.fromkeys(ours, "p"))["difference_interval"] is None
    # a copy of every case of a patient changes neither the mean nor its interval
    scores = np.array([0.2, 0.5, 0.9])
    assert mean_interval(2 * scores, np.full(3, 2.0)) == pytest.approx(mean_interval(scores, np.ones(3)))


def test_the_ratio_is_resampled_in_pairs():
    reference = by_case(np.random.default_rng(0).uniform(0.2, 0.9, 12))
    half = {case: 0.5 * value for case, value in reference.items()}
    found = ratio(half, reference, {})
    # unpaired, the spread of the cases would widen it
    assert [found["ratio"], *found["interval"]] == pytest.approx([0.5] * 3)
    assert ratio({"a": 0.5}, {"a": 0.0}, {}) == {"ratio": None, "interval": None}


def test_an_interval_agrees_with_drawing_by_hand():
    values = np.random.default_rng(3).uniform(0, 1, 14)
    low, high = mean_interval(values, np.ones(14))
    drawn = np.random.default_rng(8).choice(values, (200_000, 14)).mean(axis=1)
    assert (low, high) == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.005)
    assert mean_interval(np.full(5, 0.7), np.ones(5)) == pytest.approx([0.7, 0.7])


def test_how_often_an_interval_of_few_patients_holds_the_true_mean(monkeypatch):
    """Of 12 patients about nine in ten rather than 95 %; and BCa does no better."""
    monkeypatch.setattr("bundle.report.statistics.RESAMPLES", 999)
    rng = np.random.default_rng(0)
    draws = rng.beta(5, 2, (300, 12))
    held = {"percentile": 0, "BCa": 0}
    for values in draws:
        low, high = mean_interval(values, np.ones(12))
        held["percentile"] += low <= 5 / 7 <= high
        low, high = stats.bootstrap((values,), np.mean, n_resamples=999, method="BCa", rng=0).confidence_interval
        held["BCa"] += low <= 5 / 7 <= high
    assert 0.86 < held["percentile"] / 300 < 0.97
    assert held["BCa"] <= held["percentile"] + 6


def test_the_block_of_results():
    rng = np.random.default_rng(1)
    real = rng.uniform(0.5, 0.9, (12, 3))
    results = results_of(
        real_all=real.tolist(),
        **{"real_subset/A": (real - 0.1).tolist()},
        syn_all=(real + rng.normal(0, 0.05, (12, 3))).tolist(),
        asyndgan=(real - 0.05 - 0.001 * np.arange(12)[:, None]).tolist(),
    )
    found = compute_statistics(results)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert compute_statistics(results) == found  # the same draws each time
    assert list(found["metrics"]["dice"]) == ["real_all", "real_subset/A", "syn_all", "asyndgan"]
    dice = found["metrics"]["dice"]
    assert "ratio_to_real_all" not in dice["real_all"]
    assert "asyndgan" not in dice["asyndgan"]
    against = dice["real_all"]["asyndgan"]
    # the value of a case is its mean over seeds
    assert against["difference"] == pytest.approx(-0.05 - 0.001 * 5.5)
    assert against["p"] == pytest.approx(2 / 2**12)
    # three settings were compared; the two smallest p are equal
    assert against["p_holm"] == pytest.approx(3 * 2 / 2**12)
    assert dice["real_subset/A"]["asyndgan"]["difference"] == pytest.approx(0.05 - 0.001 * 5.5)
    assert dice["asyndgan"]["ratio_to_real_all"]["ratio"] == pytest.approx(1 - 0.0555 / real.mean())
    low, high = dice["real_all"]["interval"]
    assert low < real.mean() < high


def test_unfinished_runs_have_what_there_is():
    assert compute_statistics({}) == {}
    assert compute_statistics(results_of(real_all=[[None]])) == {}
    found = compute_statistics(results_of(real_all=[[0.5], [0.6]], asyndgan=[[None], [None]]))["metrics"]["dice"]
    assert list(found) == ["real_all"]
    assert "asyndgan" not in found["real_all"]
    alone = compute_statistics(results_of(asyndgan=[[0.5]]))["metrics"]["dice"]
    assert alone == {"asyndgan": {"cases": 1, "patients": 1, "interval": None}}
