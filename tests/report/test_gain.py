import math

import pytest
from gain_results import MEANS, SITES, gain_results

from bundle.report import compute_statistics
from bundle.report.gain import PLUS, read_gains
from bundle.report.gain_tables import absent_table, gain_table, own_table
from bundle.report.gain_words import OPEN, absent_words, federated_words, gain_words, headline
from bundle.report.scores import case_sites
from bundle.report.statistics import compare
from bundle.report.table import to_text

A, B = ["a0", "a1", "a2", "a3"], ["b0", "b1"]
PATIENTS = {case: f"{case[0].upper()}/{case}" for case in A + B}


def made(values, patients=PATIENTS, metric="dice", seeds=1, untrained=()):
    """Results with one metric; of every setting a value for all cases, or values by case, of one seed or several."""
    settings = {}
    for setting, given in values.items():
        cases = {case: (given[case] if isinstance(given, dict) else given) for case in patients}
        per_case = {case: value if isinstance(value, list) else [value] * seeds for case, value in cases.items()}
        per_seed = [sum(of) / len(of) for of in zip(*per_case.values(), strict=True)]
        entry = {"mean": sum(per_seed) / len(per_seed), "std": None, "per_seed": per_seed, "per_case": per_case}
        settings[setting] = {metric: entry}
        if setting in untrained:
            settings[setting]["segmenter_loss"] = [{"first": 1.0, "before_last": 0.9, "last": 0.9}]
    return {"seeds": list(range(seeds)), "settings": settings, "test_patients": patients}


def to_and_fro(middle, apart):
    """Values around a middle that come out even, over each hospital's cases too."""
    return {case: middle + (apart if number % 2 else -apart) for number, case in enumerate(A + B)}


BASE = {"real_subset/A": 0.5, "real_subset/B": 0.5, f"{PLUS}/A": 0.6, f"{PLUS}/B": to_and_fro(0.5, 0.2)}
BASE |= {"real_all": 0.8, "asyndgan": 0.55}


def rows(table):
    return {row.name: dict(zip(table.headings[1:], row.cells, strict=True)) for row in table.rows}


def test_intervals_that_exclude_0_and_that_do_not():
    gains = read_gains(made(BASE))
    first, second, both = gains.lines
    assert (first.site, second.site, both.site, both.sites) == ("A", "B", "", ("A", "B"))
    assert first.difference == pytest.approx(0.1)
    assert first.interval == pytest.approx((0.1, 0.1))
    assert second.difference == pytest.approx(0)
    assert second.interval[0] < 0 < second.interval[1]
    # of every patient the mean over hospitals: 0.05 ± 0.1
    assert both.difference == pytest.approx(0.05)
    assert both.interval == pytest.approx((0.05 + second.interval[0] / 2, 0.05 + second.interval[1] / 2))
    assert [line.patients for line in gains.lines] == [6, 6, 6]
    table = rows(gain_table(gains))
    assert table["A"] == {
        "Own images": "0.500",
        "Own + synthetic": "0.600",
        "Difference": "+0.100 (+0.100 to +0.100)",
        "Real-All": "0.800",
    }
    assert table["Mean over hospitals"]["Own + synthetic"] == "0.550"
    words = " ".join(gain_words(gains))
    assert words.startswith("A gains 0.100 (interval excludes 0); B no difference (interval includes 0).")
    assert "Own and synthetic together reach 0.687 (0." in words
    assert headline(gains).startswith(
        "Own images and the federation's synthetic ones together are better than own images alone at 1 of 2 hospitals. "
        "Mean Dice over hospitals: 0.050 better (95 % interval of the difference over 6 patients: "
    )


def test_who_loses_is_said_and_how_surely():
    loses = BASE | {f"{PLUS}/A": 0.4, f"{PLUS}/B": to_and_fro(0.49, 0.2)}
    gains = read_gains(made(loses))
    assert gain_words(gains)[0] == "A loses 0.100 (interval excludes 0); B loses 0.010 (interval includes 0)."
    assert "better than own images alone at 0 of 2 hospitals. Mean Dice over hospitals: 0.055 worse" in headline(gains)


def test_the_mean_is_that_of_each_patients_difference():
    results = gain_results()
    *lines, mean = read_gains(results).lines
    cases = list(results["test_patients"])
    sides = []
    for kind in (PLUS, "real_subset"):
        values = [line.sides[kind].values for line in lines]
        sides.append({case: sum(of[case] for of in values) / len(lines) for case in cases})
    found = compare(*sides, results["test_patients"])
    assert mean.difference == pytest.approx(found["difference"])
    assert mean.difference == pytest.approx(sum(line.difference for line in lines) / len(lines))
    assert mean.interval == pytest.approx(found["difference_interval"])


