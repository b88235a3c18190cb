"""When a segmenter is untrained, and what is then left out."""

import json
from pathlib import Path

import numpy as np
import pytest
from test_page import make_results

from bundle.report import ratio_to_reference, summarize_loss, text_table
from bundle.report.claims import verdicts
from bundle.report.result_in_words import what_it_says as sentences
from bundle.report.untrained import is_untrained

RUNS = sorted((Path(__file__).resolve().parents[2] / "docs" / "results").glob("*/results.json"))


def test_what_is_kept_of_a_loss_is_known():
    curve = np.concatenate([np.full(2, 4.0), np.full(158, 3.0), np.full(20, 2.0), np.full(20, 1.0)])
    assert summarize_loss(curve) == {"first": 4.0, "before_last": 2.0, "last": 1.0}
    assert summarize_loss([3.0, 1.0]) == {"first": 3.0, "before_last": 3.0, "last": 1.0}
    assert summarize_loss([1.0]) is None
    assert summarize_loss([1.0, float("nan"), 1.0]) is None


STEPS = np.arange(400)


@pytest.mark.parametrize(
    ("curve", "untrained"),
    [
        (1.2 * np.exp(-STEPS / 40) + 0.3, False),  # has come to its end
        (1.2 * np.exp(-STEPS / 40) + 0.7, False),  # to one that is far from 0
        (1.2 - 0.2 * STEPS / 400, True),  # as 20 steps are: flat in the end, and nothing learned
        (np.full(400, 1.2), True),
        (1.2 - STEPS / 400, True),  # learns until the last step
        (1.2 * np.exp(-STEPS / 40) + 0.3 + 0.1 * np.sin(STEPS * 1.7), False),  # noise is no fall
        (0.2 * np.exp(-STEPS / 200), True),
    ],
)
def test_known_curves(curve, untrained):
    results = {"settings": {"real_all": {"segmenter_loss": [summarize_loss(curve)]}}}
    assert is_untrained(results, "real_all") == untrained


def test_one_seed_is_enough_and_what_is_not_known_is_nothing():
    done, begun = ({"first": 1.0, "before_last": last, "last": last} for last in (0.2, 0.9))
    for losses, expected in (([done, done], False), ([done, begun], True), ([None], False), ([], False)):
        assert is_untrained({"settings": {"real_all": {"segmenter_loss": losses}}}, "real_all") == expected
    assert not is_untrained({"settings": {"real_all": {}}}, "real_all")
    assert not is_untrained({}, "real_all")


def what_it_says(results):
    return " ".join(sentences(results))


def with_untrained(*settings):
    results = make_results()
    for setting, scores in results["settings"].items():
        last = 0.9 if setting in settings else 0.2
        scores["segmenter_loss"] = [{"first": 1.0, "before_last": last, "last": last}]
    return results


def test_the_ratio_to_an_untrained_baseline_is_withheld():
    trained, begun = with_untrained(), with_untrained("real_all")
    assert ratio_to_reference(trained, "asyndgan", "dice") == ratio_to_reference(make_results(), "asyndgan", "dice")
    assert " % of the " in what_it_says(trained)
    assert "Not trained to the end" not in what_it_says(trained) + text_table(trained)
    assert np.isnan(ratio_to_reference(begun, "asyndgan", "dice"))
    assert " % of the " not in what_it_says(begun)
    for text in (what_it_says(begun), text_table(begun)):
        assert "Not trained to the end: Real-All" in text
    assert {v.claim.against for v in verdicts(trained)} - {v.claim.against for v in verdicts(begun)} == {"real_all"}


def test_nothing_is_said_of_the_claims_when_asyndgan_s_own_segmenter_is_untrained():
    results = with_untrained("asyndgan")
    assert verdicts(results) == []
    assert "better" not in what_it_says(results)


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.parent.name)
def test_the_committed_results_are_of_trained_segmenters(path):
    results = json.loads(path.read_text(encoding="utf-8"))
    assert [setting for setting in results.get("settings", {}) if is_untrained(results, setting)] == []
    assert "Not trained to the end" not in text_table(results)
