"""The table of who answered."""

import pytest

from bundle.report.attendance import attendance

ABOUT = {"state": "present", "last_step": 9, "answered": 1234, "failures": 0, "strikes": 0, "late": 1}


def test_a_row_for_each_site_and_their_names_are_text():
    html = attendance({"sites": {"B<b>": ABOUT | {"state": "left out", "strikes": 3}, "A": ABOUT}})
    assert html.index(">A<") < html.index("B&lt;b&gt;")
    assert "1,234" in html
    assert "left out after strikes" in html
    assert "to the end" in html


@pytest.mark.parametrize("results", [{}, {"sites": None}, {"sites": {}}, {"sites": {"A": None}}])
def test_nothing_where_the_training_does_not_say(results):
    assert attendance(results) == ""


def test_what_is_missing_is_a_dash():
    assert attendance({"sites": {"A": {}}}).count("–") == 5
