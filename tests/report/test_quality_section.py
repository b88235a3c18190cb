from html.parser import HTMLParser

import pytest

from bundle.report.image_quality import image_quality
from bundle.report.page import render_section
from bundle.report.sections import Section


def quality_section(results):
    """As HTML, with spaces that may break."""
    found = image_quality(results)
    section = Section("quality", "Image quality", "", "quality.html", found)
    return render_section(section).replace("\N{NO-BREAK SPACE}", " ") if found else ""


def entry(mean, sites, seeds=1, std=None):
    return {
        "mean": mean,
        "std": std,
        "per_seed": [mean] * seeds,
        "per_case": {s: [v] * seeds for s, v in sites.items()},
    }


def make_results(**settings):
    metrics = {
        "fid": (23.98, {"A": 110.42, "B": 23.23}),
        "fid/other patients": (55.4, {"A": 121.8, "B": None}),
        "fid/real, other patients": (64.0, {"A": 71.0, "B": None}),
        "fid/real, other sites": (None, {"A": 59.1, "B": 64.2}),
        "ssim": (0.7, {"A": 0.71, "B": 0.69}),
        "ssim/held-out conditions": (0.65, {"A": 0.66, "B": 0.64}),
        "gan_test": (0.512, {"A": 0.4, "B": 0.6}),
        "gan_test/training images": (0.734, {"A": 0.7, "B": 0.8}),
        "false_foreground": (0.01, {"A": 0.02, "B": None}),
        "false_foreground/training images": (0.002, {"A": 0.003, "B": None}),
        "fixed_pattern": (30.4, {"A": 30.0, "B": 31.0}),
        "fixed_pattern/training images": (3.2, {"A": 3.0, "B": 3.5}),
        "fixed_pattern_rate": (0.604, {"A": 0.6, "B": 0.61}),
        "fixed_pattern_rate/training images": (0.041, {"A": 0.04, "B": 0.05}),
        "neighbour_ratio/other patients": (0.93, {"A": 0.9, "B": 0.95}),
        "neighbour_ratio/any patient": (0.81, {"A": 0.8, "B": 0.82}),
        "neighbour_share": (0.072, {"A": 0.07, "B": 0.08}),
        "own_pair_share": (0.15, {"A": 0.1, "B": 0.2}),
        "images": (554, {"A": 300, "B": 254}),
        "images/real": (500, {"A": 300, "B": 200}),
    }
    return {"quality": {"asyndgan": {name: entry(*values) for name, values in metrics.items()}} | settings}


class Tables(HTMLParser):
    """Every table as rows of texts, the paragraphs, and whether every opened tag was closed."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.paragraphs, self.open = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")
        elif tag == "p":
            self.paragraphs.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"th", "td"} & set(self.open):
            self.tables[-1][-1][-1] += data
        elif self.open and self.open[-1] == "p":
            self.paragraphs[-1] += data


def test_figures_stand_beside_those_of_real_images():
    page = Tables(quality_section(make_results()))
    overall, readings, patterns, neighbours, by_site, readings_by_site, patterns_by_site, neighbours_by_site = (
        page.tables
    )
    assert overall[0][:3] == ["Setting", "FID ↓", "FID, other patients ↓"]
    assert [row[:3] for row in overall[1:]] == [
        ["AsynDGAN", "24.0", "55.4"],
        ["Real images of other patients", "–", "64.0"],
    ]
    assert readings == [
        ["Setting", "GAN-test (Dice) ↑", "False foreground ↓"],
        ["AsynDGAN", "0.512", "0.0100"],
        ["Real training images", "0.734", "0.0020"],
    ]
    assert patterns == [
        ["Setting", "Fixed pattern (×) ↓", "Most at one position (share) ↓"],
        ["AsynDGAN", "30.4", "0.604"],
        ["Real training images", "3.2", "0.041"],
    ]
    assert neighbours[1:] == [
        ["AsynDGAN", "0.81", "0.93", "0.072", "0.150"],
        ["Real images, by definition", "–", "1.00", "0.050", "–"],
    ]
    assert [row[:3] for row in by_site[1:]] == [
        ["A: AsynDGAN", "110.4", "121.8"],
        ["A: Real images of other patients", "–", "71.0"],
        ["A: Real images of the other sites", "59.1", "–"],
        ["B: AsynDGAN", "23.2", "–"],
        ["B: Real images of the other sites", "64.2", "–"],
    ]
    assert [row[0] for row in readings_by_site[1:]] == [f"{site}: {row[0]}" for site in "AB" for row in readings[1:]]
    assert len(patterns_by_site) == 5
    assert len(neighbours_by_site) == 3
    text = " ".join(" ".join(page.paragraphs).split())
    assert "GAN-test is the Dice" in text
    assert "(554 synthetic, 500 real)" in text
    assert "0.93 times as far from the nearest training image of another patient as a real image is, and 7.2 %" in text
    assert (
        "SSIM of 0.700 to the real ones; drawn from those of held-out cases, which the generator never saw, 0.650"
        in text
    )


def test_seeds_have_a_spread_and_real_images_have_none():
    results = make_results()
    for name, block in results["quality"]["asyndgan"].items():
        if block["mean"] is not None:
            block |= {"std": 0.0 if "real" in name else 1.5, "per_seed": [block["mean"]] * 2}
    overall = Tables(quality_section(results)).tables[0]
    assert overall[1][1] == "24.0 ± 1.5"
    assert overall[2][2] == "64.0"


def test_another_task_has_its_own_metrics():
    """The toy has one figure of merit, and nothing of images."""
    settings = {setting: {"wasserstein": entry(value, {})} for setting, value in (("asyndgan", 0.2), ("syn_all", 0.1))}
    page = Tables(quality_section({"quality": settings}))
    assert page.tables == [[["Setting", "wasserstein"], ["Syn-All", "0.100"], ["AsynDGAN", "0.200"]]]
    assert page.paragraphs == []


@pytest.mark.parametrize("results", [{}, {"quality": {}}, {"quality": None}])
def test_nothing_to_show(results):
    assert quality_section(results) == ""


def test_names_are_escaped():
    results = make_results()
    results["quality"]["asyndgan"]["fid"]["per_case"] = {"<b>": [1.0]}
    section = quality_section(results)
    assert "<b>" not in section
    assert "&lt;b&gt;" in section
