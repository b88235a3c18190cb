import pytest

from bundle.report.claims import verdicts


def results_of(metric="dice", **means):
    return {"settings": {name.replace("__", "/"): {metric: {"mean": mean}} for name, mean in means.items()}}


def found(results):
    return {verdict.claim.against: verdict for verdict in verdicts(results)}


def test_each_claim_is_judged_by_its_own_limit():
    judged = found(results_of(real_all=0.8, real_subset__A=0.70, real_subset__B=0.78, syn_all=0.79, asyndgan=0.776))
    assert {against: verdict.holds for against, verdict in judged.items()} == {
        "real_all": True,  # exactly at 0.97
        "best_subset": False,
        "syn_all": True,
    }
    assert judged["real_all"].asked == "Dice: AsynDGAN at least 0.97 × Real-All"
    assert judged["best_subset"].asked == "Dice: AsynDGAN above the best of 2 single sites"
    assert judged["best_subset"].found == (
        "0.776 against 0.780 of Real-Subset-B: a ratio of 0.995, 0.005 below the limit of 1"
    )
    assert not judged["syn_all"].certainty


def test_equal_is_not_better_than_a_single_site():
    assert not found(results_of(real_subset__A=0.7, asyndgan=0.7))["best_subset"].holds
    assert found(results_of(real_subset__A=0.7, asyndgan=0.7001))["best_subset"].holds


def test_new_organs_have_a_claim_of_their_own():
    (verdict,) = verdicts(results_of("aji/other organs", real_subset__A=0.4, real_subset__B=0.5, asyndgan=0.45))
    assert not verdict.holds
    assert verdict.asked == "AJI, other organs: AsynDGAN above the best of 2 single sites"


@pytest.mark.parametrize(
    ("interval", "words"),
    [([0.9, 0.99], "0.900 to 0.990, so other patients could turn this verdict."), ([0.98, 1.1], "0.980 to 1.100.")],
)
def test_intervals_and_tests_are_told_with_the_verdict(interval, words):
    results = results_of(real_all=0.8, asyndgan=0.79)
    against = {"ratio_interval": interval, "p_holm": 0.25, "cases": 12, "patients": 11}
    results["statistics"] = {"confidence": 0.95, "metrics": {"dice": {"real_all": {"asyndgan": against}}}}
    (verdict,) = verdicts(results)
    assert words in verdict.certainty
    assert verdict.certainty.endswith("Paired test for a difference: p = 0.250 (11 patients).")


@pytest.mark.parametrize("results", [{}, results_of(asyndgan=0.5), results_of(real_all=0.0, asyndgan=0.5)])
def test_without_numbers_there_is_no_verdict(results):
    assert verdicts(results) == []
