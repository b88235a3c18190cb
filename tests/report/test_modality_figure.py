import json

import numpy as np
from gain_results import gain_results
from pictures import check_png, has_colour

from bundle.report.drawing import MUTED, PALETTE
from bundle.report.modality_figure import modality_figure
from bundle.report.page import make_report

ALL = ["flair", "t1", "t1ce", "t2"]
HAVE = {"A": ["flair", "t1"], "B": ["t1", "t1ce"], "C": ["t1"]}
MEANS = {"real_subset/A": 0.5, "real_subset/B": 0.3, "asyndgan": 0.7, "real_all_common": 0.45, "real_all_filled": 0.4}


def results(have=HAVE, **other):
    found = gain_results(MEANS, {"A": 3, "": 2}, seeds=2)
    return found | {"modalities": {"all": ALL, "by_site": have}} | other


def filled(pixels, colour):
    """In the columns of modalities: how much is of a colour."""
    return int((np.abs(pixels[:, : pixels.shape[1] // 2] - colour).max(-1) <= 2).sum())


def test_every_modality_that_a_hospital_has_is_a_filled_square(tmp_path):
    (figure,) = modality_figure(results(), tmp_path)
    drawn = check_png(figure.path, 900)
    for colour in (PALETTE[2], PALETTE[0], PALETTE[4]):
        assert has_colour(drawn, colour)
    (fewer,) = modality_figure(results({"A": ["t1"], "B": ["t1"], "C": ["t1"]}), tmp_path / "fewer")
    grey = [round(255 * int(MUTED[i : i + 2], 16) / 255) for i in (1, 3, 5)]
    # five squares and three; the words above them are the same
    assert filled(drawn, grey) > 1.4 * filled(check_png(fewer.path), grey)


def test_where_all_hospitals_have_all_or_nothing_is_scored_there_is_none(tmp_path):
    assert modality_figure({**results(), "modalities": None}, tmp_path) == []
    assert modality_figure(results(settings={}), tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_hospital_without_a_score_and_a_long_name_have_their_rows(tmp_path):
    (figure,) = modality_figure(results({"a hospital with $ and a long name": ["t1"], "B": ALL}), tmp_path)
    check_png(figure.path)


def test_it_stands_on_both_pages(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(results()), encoding="utf-8")
    for shareable in (False, True):
        page = make_report(tmp_path, shareable).read_text(encoding="utf-8")
        assert "What each hospital has, what the federation gives" in page
