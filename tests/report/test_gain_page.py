import json
import re

import pytest
from gain_results import MEANS, SITES, gain_results
from test_page import EVIL, Page, make_results, read

from bundle.report import compute_statistics, make_report, markdown_table, metric_boxplot, text_table, write_report
from bundle.report.display_names import PAPER_KINDS, SETTINGS, display_name
from bundle.report.result_tables import score_tables
from bundle.report.shareable import without_case_names


@pytest.fixture(scope="module")
def results():
    found = gain_results()
    found["statistics"] = compute_statistics(found)
    return found


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, results):
    folder = tmp_path_factory.mktemp("run")
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def pages(run_dir):
    return {shareable: make_report(run_dir, shareable) for shareable in (False, True)}


def test_the_page_opens_with_what_each_hospital_gains(pages):
    text = pages[False].read_text(encoding="utf-8")
    order = ["<h1>", "better than own images alone at 3 of 4 hospitals", "What does my hospital gain?"]
    order += ["Each hospital, over all 36 held-out patients: Dice ↑", "+0.161 (+0.138 to +0.183)"]
    order += ["CS gains 0.161", "FedAvg has the better mean here", "no architecture of a segmentation model"]
    order += ["From own images to own and synthetic ones", "Trained at, scored at"]
    order += ["Each hospital, over its own held-out patients", "A hospital that was never there", "without − with"]
    order += [
        "What crossed, and what attacks make of it",
        "label maps, image gradients, losses",
        "loss of the averaged",
    ]
    order += ["Segmentation on held-out real cases", "reached a Dice of", "The paper&#39;s settings", "Contents"]
    places = [text.index(what) for what in order]
    assert places == sorted(places)
    page = Page(text)
    assert page.open == []
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 2
    assert all(attrs.get("scope") in ("row", "col", "colgroup") for tag, attrs in page.tags if tag == "th")
    assert "nan" not in page.text.lower().split()
    assert "does not measure how much they reveal" not in page.text


def test_the_page_to_pass_on_has_the_same_numbers_and_no_case(pages, results):
    text = pages[True].read_text(encoding="utf-8")
    assert "TCGA_" not in text
    assert "asyndgan run" not in text
    assert re.findall("<td>.*?</td>", text) == re.findall("<td>.*?</td>", pages[False].read_text("utf-8"))
    assert "does my hospital gain" in text
    shown = without_case_names(results)
    assert "TCGA_" not in json.dumps(shown)
    assert list(shown["test_patients"].items())[:2] == [("0", "CS/0"), ("1", "CS/1")]


def test_numbers_in_the_place_of_names_are_the_same_everywhere():
    settings = {"a": {"dice": {"per_case": {"x": [1], "y": [2]}}}, "b": {"dice": {"per_case": {"y": [3], "z": [4]}}}}
    patients = {"y": "A/who", "z": "A/who", "x": "who"}
    shown = without_case_names({"settings": settings, "test_patients": patients})
    assert shown["test_patients"] == {"0": "A/0", "1": "A/0", "2": "/1"}
    assert shown["settings"]["a"]["dice"]["per_case"] == {"2": [1], "0": [2]}
    assert shown["settings"]["b"]["dice"]["per_case"] == {"0": [3], "1": [4]}


def test_rows_and_words_of_the_papers_settings_stay_as_they_are(results):
    paper = {s: scores for s, scores in results["settings"].items() if s.partition("/")[0] in PAPER_KINDS}
    alone = results | {"settings": paper}
    before, after = score_tables(alone)[0], score_tables(results)[0]
    assert [(row.name, row.cells) for row in after.rows[: len(paper)]] == [(row.name, row.cells) for row in before.rows]
    assert len(before.rows) == len(paper)
    assert {row.group for row in before.rows} == {""}
    assert before.notes == after.notes


def test_a_run_without_further_settings_has_none_of_it(tmp_path):
    text = write_report(tmp_path / "r.html", make_results(), []).read_text(encoding="utf-8")
    for trace in ('id="gain"', "my hospital", "tr.group", "colspan"):
        assert trace not in text
    (tmp_path / "results.json").write_text(json.dumps(make_results()), encoding="utf-8")
    make_report(tmp_path)
    assert not (tmp_path / "figures").exists()


