import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from bundle.report import compute_statistics, human_bytes, human_seconds, synthesis_grid, write_report

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
        tmp_path / "out" / "report.html", make_results(), [("Grid", "A caption.", png)], notes="A note."
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
    path = write_report(tmp_path / "report.html", make_results(), [("Grid", "", png)])
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\(", text)
    assert str(tmp_path) not in text
    for tag, attrs in read(path).tags:
        assert tag not in ("script", "link", "iframe", "object")
        assert "href" not in attrs
        assert attrs.get("src", "data:").startswith("data:image/png;base64,") or "src" not in attrs


def test_malicious_strings_stay_text(tmp_path):
    results = make_results()
    results.update(task=EVIL, name=EVIL, profile=EVIL, command=EVIL, losses=EVIL, seeds=[EVIL])
    results["settings"][f"real_subset/{EVIL}"] = {EVIL: entry(0.9), "dice": entry(0.9)}
    results["settings"][EVIL] = {"dice": {"mean": 0.1, "per_seed": [0.1], "per_case": {EVIL: [0.1]}}}
    results["train"][EVIL] = {"steps": EVIL, "seconds": EVIL}
    results["wire"]["per_site"][EVIL] = {"to": EVIL, "from": None}
    results["wire"]["codec"] = EVIL
    results["statistics"] = compute_statistics(results)
    results["hardware"] = {"cpu": EVIL, EVIL: EVIL, "memory_gib": EVIL}
    figures = [(EVIL, EVIL, tmp_path / "absent.png")]
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
    page = read(write_report(tmp_path / "r.html", {}, [("T", "C", tmp_path / "gone.png")]))
    assert "This figure is missing: gone.png" in page.text
    assert str(tmp_path) not in page.text


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
