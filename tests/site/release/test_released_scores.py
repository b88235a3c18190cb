"""Which sums of scores a site lets out."""

import pytest

from bundle.site.release import Sums, releasable

CASES = "abcdef"
DICE = dict(zip(CASES, (0.0, 0.25, 0.5, 0.5, 0.75, 1.0), strict=True))


def test_sums_of_known_scores():
    assert releasable({"dice": DICE}, 5) == {"dice": Sums(6, 3.0, 0.0625 + 0.25 + 0.25 + 0.5625 + 1.0)}


@pytest.mark.parametrize(("min_cases", "there"), [(1, True), (6, True), (7, False)])
def test_too_few_cases_have_no_sum(min_cases, there):
    assert ("dice" in releasable({"dice": DICE}, min_cases)) is there


def test_a_score_that_is_none_or_not_finite_counts_for_nothing():
    scores = {**DICE, "a": None, "b": float("nan"), "c": float("inf")}
    assert releasable({"hd95": scores}, 3) == {"hd95": Sums(3, 2.25, 0.25 + 0.5625 + 1.0)}
    assert releasable({"hd95": scores, "dice": DICE}, 4).keys() == {"dice"}
    assert releasable({"hd95": dict.fromkeys(CASES)}, 1) == {}


def of(cases):
    return {case: DICE[case] for case in cases}


@pytest.mark.parametrize(
    ("groups", "out"),
    [
        # all cases less those of the group are one
        ({"x": "abcde"}, []),
        ({"x": "abcd"}, ["x"]),
        ({"x": "ab", "y": "cdef"}, ["x", "y"]),
        # each leaves enough, the two together do not
        ({"x": "abc", "y": "abd"}, []),
        ({"x": "abcdef"}, ["x"]),
        ({"x": ""}, []),
    ],
)
def test_no_sum_over_few_cases_follows_from_groups(groups, out):
    scores = {"dice": DICE} | {f"dice/{name}": of(cases) for name, cases in groups.items()}
    assert sorted(releasable(scores, 2)) == ["dice", *(f"dice/{name}" for name in out)]
