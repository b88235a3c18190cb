import numpy as np
import pytest
from scipy.integrate import trapezoid
from scipy.stats import mannwhitneyu

from bundle.audit.roc import (
    auc,
    clustered_interval,
    discrimination,
    excess,
    roc_curve,
    tpr_at_fpr,
    weighted_auc,
    weighted_tpr,
)


def drawn(members=300, nonmembers=200, shift=0.3):
    rng = np.random.default_rng(0)
    # rounded, so that there are ties
    return rng.normal(shift, 1, members).round(1), rng.normal(0, 1, nonmembers).round(1)


def test_known_areas():
    ones, zeros = np.ones(3), np.zeros(5)
    assert auc(ones, zeros) == 1
    assert auc(zeros, ones) == 0
    assert auc(zeros, np.zeros(2)) == 0.5
    assert auc(np.array([3.0, 2.0]), np.array([2.0, 1.0])) == 0.875


def test_three_ways_to_the_area():
    members, nonmembers = drawn()
    u = mannwhitneyu(members, nonmembers).statistic
    assert auc(members, nonmembers) == pytest.approx(u / (len(members) * len(nonmembers)), abs=1e-12)
    fpr, tpr = roc_curve(members, nonmembers)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert auc(members, nonmembers) == pytest.approx(trapezoid(tpr, fpr), abs=1e-12)


def test_the_rate_at_few_false_positives():
    nonmembers = np.arange(200.0)
    # of 200 two may be above the threshold: it is the third from above, 197
    assert tpr_at_fpr(np.array([197.0, 197.5, 300.0, 0.0]), nonmembers, 0.01) == 0.5
    # of 99 none
    assert tpr_at_fpr(np.array([98.0, 98.5]), nonmembers[:99], 0.01) == 0.5
    assert tpr_at_fpr(np.zeros(5), np.zeros(400)) == 0
    members, others = drawn()
    fpr, tpr = roc_curve(members, others)
    assert tpr_at_fpr(members, others, 0.1) == pytest.approx(tpr[fpr <= 0.1 + 1e-12].max())


def test_weights_are_repetitions():
    members, nonmembers = drawn(20, 150)
    rng = np.random.default_rng(1)
    weights = rng.integers(0, 4, (6, 20)).astype(float), rng.integers(0, 4, (6, 150)).astype(float)
    for weighted, plain in ((weighted_auc, auc), (weighted_tpr, tpr_at_fpr)):
        expected = [
            plain(np.repeat(members, weights[0][r].astype(int)), np.repeat(nonmembers, weights[1][r].astype(int)))
            for r in range(6)
        ]
        np.testing.assert_allclose(weighted(members, nonmembers, weights), expected, atol=1e-12)


def test_scores_of_patients_are_one_each_and_not_one_a_slice():
    """Twenty slices of a patient with the same score are no more than one: only the interval over patients says so."""
    rng = np.random.default_rng(2)
    members, nonmembers = np.repeat(rng.normal(size=8), 20), np.repeat(rng.normal(size=6), 20)
    patients = [f"m{i // 20}" for i in range(160)], [f"n{i // 20}" for i in range(120)]
    slices = [f"m{i}" for i in range(160)], [f"n{i}" for i in range(120)]
    low, high = clustered_interval(members, nonmembers, *patients)
    naive = clustered_interval(members, nonmembers, *slices)
    assert high - low > 2 * (naive[1] - naive[0])
    assert low < auc(members, nonmembers) < high
    one_each = clustered_interval(members[::20], nonmembers[::20], patients[0][::20], patients[1][::20])
    assert (low, high) == one_each


def test_an_interval_covers_chance_when_there_is_nothing_to_find():
    """Patients differ and membership is nothing: of 60 experiments nearly all have 0.5 inside."""
    rng = np.random.default_rng(3)
    covered = naive = 0
    for _ in range(60):
        sides = [np.repeat(rng.normal(size=n), 10) + 0.2 * rng.normal(size=10 * n) for n in (20, 12)]
        patients = [np.repeat(np.arange(n), 10) for n in (20, 12)]
        low, high = clustered_interval(*sides, *patients, resamples=400)
        covered += low <= 0.5 <= high
        low, high = clustered_interval(*sides, *(np.arange(len(side)) for side in sides), resamples=400)
        naive += low <= 0.5 <= high
    assert covered >= 52
    assert naive < 40


