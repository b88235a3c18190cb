import doctest

import pytest

from bundle import by_site as module
from bundle.by_site import by_site, of_site


def test_examples():
    result = doctest.testmod(module)
    assert result.attempted >= 3
    assert result.failed == 0


@pytest.mark.parametrize(
    ("value", "kwargs", "expected"),
    [
        (4, {}, {"B": 4, "A": 4}),
        (None, {"default": 1}, {"B": None, "A": None}),
        ([1, 2], {}, {"B": [1, 2], "A": [1, 2]}),
        ({"A": 2, "B": 8}, {}, {"B": 8, "A": 2}),
        ({"A": False}, {"default": True}, {"B": True, "A": False}),
        ({}, {"default": None}, {"B": None, "A": None}),
    ],
)
def test_a_value_for_all_or_one_for_each(value, kwargs, expected):
    found = by_site("key", value, ["B", "A"], **kwargs)
    assert found == expected
    assert list(found) == ["B", "A"]


@pytest.mark.parametrize(
    ("value", "kwargs", "message"),
    [
        ({"A": 1}, {}, "batch_size is given for A, but the sites are A, B: nothing for B$"),
        ({}, {}, "batch_size is given for no site, but the sites are A, B: nothing for A, B$"),
        ({"A": 1, "B": 2, "Z": 3}, {}, "batch_size is given for A, B, Z, but the sites are A, B: there is no Z$"),
        ({"Z": 1, "C": 1}, {"default": 1}, "is given for C, Z, but the sites are A, B: there is no C, Z$"),
        ({"A": 1, "Z": 3}, {}, "is given for A, Z, but the sites are A, B: there is no Z, nothing for B$"),
        # YAML's 1 is no name of a site
        ({1: 2, "A": 3, "B": 4}, {}, "there is no 1$"),
    ],
)
def test_errors_name_unknown_and_missing_sites(value, kwargs, message):
    with pytest.raises(ValueError, match=message):
        by_site("batch_size", value, ["B", "A"], **kwargs)


def test_one_site_does_not_judge_what_is_said_of_others():
    assert of_site("batch_size", {"A": 2, "elsewhere": 8}, "A") == 2
    assert of_site("keep_conditions", {"elsewhere": False}, "A", True) is True
    with pytest.raises(ValueError, match="batch_size is given for elsewhere: nothing for site A"):
        of_site("batch_size", {"elsewhere": 8}, "A")
