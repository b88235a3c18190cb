import math

import pytest

from bundle.report import (
    best_subset,
    compute_statistics,
    display_name,
    key_metric,
    markdown_table,
    metric_names,
    order_settings,
    ratio_to_reference,
    text_table,
)
from bundle.report.display_names import get_metric
from bundle.report.result_tables import comparison_tables, result_tables


def entry(mean, std=None, seeds=1):
    return {"mean": mean, "std": std, "per_seed": [mean] * seeds, "per_case": {"a": [mean] * seeds}}


@pytest.fixture
def results():
    return {
        "seeds": [0],
        "settings": {
            "asyndgan": {"dice": entry(0.671), "hd95": entry(21.04), "training_images": 1422},
            "syn_all": {"dice": entry(0.689), "hd95": entry(20.0), "training_images": 1422},
            "real_subset/site10": {"dice": entry(0.643), "hd95": entry(19.0), "training_images": 90},
            "real_subset/site2": {"dice": entry(0.676), "hd95": entry(25.0), "training_images": 300},
            "real_all": {"dice": entry(0.694), "hd95": entry(18.0), "training_images": 1422},
        },
    }


def test_rows_are_in_order_with_site_numbers_by_value(results):
    results["settings"]["something_else"] = {}
    assert order_settings(results) == [
        "real_all",
        "real_subset/site2",
        "real_subset/site10",
        "syn_all",
        "asyndgan",
        "something_else",
    ]


def test_sites_with_and_without_numbers_can_be_sorted():
    settings = {f"real_subset/{site}": {} for site in ("b", "1", "a1", "10", "2", "a")}
    order = [setting.partition("/")[2] for setting in order_settings({"settings": settings})]
    assert order == ["1", "2", "10", "a", "a1", "b"]


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("real_all", "Real-All"),
        ("real_subset/CS", "Real-Subset-CS"),
        ("real_subset/a/b", "Real-Subset-a/b"),
        ("syn_all", "Syn-All"),
        ("asyndgan", "AsynDGAN"),
        ("new_thing", "new_thing"),
    ],
)
def test_display_names(setting, name):
    assert display_name(setting) == name


def test_best_subset_follows_the_direction_of_the_metric(results):
    assert best_subset(results) == "real_subset/site2"
    assert best_subset(results, "hd95") == "real_subset/site10"


def test_best_subset_by_hd95_when_it_is_all_there_is(results):
    for block in results["settings"].values():
        del block["dice"]
    assert key_metric(results) == "hd95"
    starred = [line for line in text_table(results).splitlines() if " * " in line and not line.startswith("*")]
    assert [line.split()[0] for line in starred] == ["Real-Subset-site10"]


def test_best_subset_skips_numbers_that_are_missing(results):
    results["settings"]["real_subset/site2"]["dice"] = {"mean": float("nan")}
    assert best_subset(results) == "real_subset/site10"
    results["settings"]["real_subset/site10"]["dice"] = {"mean": None}
    assert best_subset(results) is None


def test_a_metric_of_unknown_direction_marks_nobody():
    settings = {f"real_subset/{site}": {"novel": entry(0.5)} for site in "ab"}
    assert best_subset({"settings": settings}) is None
    assert "best" not in text_table({"settings": settings})


def test_ratio(results):
    assert ratio_to_reference(results, "asyndgan") == pytest.approx(0.671 / 0.694)
    results["settings"]["real_all"]["dice"]["mean"] = 0.0
    assert math.isnan(ratio_to_reference(results, "asyndgan"))


def test_text_table_known_answer(results):
    assert text_table(results).splitlines() == [
        "Setting              Training images  Dice ↑  HD95 (mm) ↓  Dice / Real-All",
        "-------------------  ---------------  ------  -----------  ---------------",
        "Real-All                       1,422   0.694         18.0            1.000",
        "Real-Subset-site2 *              300   0.676         25.0            0.974",
        "Real-Subset-site10                90   0.643         19.0            0.927",
        "Syn-All                        1,422   0.689         20.0            0.993",
        "AsynDGAN                       1,422   0.671         21.0            0.967",
        "",
        "* best single site by Dice.",
        "One seed: the spread between repeated runs is not known.",
    ]


def test_std_is_shown_with_several_seeds_and_unfinished_settings_are_named(results):
    results["seeds"] = [0, 1, 2]
    results["settings"]["real_all"]["dice"] = entry(0.694, 0.0123, 3)
    table = text_table(results)
    assert "0.694 ± 0.012" in table
    assert "over 3 seeds" in table
    assert "AsynDGAN 1 of 3" in table
    assert "Real-All 3" not in table


def test_no_claim_of_a_spread_while_one_of_several_seeds_is_done(results):
    results["seeds"] = [0, 1]
    assert "±" not in text_table(results)
    assert "One seed" in text_table(results)


