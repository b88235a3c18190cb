import base64
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml

from bundle.report import (
    PageFigure,
    compute_statistics,
    human_bytes,
    human_seconds,
    make_report,
    synthesis_grid,
    write_figure_list,
    write_report,
)
from bundle.report.page import unbroken
from bundle.report.page_figures import read_figures

EVIL = '"><script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>'


class Page(HTMLParser):
    """Tags with their attributes, the visible text, and whether every opened tag was closed."""

    VOID = frozenset({"meta", "img", "br", "link", "hr"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)


def entry(mean, std=None, seeds=1):
    return {"mean": mean, "std": std, "per_seed": [mean] * seeds, "per_case": {f"c{n}": [mean] for n in range(13)}}


def make_results(asyndgan=0.671, std=None, seeds=1):
    means = {
        "real_all": 0.694,
        "real_subset/CS": 0.643,
        "real_subset/DU": 0.676,
        "syn_all": 0.689,
        "asyndgan": asyndgan,
    }
    return {
        "task": "brats",
        "name": "four institutions",
        "profile": "small",
        "seeds": list(range(seeds)),
        "losses": "adversarial + 100·L1",
        "train": {"asyndgan": {"seconds": 912.3, "steps": 1500, "seconds_per_step": 0.608}},
        "settings": {s: {"dice": entry(m, std, seeds), "training_images": 10} for s, m in means.items()},
        "wire": {
            "bytes_to_sites": 3_000_000,
            "bytes_from_sites": 6_000_000,
            "steps": 1500,
            "codec": "float32",
            "per_site": {"CS": {"to": 1_500_000, "from": 3_000_000}, "DU": {"to": 1_500_000, "from": 3_000_000}},
        },
        "hardware": {"cpu": "Some CPU", "cores": 2, "memory_gib": 23.4567, "device": "cpu", "torch": "2.9.0"},
        "seconds": 3312,
        "command": "asyndgan run --task brats",
    }


def read(path):
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture
def png(tmp_path):
    image = np.zeros((1, 8, 8))
    rows = [{"site": "CS", "samples": [{"condition": image, "synthetic": image, "real": image}]}]
    synthesis_grid(rows, tmp_path / "grid.png")
    return tmp_path / "grid.png"


def test_the_page_says_what_the_results_say(tmp_path, png):
    path = write_report(
        tmp_path / "out" / "report.html", make_results(), [PageFigure(png, "Grid", "A caption.")], notes="A note."
    )
    page = read(path)
    assert page.open == []
    for expected in (
        "four institutions",
        "reached a Dice of 0.671, 96.7 % of the 0.694 of Real-All",
        "The best single site, DU, reached 0.676 with its own real images alone: AsynDGAN is 0.005 worse.",
        "one seed",
        "13 held-out real cases",
        "A note.",
        "A caption.",
        "2.00 kB",  # bytes per step to all sites
        "4.00 kB",
        "9.00 MB",
        "15 min 12 s",
        "55 min 12 s",
        "23.46 GiB",
        "adversarial + 100·L1",
        "results.json",
    ):
        assert expected in page.text
    assert "asyndgan run --task brats" in page.text.replace("  ", " ")
    (image,) = [attrs for tag, attrs in page.tags if tag == "img"]
    assert base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) == png.read_bytes()


def test_claims_intervals_and_configuration_are_on_the_page(tmp_path):
    results = make_results() | {"wall_seconds": 3700}
    results["statistics"] = compute_statistics(results)
    configs = [("Configuration of a stage", "loss: <l1>\nlr: 0.1")]
    text = read(write_report(tmp_path / "r.html", results, [], configs=configs)).text
    assert "Synthetic images train about as well as all real images pooled: does not hold in this run" in text
    assert "a ratio of 0.967, 0.003 below the limit of 0.97" in text
    assert "Dice: intervals, and AsynDGAN against each setting" in text
    assert "Configuration of a stage loss: <l1> lr: 0.1" in text
    assert "1 h 02 min" in text


def test_the_page_needs_nothing_from_outside(tmp_path, png):
    path = write_report(tmp_path / "report.html", make_results(), [PageFigure(png, "Grid")])
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\(", text)
    assert str(tmp_path) not in text
    for tag, attrs in read(path).tags:
        assert tag not in ("script", "link", "iframe", "object")
        assert attrs.get("href", "#").startswith("#")
        assert attrs.get("src", "data:").startswith("data:image/png;base64,") or "src" not in attrs


def test_malicious_strings_stay_text(tmp_path, monkeypatch):
    # names are looked at here, not numbers
    monkeypatch.setattr("bundle.report.statistics.signed_rank_p", lambda differences: 0.5)
    results = make_results()
    results.update(task=EVIL, name=EVIL, profile=EVIL, command=EVIL, losses=EVIL, seeds=[EVIL])
    results["settings"][f"real_subset/{EVIL}"] = {EVIL: entry(0.9), "dice": entry(0.9)}
    results["settings"][EVIL] = {"dice": {"mean": 0.1, "per_seed": [0.1], "per_case": {EVIL: [0.1]}}}
    results["train"][EVIL] = {"steps": EVIL, "seconds": EVIL}
    results["wire"]["per_site"][EVIL] = {"to": EVIL, "from": None}
    results["wire"]["codec"] = EVIL
    results["statistics"] = compute_statistics(results)
    results["hardware"] = {"cpu": EVIL, EVIL: EVIL, "memory_gib": EVIL}
    figures = [PageFigure(tmp_path / "absent.png", EVIL, EVIL, EVIL, group) for group in ("first", "losses", EVIL)]
    page = read(
        write_report(tmp_path / "r.html", results, figures, notes=[EVIL], results_path=EVIL, configs=[(EVIL, EVIL)])
    )
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "img"})
    assert all("onerror" not in attrs for _, attrs in page.tags)
    assert page.open == []
    assert "alert(1)" in page.text