def test_what_is_reported_says_what_it_rests_on():
    members, nonmembers = drawn(40, 30)
    scores, member = np.concatenate([members, nonmembers]), np.arange(70) < 40
    found = discrimination(scores, member, [f"p{i // 10}" for i in range(70)])
    assert found["auc"] == auc(members, nonmembers)
    assert found["interval"][0] < found["auc"] < found["interval"][1]
    assert found["false_positives_allowed"] == 0
    numbers = ("member_slices", "nonmember_slices", "member_patients", "nonmember_patients")
    assert [found[name] for name in numbers] == [40, 30, 4, 3]
    assert discrimination(scores, member, ["m"] * 40 + ["n"] * 30)["interval"] is None
    nobody = discrimination(scores, np.ones(70, dtype=bool), ["m"] * 70)
    assert (nobody["auc"], nobody["interval"], nobody["tpr"], nobody["nonmember_slices"]) == (None, None, None, 0)


@pytest.mark.parametrize("scores", [np.array([]), np.array([[1.0]]), np.array([1.0, np.nan])])
def test_scores_that_are_none_are_refused(scores):
    with pytest.raises(ValueError, match="nonmembers: expected one or more finite scores"):
        auc(np.ones(2), scores)
    with pytest.raises(ValueError, match="members: expected one or more finite scores"):
        clustered_interval(scores, np.ones(2), ["a"], ["b", "c"])


def test_patients_and_rates_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="members: expected a patient for each of 2 scores, got 3"):
        clustered_interval(np.ones(2), np.ones(2), ["a", "b", "c"], ["d", "e"])
    with pytest.raises(ValueError, match=r"fpr: expected a rate in \[0, 1\), got 1"):
        tpr_at_fpr(np.ones(2), np.ones(2), 1)


def clustered(patients=12, slices=5, seed=0):
    """Scores that say as much of the patient as of the slice, half of them members, nothing of membership."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(patients), slices)
    scores = rng.normal(size=patients)[of] + 0.5 * rng.normal(size=len(of))
    return scores, of < patients // 2, [f"p{i}" for i in of]


def test_what_a_control_tells_as_well_is_no_excess():
    scores, member, patients = clustered()
    over = excess(scores, scores, member, patients)
    assert (over["auc"], over["interval"]) == (0, [0, 0])
    # a control that tells nothing: what is left is the attack's own
    alone = discrimination(scores, member, patients)
    over = excess(scores, np.zeros(len(scores)), member, patients)
    assert over["auc"] == pytest.approx(alone["auc"] - 0.5)
    assert over["interval"] == pytest.approx([end - 0.5 for end in alone["interval"]])


def test_the_excess_is_measured_in_the_same_resamples():
    """Which patients are drawn moves both alike: the difference is known better than either."""
    scores, member, patients = clustered()
    attack = scores + 0.3 * member
    over, alone = excess(attack, scores, member, patients), discrimination(attack, member, patients)
    assert 0 < over["interval"][0] < over["auc"] < over["interval"][1]
    assert np.diff(over["interval"]) < 0.5 * np.diff(alone["interval"])
    assert alone["interval"][0] < 0.5 < alone["interval"][1], "by itself it is nothing that these patients show"


def test_an_excess_without_two_sides_or_with_other_scores():
    scores, member, patients = clustered()
    assert excess(scores, scores, np.ones(len(scores), bool), patients) == {"auc": None, "interval": None}
    one_each = [0, 1], ["a", "b"]
    assert excess(np.ones(2), np.zeros(2), *one_each) == {"auc": 0, "interval": None}
    with pytest.raises(ValueError, match=r"as many scores as of the control, got \(60,\) and \(59,\)"):
        excess(scores, scores[1:], member, patients)


def sites_of_two_scanners():
    """Scores that know the site alone: A has 9 members and 3 others, B 3 members and 9 others; a slice a patient."""
    site = np.array(["A"] * 12 + ["B"] * 12)
    member = np.array([True] * 9 + [False] * 3 + [True] * 3 + [False] * 9)
    scores = (site == "A") + np.random.default_rng(0).normal(0, 0.01, 24)
    return scores, member, [f"p{n}" for n in range(24)], site


def test_what_tells_sites_apart_is_no_membership():
    scores, member, patients, site = sites_of_two_scanners()
    everybody = discrimination(scores, member, patients)
    within = discrimination(scores, member, patients, strata=site)
    assert everybody["auc"] > 0.7
    assert within["interval"][0] < 0.5 < within["interval"][1]
    control = np.random.default_rng(1).normal(size=24)
    assert (
        excess(scores, control, member, patients)["auc"] > excess(scores, control, member, patients, strata=site)["auc"]
    )


def test_the_area_within_sites_is_the_mean_over_their_pairs():
    scores, member, patients, site = sites_of_two_scanners()
    parts = [(auc(scores[member & own], scores[~member & own]), (member & own).sum() * (~member & own).sum())
             for own in (site == "A", site == "B")]  # fmt: skip
    expected = sum(area * pairs for area, pairs in parts) / sum(pairs for _, pairs in parts)
    assert discrimination(scores, member, patients, strata=site)["auc"] == pytest.approx(expected)
    one = np.full(24, "A")
    assert discrimination(scores, member, patients, strata=one) == discrimination(scores, member, patients)