@pytest.mark.parametrize(
    "partial",
    [
        {},
        {"settings": None},
        {"settings": {}},
        {"settings": {"real_all": None}},
        {"settings": {"asyndgan": {"dice": {"per_seed": [0.5, 0.7]}}}},
        {"settings": {"real_all": {"dice": {"mean": None, "std": None}}}},
        {"settings": {"real_all": {"hd95": {"mean": math.inf}}, "asyndgan": {"hd95": {"mean": math.inf}}}},
    ],
)
def test_partial_results_render_everywhere(partial):
    for render in (text_table, markdown_table):
        text = render(partial)
        assert text
        assert "nan" not in text.lower()


def test_mean_comes_from_the_seeds_where_it_is_missing():
    assert "0.600" in text_table({"settings": {"asyndgan": {"dice": {"per_seed": [0.5, 0.7]}}}})


def test_markdown_escapes_what_would_break_a_row(results):
    results["settings"]["real_subset/a|b\n<i>*"] = {"dice": entry(0.1)}
    lines = markdown_table(results).splitlines()
    row = next(line for line in lines if "Real-Subset-a" in line)
    assert row.startswith(r"| Real-Subset-a\|b \<i\>\* |")
    assert row.replace(r"\|", "").count("|") == lines[0].count("|")
    assert lines[1].count("---") == lines[0].count("|") - 1


def test_scores_of_groups_are_columns_behind_those_of_all_cases(results):
    for block in results["settings"].values():
        block |= {"aji/other organs": entry(0.4), "dice/other organs": entry(0.5), "aji": entry(0.6)}
    assert metric_names(results) == ["dice", "aji", "hd95", "dice/other organs", "aji/other organs"]
    assert get_metric("aji/other organs").heading == "AJI, other organs ↑"
    assert get_metric("mystery/other organs").label == "mystery, other organs"
    assert key_metric(results) == "dice"


def test_every_table_names_losses_and_policy(results):
    results |= {"losses": "vanilla adversarial + 100·L1", "policy": "published"}
    for scores in results["settings"].values():
        scores["dice/other organs"] = entry(0.5)
    results["statistics"] = compute_statistics(results)
    tables = result_tables(results)
    assert [table.title.partition(":")[0] for table in tables] == ["", "Groups of cases", "Dice"]
    for table in tables:
        assert table.notes[-2:] == (
            "Loss terms of the generators: vanilla adversarial + 100·L1.",
            "Release policy: published.",
        )
    assert "/" not in "".join(tables[0].headings[:-1])


def test_a_comparison_table_says_what_the_statistics_say(results):
    against = {"difference": -0.0229, "difference_interval": [-0.05, 0.0101], "p": 0.0001, "p_holm": 0.0004}
    against |= {"cases": 11, "patients": 11, "left_out": 1}
    real = {"cases": 12, "patients": 9, "interval": [0.6, 0.75], "asyndgan": against}
    ours = {"cases": 12, "patients": 9, "interval": None, "ratio_to_real_all": {"ratio": 0.967, "interval": [0.9, 1]}}
    results["statistics"] = {
        "confidence": 0.95,
        "resamples": 9999,
        "metrics": {"dice": {"real_all": real, "asyndgan": ours}, "hd95": {}},
    }
    (table,) = comparison_tables(results)
    assert [(row.name, *row.cells) for row in table.rows] == [
        ("Real-All", "0.694", "0.600 to 0.750", "–", "−0.023 (−0.050 to +0.010)", "<0.001", "11 (1 left out)"),
        ("AsynDGAN", "0.671", "–", "0.967 (0.900 to 1.000)", "–", "–", "12 of 9 patients"),
    ]
    assert "95 %" in table.notes[0]
    assert "Holm-corrected for 1 comparison." in table.notes[1]
    for render in (text_table, markdown_table):
        assert "−0.023" in render(results)


def test_classes_have_a_table_of_their_own_and_the_union_says_what_it_is(results):
    for scores in results["settings"].values():
        scores |= {"dice:lung": entry(0.5), "dice:heart": entry(0.25), "dice:lung/same organs": entry(0.125)}
    tables = result_tables(results)
    assert [table.title for table in tables][:3] == ["", "Classes", "Groups of cases"]
    union, classes, groups = tables[:3]
    assert not any("lung" in heading for heading in union.headings)
    assert list(classes.headings) == ["Setting", "Dice, lung ↑", "Dice, heart ↑"]
    assert classes.rows[0].cells == ("0.500", "0.250")
    assert list(groups.headings) == ["Setting", "Dice, lung, same organs ↑"]
    assert any("Any class counts as foreground" in note for note in union.notes)
    assert key_metric(results) == "dice"


def test_of_one_class_nothing_is_said_of_classes(results):
    assert "class" not in text_table(results)