@pytest.mark.parametrize("missing", ["train", "settings", "wire", "hardware", "seconds", "command", "seeds", "losses"])
def test_any_block_may_be_missing(tmp_path, missing):
    results = make_results()
    del results[missing]
    page = read(write_report(tmp_path / "r.html", results, []))
    assert page.open == []
    assert "nan" not in page.text.lower().split()


def test_empty_and_half_way_results(tmp_path):
    assert "No setting has been scored yet" in read(write_report(tmp_path / "r.html", {}, [])).text
    results = make_results()
    del results["settings"]["asyndgan"]
    results["wire"] = {"bytes_to_sites": 10}
    results["train"] = {"asyndgan": None}
    assert "AsynDGAN has not been scored yet" in read(write_report(tmp_path / "r.html", results, [])).text


@pytest.mark.parametrize(
    ("asyndgan", "std", "words"),
    [
        (0.671, 0.01, "0.005 worse, which is within the spread over seeds"),
        (0.690, 0.001, "0.014 better, which is more than the spread over seeds"),
        (0.6761, 0.001, "the same as AsynDGAN"),
    ],
)
def test_several_seeds_are_judged_by_their_spread(tmp_path, asyndgan, std, words):
    page = read(write_report(tmp_path / "r.html", make_results(asyndgan, std, 3), []))
    assert words in page.text
    assert "means over 3 repeated runs" in page.text
    assert "from one seed" not in page.text


def test_where_lower_is_better_the_words_turn_round(tmp_path):
    results = make_results()
    for block in results["settings"].values():
        block["hd95"] = block.pop("dice")
    results["settings"]["real_all"]["hd95"] = entry(10.0)
    results["settings"]["asyndgan"]["hd95"] = entry(12.0)
    results["settings"]["real_subset/CS"]["hd95"] = entry(15.0)
    results["settings"]["real_subset/DU"]["hd95"] = entry(19.0)
    text = read(write_report(tmp_path / "r.html", results, [])).text
    assert "12.0 mm, 1.20 times the 10.0 mm of Real-All" in text
    assert "The best single site, CS, reached 15.0 mm with its own real images alone: AsynDGAN is 3.0 mm better" in text


def test_a_missing_figure_is_named_and_does_not_stop_the_page(tmp_path):
    page = read(write_report(tmp_path / "r.html", {}, [PageFigure(tmp_path / "gone.png", "T", "C")]))
    assert "This figure is missing: gone.png" in page.text
    assert str(tmp_path) not in page.text


def test_a_heading_breaks_between_words_only():
    assert unbroken("HD95 (mm) ↓") == "HD95\N{NO-BREAK SPACE}(mm)\N{NO-BREAK SPACE}↓"
    assert unbroken("Dice, labelled slices ↑") == "Dice, labelled slices\N{NO-BREAK SPACE}↑"
    assert unbroken("Dice / Real-All") == "Dice / Real\N{NON-BREAKING HYPHEN}All"


def test_tables_have_headings_for_every_row_and_column_and_pictures_a_text(tmp_path, png):
    results = make_results() | {"quality": {"asyndgan": {"fid": entry(20.0)}}}
    page = read(write_report(tmp_path / "r.html", results, [PageFigure(png, "Grid", alt="Three squares")]))
    assert ("html", {"lang": "en"}) in page.tags
    assert "title" in {tag for tag, _ in page.tags}
    assert all(attrs.get("scope") in ("row", "col") for tag, attrs in page.tags if tag == "th")
    assert [attrs["alt"] for tag, attrs in page.tags if tag == "img"] == ["Three squares"]
    anchors = {attrs.get("id") for _, attrs in page.tags}
    assert {attrs["href"][1:] for tag, attrs in page.tags if tag == "a"} <= anchors
    assert len([tag for tag, _ in page.tags if tag == "tr"]) > 10
    assert [attrs["class"] for tag, attrs in page.tags if tag == "tr" and "best" in attrs.get("class", "")] == [
        "kind-real-subset best"
    ]


