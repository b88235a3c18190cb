"""The table of who answered."""

import pytest

from bundle.report.attendance import attendance

ABOUT = {"state": "present", "last_step": 9, "answered": 1234, "failures": 0, "strikes": 0, "late": 1}


def test_a_row_for_each_site():
    table = attendance({"sites": {"B": ABOUT | {"state": "left out", "strikes": 3}, "A": ABOUT}})
    assert [(row.name, *row.cells) for row in table.rows] == [
        ("A", "to the end", "1,234", "0", "1", "0"),
        ("B", "left out after strikes", "1,234", "0", "1", "3"),
    ]


@pytest.mark.parametrize("results", [{}, {"sites": None}, {"sites": {}}, {"sites": {"A": None}}])
def test_nothing_where_the_training_does_not_say(results):
    assert attendance(results).rows == ()


def test_what_is_missing_is_a_dash():
    assert attendance({"sites": {"A": {}}}).rows[0].cells == ("–",) * 5