def test_patients_are_drawn_and_not_their_cases():
    values = {case: 0.6 if case in ("a0", "a1") else 0.5 for case in A + B}
    apart = read_gains(made(BASE | {f"{PLUS}/A": values})).lines[0]
    together = PATIENTS | dict.fromkeys(("a0", "a1"), "A/same")
    joined = read_gains(made(BASE | {f"{PLUS}/A": values}, together)).lines[0]
    assert joined.difference == pytest.approx(apart.difference)
    assert (apart.patients, joined.patients) == (6, 5)
    assert joined.interval[1] > apart.interval[1]


def test_seeds_are_averaged_and_one_is_said_to_be_one():
    several = made(BASE | {f"{PLUS}/A": {case: [0.5, 0.6, 0.7] for case in PATIENTS}}, seeds=3)
    first = read_gains(several).lines[0]
    assert (first.difference, first.interval) == (pytest.approx(0.1), pytest.approx((0.1, 0.1)))
    assert "(means over 3 seeds)" in to_text(gain_table(read_gains(several)))
    one = to_text(gain_table(read_gains(made(BASE))))
    assert "(from one seed)" in one
    assert "what another seed would give" in one
    several["settings"]["real_subset/B"] = made(BASE)["settings"]["real_subset/B"]
    assert "(means over 1 to 3 seeds)" in to_text(gain_table(read_gains(several)))


def test_a_hospital_without_patients_of_its_own():
    patients = {case: PATIENTS[case] for case in A} | {"elsewhere": "/x"}
    absent = {"leave_out/A": 0.5, "leave_out/B": 0.5}
    gains = read_gains(made({s: v for s, v in (BASE | absent).items() if s != f"{PLUS}/B"}, patients))
    assert list(rows(own_table(gains))) == ["A"]
    assert rows(own_table(gains))["A"]["Patients"] == "4"
    table = rows(absent_table(gains))
    assert set(table["B"].values()) == {"–"}
    assert table["A"]["Difference, without − with"] == "−0.050 (−0.050 to −0.050)"
    assert absent_words(gains) == [
        "At A that was never there, AsynDGAN's synthetic images reach 0.500, against 0.550 where the hospital took "
        "part: 0.050 worse (interval −0.050 to −0.050, excludes 0).",
        "No held-out patients, so nothing can be read there: B.",
    ]


def test_own_patients_each_by_their_own_hospital():
    plus = {case: 0.9 if case in A else 0.1 for case in PATIENTS}
    gains = read_gains(made(BASE | {f"{PLUS}/A": plus, f"{PLUS}/B": 0.7}))
    table = rows(own_table(gains))
    assert [table[name]["Own + synthetic"] for name in ("A", "B", "All")] == ["0.900", "0.700", "0.833"]
    assert [table[name]["Patients"] for name in ("A", "B", "All")] == ["4", "2", "6"]
    assert gains.own[-1].difference == pytest.approx((4 * 0.4 + 2 * 0.2) / 6)


def test_what_is_not_scored_yet():
    waiting = {setting: value for setting, value in BASE.items() if setting != f"{PLUS}/B"}
    gains = read_gains(made(waiting))
    assert [line.site for line in gains.lines] == ["A", "B"]
    assert headline(gains).startswith(
        "At A own images and the federation's synthetic ones together reach a Dice of 0.600"
    )
    assert "Not scored yet: B." in gain_words(gains)
    assert rows(gain_table(gains))["B"]["Difference"] == "–"
    neither = {"real_subset/A": 0.5, "labels_only": 0.2}
    gains = read_gains(made(neither))
    assert headline(gains) == OPEN
    assert gain_words(gains) == []
    assert rows(gain_table(gains)) == {"A": {"Own images": "0.500"}}
    assert gain_table(read_gains(made({"labels_only": 0.2}))).rows == ()


def test_half_finished_seeds_and_numbers_that_are_missing():
    results = made(BASE, seeds=2)
    results["settings"][f"{PLUS}/A"]["dice"]["per_case"]["a0"] = [0.6, None]
    results["settings"][f"{PLUS}/B"]["dice"]["per_case"] = {case: [None, math.nan] for case in PATIENTS}
    gains = read_gains(results)
    assert gains.lines[0].found["left_out"] == 1
    assert gains.lines[1].found == {}
    assert "nan" not in to_text(gain_table(gains))


def test_an_untrained_segmenter_is_shown_and_not_compared():
    three = BASE | {"real_subset/C": 0.4, f"{PLUS}/C": 0.6, "fedavg": 0.7}
    gains = read_gains(made(three, untrained=(f"{PLUS}/A",)))
    table = rows(gain_table(gains))
    assert table["A"]["Own + synthetic"] == "0.600"
    assert table["A"]["Difference"] == "–"
    assert "Mean over hospitals (2 of 3)" in table
    assert "Not compared, because a segmenter is not trained to the end: A." in gain_words(gains)
    assert "Not trained to the end: Real-Subset-A + AsynDGAN." in to_text(gain_table(gains))
    assert "at 1 of 2 hospitals" in headline(gains)
    gains = read_gains(made(three, untrained=("fedavg", "real_all", "asyndgan")))
    assert federated_words(gains)[0].startswith("FedAvg is not compared")
    assert not any("Real-All" in said for said in gain_words(gains))