def test_a_terminals_tables_stay_legible(results):
    lines = text_table(results).splitlines()
    assert lines[0] == "Each hospital, over all 36 held-out patients: Dice ↑"
    table = [line for line in lines if re.search(r"  \S*[0-9–]$", line)]
    assert max(map(len, table)) < 170
    main = lines.index("The paper's settings:")
    assert [lines.index(f"{name}:", main) for name in ("Other ways", "Own images and more, mean over hospitals")]
    # every setting is there once: alone, or as a hospital's row below its kind
    assert sum(line.startswith("FedAvg  ") for line in lines[main:]) == 2  # with its interval
    hospitals = lines.index("Hospitals")
    kinds = [line for line in lines[hospitals:] if line.endswith(":") and "SITE" in line]
    assert len(kinds) == 6
    assert [sum(line.startswith(f"{site} ") for line in lines[hospitals:]) for site in SITES] == [6] * 4
    for line in markdown_table(results).splitlines():
        assert "SITE" not in line or line.count("|") == 0 or line.startswith("| ")


def test_groups_in_markdown_have_as_many_cells_as_the_table(results):
    text = markdown_table(results).split("\n\n")
    part = next(part for part in text if "Other ways" in part and part.startswith("|"))
    assert len({line.count("|") for line in part.splitlines()}) == 1


def test_a_kinds_mean_is_over_hospitals_and_its_spread_over_seeds(results):
    row = next(row for row in score_tables(results)[0].rows if row.name == "Real-Subset-SITE + AsynDGAN, mean of 4")
    means = [results["settings"][f"real_subset_plus_asyndgan/{site}"]["dice"]["mean"] for site in SITES]
    assert row.cells[1].startswith(f"{sum(means) / 4:.3f} ± 0.00")
    table = score_tables(results)[-1]
    assert table.title == "Hospitals"
    absent = [row for row in table.rows if row.kind == "leave_out"]
    of_case = results["settings"]["leave_out/CS"]["dice"]["per_case"]
    at_cs = [sum(v) / 3 for case, v in of_case.items() if results["test_patients"][case].startswith("CS/")]
    assert absent[0].cells[1].startswith(f"{sum(at_cs) / len(at_cs):.3f}")


def test_names_of_all_settings():
    assert display_name("real_subset_plus_asyndgan/CS") == "Real-Subset-CS + AsynDGAN"
    assert display_name("asyndgan_then_real_subset/CS") == "AsynDGAN, then Real-Subset-CS"
    assert display_name("leave_out_fedavg/CS") == "FedAvg without CS"
    assert display_name("real_all_common") != "real_all_common"
    assert display_name("real_all_filled") != "real_all_filled"
    # those two are for hospitals that lack modalities, and in no gain table
    assert {setting.partition("/")[0] for setting in MEANS} == set(SETTINGS) - {"real_all_common", "real_all_filled"}


def test_malicious_hospitals_stay_text(tmp_path):
    site = EVIL.replace("/", "")
    means = {f"{kind.partition('/')[0]}/{site}" if "/" in kind else kind: mean for kind, mean in MEANS.items()}
    results = gain_results(means, {site: 3}, seeds=1) | {"policy": EVIL, "attacks": {"fedavg": [{"attack": EVIL}]}}
    results["attacks"]["asyndgan"] = [{"attack": EVIL, "value": 0.6}]
    results["averaging"]["fedavg"]["proximal_mu"] = EVIL
    (tmp_path / "results.json").write_text(json.dumps(results), encoding="utf-8")
    page = read(make_report(tmp_path))
    assert page.open == []
    assert "script" not in {tag for tag, _ in page.tags}
    assert "nan" not in page.text.lower().split()
    assert all("onerror" not in attrs for _, attrs in page.tags)


@pytest.mark.parametrize("kept", ["labels_only", "fedavg", "leave_out/CS", "real_subset_augmented/CS", "fedprox"])
def test_a_run_that_has_just_begun(tmp_path, kept):
    results = gain_results({kept: MEANS[kept]}, seeds=1)
    page = read(write_report(tmp_path / "r.html", results, []))
    assert page.open == []
    assert "What a hospital gains is still open" in page.text
    assert "nan" not in page.text.lower().split()
    assert text_table(results)


def test_patients_that_nobody_names(tmp_path):
    results = gain_results(seeds=1)
    del results["test_patients"], results["training_cases"]
    page = read(write_report(tmp_path / "r.html", results, []))
    assert "over all 36 held-out patients" in page.text
    assert "over its own held-out patients" not in page.text.partition("A hospital that was never")[0]


def test_boxes_are_of_what_is_read_over_all_cases(tmp_path, results, monkeypatch):
    names = []
    monkeypatch.setattr("bundle.report.boxplots.display_name", lambda setting: names.append(setting) or setting)
    metric_boxplot(results, "dice", tmp_path / "a.png")
    assert len(names) == sum(not setting.startswith("leave_out") for setting in MEANS)