def test_first_comes_the_result_then_the_contents_and_the_rest_is_folded(tmp_path, png):
    figures = [PageFigure(png, "First look", group="first"), PageFigure(png, "Losses", group="losses")]
    text = write_report(tmp_path / "r.html", make_results(), figures).read_text(encoding="utf-8")
    order = ["<h1>", "reached a Dice of 0.671", "<table>", "First look", "Contents", "<details>", "Losses"]
    places = [text.index(what) for what in order]
    assert places == sorted(places)
    assert text.count("<details>") == text.count('class="shows"') == text.count("<li>")
    assert "<details open" not in text


@pytest.fixture
def run_dir(tmp_path, png):
    """What a run leaves for its page, with a case that has a name of its own."""
    folder = tmp_path / "run"
    (folder / "figures").mkdir(parents=True)
    results = make_results()
    for scores in results["settings"].values():
        scores["dice"]["per_case"] = {"Doe_Jane_1970": [0.5], "Roe^Richard": [0.9]}
    results["test_patients"] = {"Doe_Jane_1970": "CS/Doe_Jane", "Roe^Richard": "DU/Roe"}
    results["command"] = "asyndgan run --dataset_dir /home/Doe_Jane_1970"
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    config = {"dataset_dir": "/home/x", "bank": "sub/Doe_Jane_1970.npz", "half": "$@size / 2", "lr": 0.1}
    config["nested"] = [{"path": "$open('/mnt/Doe_Jane_1970')"}]
    path = folder / "seed_0" / "asyndgan" / "gan" / "config.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    figures = []
    for number, pages in enumerate(("full", "shareable", "both")):
        shutil.copy(png, folder / "figures" / f"{pages}.png")
        with (folder / "figures" / f"{pages}.png").open("ab") as file:
            file.write(bytes([number]))  # what comes after the picture is ignored, and tells the files apart
        figures.append(PageFigure(folder / "figures" / f"{pages}.png", f"A {pages} one", "C.", "", "synthesis", pages))
    write_figure_list(folder / "figures", figures)
    assert read_figures(folder / "figures") == figures
    return folder


def embedded(path):
    return [base64.b64decode(attrs["src"].partition(",")[2])[-1] for tag, attrs in read(path).tags if tag == "img"]


def test_the_page_of_a_run_from_what_it_left(run_dir):
    page = make_report(run_dir)
    assert page == run_dir / "report.html"
    assert embedded(page) == [0, 2]
    text = read(page).text
    assert "For this house: shows real images and case names." in text
    assert "asyndgan run --dataset_dir" in text
    assert "Doe_Jane_1970.npz" in text
    assert "/home/x" not in text


def test_a_page_to_pass_on_has_no_case_and_no_figure_with_real_images(run_dir):
    page = make_report(run_dir, shareable=True)
    assert page == run_dir / "report_shareable.html"
    assert embedded(page) == [1, 2]
    text = page.read_text(encoding="utf-8")
    assert "Doe_" not in text
    assert "Roe" not in text
    shown = read(page).text
    assert "May be passed on: no real image, no case name." in shown
    assert "2 held-out real cases" in shown
    assert "bank: (path)" in shown
    assert "half: $@size / 2" in shown
    # the scores are those of the full page
    assert re.findall("<td>.*?</td>", text) == re.findall("<td>.*?</td>", make_report(run_dir).read_text("utf-8"))


def test_what_is_not_declared_is_not_passed_on(tmp_path, png):
    page = write_report(tmp_path / "r.html", make_results(), [PageFigure(png, "Grid")], shareable=True)
    assert embedded(page) == []


def test_a_run_that_left_little_or_what_is_damaged(run_dir, tmp_path):
    shutil.rmtree(run_dir / "seed_0")
    (run_dir / "figures" / "figures.json").unlink()
    assert embedded(make_report(run_dir)) == []
    for text, said in (("{", "in JSON"), ("{}", "expected a list"), ('[{"file": "a.png"}]', "in the field 'title'")):
        (run_dir / "figures" / "figures.json").write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=rf"figures\.json: .*{said}"):
            make_report(run_dir)
    (run_dir / "results.json").write_text("[", encoding="utf-8")
    with pytest.raises(ValueError, match=r"results\.json: .*in JSON"):
        make_report(run_dir)
    with pytest.raises(FileNotFoundError, match=r"results\.json is missing"):
        make_report(tmp_path)


@pytest.mark.parametrize(("field", "value"), [("file", "../../secret.png"), ("pages", "all"), ("alt", None)])
def test_a_list_of_figures_that_leads_elsewhere(run_dir, field, value):
    path = run_dir / "figures" / "figures.json"
    entries = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps([entries[0] | {field: value}]), encoding="utf-8")
    with pytest.raises(ValueError, match=value or field):
        make_report(run_dir)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (999_600, "1.00 MB"), (15_730_000, "15.7 MB"), (None, "–")],
)
def test_human_bytes(count, text):
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.608, "0.61 s"),
        (0.0123, "0.012 s"),
        (59.7, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (3900, "1 h 05 min"),
        (None, "–"),
    ],
)
def test_human_seconds(seconds, text):
    assert human_seconds(seconds) == text
