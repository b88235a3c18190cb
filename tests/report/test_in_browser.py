"""The page as a browser shows it, at the width of a desk and of a phone."""

import json

import numpy as np
import pytest
from browser import Browser, find_chromium
from gain_results import gain_results
from test_page import make_results

from bundle.report import (
    PageFigure,
    compute_statistics,
    loss_curves,
    make_report,
    metric_boxplot,
    neighbour_panel,
    synthesis_grid,
    write_report,
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="needs Chromium (Debian: apt-get install chromium)"),
]
UNFOLD = "document.querySelectorAll('details').forEach(d => { d.open = true })"
TWO_FRAMES = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
BOXES = "[...document.querySelectorAll('.scroll')].filter(e => e.checkVisibility()).map("
# the least ratio of the brightness of a text and of what it stands on, as WCAG 2 counts it
CONTRAST = """
(() => {
  const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b };
  const below = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!/, 0\\)$/.test(c)) return c } return 'rgb(255, 255, 255)' };
  let least = 21;
  for (const e of document.body.querySelectorAll('*')) {
    if (![...e.childNodes].some(n => n.nodeType == 3 && n.data.trim())) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(below(e))].sort((x, y) => x - y);
    least = Math.min(least, (b + 0.05) / (a + 0.05));
  }
  return least;
})()
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = Browser(find_chromium(), tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Of a run with all that a page can show, long names among it."""
    folder = tmp_path_factory.mktemp("pages")
    results = make_results(std=0.012, seeds=3)
    results["statistics"] = compute_statistics(results)  # here: of one metric it takes a second
    results["command"] = "asyndgan run --dataset_dir /" + "a_long_folder/" * 20
    metrics = ("dice", "dice_tumor_slices", "sensitivity", "specificity", "hd95")
    for scores in results["settings"].values():
        scores |= dict.fromkeys((*metrics, "dice:oedema", "dice:core", "dice/other organs"), scores["dice"])
    results["quality"] = {
        "asyndgan": {name: {"mean": 0.5, "per_seed": [0.5], "per_case": {"CS": [0.5], "DU": [0.4]}} for name in QUALITY}
    }
    results["hardware"]["cpu"] = "A processor with " + "a_very_long_name" * 6
    image = np.random.default_rng(0).uniform(-1, 1, (1, 48, 48))
    rows = [{"site": s, "samples": [dict.fromkeys(("condition", "synthetic", "real"), image)] * 2} for s in "ABC"]
    one = [row | {"samples": row["samples"][:1]} for row in rows]
    side = {"case": "case " * 9, "image": image}
    examples = [
        {"kind": kind, "distance": 0.1, "between": 0.2, "synthetic": side, "nearest": side, "other": side}
        for kind in ("any patient", "other patients")
    ]
    draw = {
        "first": lambda path: synthesis_grid(one, path),
        "synthesis": lambda path: synthesis_grid(rows, path),
        "cases": lambda path: metric_boxplot(results, "dice", path),
        "neighbours": lambda path: neighbour_panel(examples, path),
        "losses": lambda path: loss_curves({"A": {f"loss/CS/{n}": ([1, 2], [3, 4]) for n in "abcd"}}, path),
    }
    figures = []
    for group, make in draw.items():
        make(folder / f"{group}.png")
        pages = "full" if group == "neighbours" else "both"
        figures.append(PageFigure(folder / f"{group}.png", f"A figure of {group}", "What it shows.", "", group, pages))
    configs = [("Configuration", "key: " + "value" * 80)]
    return {
        shareable: write_report(
            folder / f"{shareable}.html", results, figures, "A note.", configs=configs, shareable=shareable
        )
        for shareable in (False, True)
    }


@pytest.fixture(scope="module")
def gain_page(tmp_path_factory):
    """Of a run with the settings beyond the paper's, and with a policy that takes many words."""
    folder = tmp_path_factory.mktemp("gain")
    results = gain_results() | {"policy": "CS: private (epsilon 4, delta 1e-05, clip_norm 0.01); DU: guarded"}
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    return make_report(folder)


QUALITY = ("fid", "fid/other patients", "mmd", "mmd/other patients", "ssim", "ssim/held-out conditions")
QUALITY += ("gan_test", "false_foreground", "neighbour_ratio/any patient", "neighbour_ratio/other patients")
QUALITY += ("neighbour_share", "own_pair_share")


@pytest.mark.parametrize("shareable", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_only_boxes_scroll_sideways_and_say_so(browser, pages, width, shareable):
    only_boxes_scroll(browser, pages[shareable], width)


@pytest.mark.parametrize("width", [1280, 390])
def test_what_a_hospital_gains_scrolls_in_boxes_only(browser, gain_page, width):
    only_boxes_scroll(browser, gain_page, width)
    browser.evaluate(UNFOLD)
    assert browser.evaluate(CONTRAST) >= 4.5


def test_what_a_hospital_gains_is_on_the_first_screen_of_a_desk(browser, gain_page):
    browser.open(gain_page, 1280, 800)
    for what in (".headline", ".gain table", ".gain p"):
        box = browser.evaluate(f"document.querySelector('{what}').getBoundingClientRect().toJSON()")
        assert 0 <= box["top"] < box["bottom"] <= 800, what


def only_boxes_scroll(browser, page, width):
    browser.open(page, width)
    for action in ("0", UNFOLD):
        browser.evaluate(action)
        browser.evaluate(TWO_FRAMES)
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        wide = browser.evaluate(BOXES + "e => e.scrollWidth > e.clientWidth)")
        hinted = browser.evaluate(BOXES + "e => e.querySelector('.hint').checkVisibility())")
        assert hinted == wide
    assert any(wide) or width > 390
    # nothing sticks out of the page but what lies in such a box
    outside = "[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll')"
    outside += (
        " && e.checkVisibility() && e.getBoundingClientRect().right > innerWidth).map(e => e.outerHTML.slice(0, 99))"
    )
    assert browser.evaluate(outside) == []


@pytest.mark.parametrize("shareable", [False, True])
def test_the_first_screen_of_a_desk_has_result_table_and_pictures(browser, pages, shareable):
    browser.open(pages[shareable], 1280, 800)
    for what in (".headline", ".first table", ".first img"):
        box = browser.evaluate(f"document.querySelector('{what}').getBoundingClientRect().toJSON()")
        assert box["top"] >= 0
        assert box["bottom"] <= 800, what
    assert browser.evaluate("document.querySelectorAll('details[open]').length") == 0
    assert not browser.evaluate("document.querySelector('details .content').checkVisibility()")


def test_a_link_of_the_contents_unfolds_its_section(browser, pages):
    browser.open(pages[False], 1280)
    browser.evaluate("document.querySelector('nav a[href=\"#traffic\"]').click()")
    browser.evaluate(TWO_FRAMES)
    assert browser.evaluate("document.querySelectorAll('details[open]').length") == 1
    assert browser.evaluate("document.getElementById('traffic').checkVisibility()")
    summary = "document.querySelector('details[open] summary').getBoundingClientRect()"
    assert 0 <= browser.evaluate(f"{summary}.top") < 800


def test_texts_stand_out_from_what_they_stand_on(browser, pages):
    for page in pages.values():
        browser.open(page, 1280)
        browser.evaluate(UNFOLD)
        assert browser.evaluate(CONTRAST) >= 4.5