def test_where_federated_averaging_is_better_the_words_say_so():
    better, gives = federated_words(read_gains(made(BASE | {"fedavg": 0.7, "fedprox": 0.72, f"{PLUS}/B": 0.65})))
    assert better == (
        "FedAvg is better here: 0.700 against 0.625 of own and synthetic images together (mean over hospitals), a "
        "difference of 0.075 (interval +0.075 to +0.075, excludes 0). It has the better mean at A and B. FedProx "
        "reaches 0.720."
    )
    assert gives.startswith("What AsynDGAN gives that federated averaging does not: a data set")
    unsure, _ = federated_words(read_gains(made(BASE | {"fedavg": to_and_fro(0.61, 0.3)})))
    assert unsure.startswith("FedAvg has the better mean here: 0.610 against 0.550")
    assert "includes 0: other patients could turn it" in unsure
    worse, gives = federated_words(read_gains(made(BASE | {"fedavg": 0.2})))
    assert worse.startswith("FedAvg is worse here: 0.200 against 0.550")
    assert "It has the better mean at none of the hospitals." in worse
    alone, _ = federated_words(read_gains(made({"real_subset/A": 0.5, "asyndgan": 0.55, "fedavg": 0.7})))
    assert "against 0.550 of AsynDGAN's synthetic images alone" in alone
    assert federated_words(read_gains(made(BASE))) == []


def test_where_lower_is_better_the_words_turn_round():
    lower = {"real_subset/A": 20.0, f"{PLUS}/A": 15.0, "real_subset/B": 20.0, f"{PLUS}/B": 18.0, "fedavg": 12.0}
    gains = read_gains(made(lower | {"real_all": 10.0}, metric="hd95"))
    assert gain_words(gains)[:2] == [
        "A gains 5.0 mm and B gains 2.0 mm (intervals exclude 0).",
        "Own and synthetic together reach 1.650 (1.650 to 1.650) of Real-All; lower is better.",
    ]
    assert "at 2 of 2 hospitals. Mean HD95 over hospitals: 3.5 mm better" in headline(gains)
    assert federated_words(gains)[0].startswith("FedAvg is better here: 12.0 against 16.5")


def test_trainings_without_a_hospital_are_read_on_its_own_patients():
    only = {"leave_out/A": {case: 0.6 if case in A else 0.0 for case in PATIENTS}}
    only |= {"leave_out/B": {case: 0.3 if case in B else 0.0 for case in PATIENTS}}
    only |= {"leave_out_real_all/A": 0.7, "leave_out_real_all/B": 0.7, "leave_out_fedavg/A": 0.5}
    gains = read_gains(made(BASE | only))
    table = rows(absent_table(gains))
    assert [table[name]["AsynDGAN without it"] for name in ("A", "B", "All")] == ["0.600", "0.300", "0.500"]
    assert [table[name]["FedAvg without it"] for name in ("A", "B", "All")] == ["0.500", "–", "–"]
    words = " ".join(absent_words(gains))
    assert "hospitals that were never there, AsynDGAN's synthetic images reach 0.500, against 0.550" in words
    assert "Against Real-All without it, which reaches 0.700: 0.200 worse" in words
    assert "FedAvg" not in words
    assert absent_words(read_gains(made(BASE))) == []


def test_runs_of_the_papers_settings_have_no_gain():
    assert read_gains(made({"real_all": 0.8, "real_subset/A": 0.5, "asyndgan": 0.6, "own_words": 0.1})) is None
    assert read_gains({}) is None
    assert read_gains({"quality": {"asyndgan": {"w1": {"mean": 0.1}}}}) is None


def test_what_is_compared_case_by_case_leaves_hospitals_gains_out():
    """So the tests of the paper's settings are corrected for as many as the table shows."""
    found = compute_statistics(made(BASE | {"fedavg": 0.7, "leave_out/A": 0.5}))["metrics"]["dice"]
    assert list(found) == ["real_all", "real_subset/A", "real_subset/B", "asyndgan", "fedavg"]


def test_a_patient_without_a_site_belongs_to_none():
    assert case_sites({"test_patients": {"a": "A/x/y", "b": "/x", "c": "x"}}) == {"a": "A", "b": "", "c": ""}


def test_the_headline_says_what_a_hospital_has_without_the_others():
    """A gain over plain training that augmentation gives as well is no gain of the federation's."""
    means = {name: mean for name, mean in MEANS.items() if not name.startswith("real_subset_augmented")}
    assert "strong augmentation" not in headline(read_gains(gain_results(means)))
    means |= {f"real_subset_augmented/{site}": 0.9 for site in SITES}
    assert "Against own images under strong augmentation: 0." in headline(read_gains(gain_results(means)))
    assert "worse" in headline(read_gains(gain_results(means))).rpartition("strong augmentation")[2]
