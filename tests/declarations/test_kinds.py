"""What plain values may be: nothing is taken for something else, and nothing makes a check work long."""

import math
from pathlib import Path

import pytest

from bundle.declarations import kinds
from bundle.declarations.kinds import (
    ByName,
    Either,
    Fields,
    Flag,
    ListOf,
    Matching,
    Name,
    Nothing,
    Number,
    OneOf,
    Scalar,
    Setting,
    Text,
    Whole,
    in_brief,
    optional,
)


def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (Whole(1, 4), [1, 4], [0, 5, 2.0, True, "2", None, [2], 10**5000, math.nan]),
        (Number(0, 1), [0, 1, 0.5], [-1e-9, 1.1, math.nan, math.inf, -math.inf, True, "0.5", None, 10**400]),
        (Flag(), [True, False], [0, 1, "true", None, "no"]),
        (Nothing(), [None], [0, False, "", "null", {}]),
        (OneOf("a", "b"), ["a"], ["c", "", None, ["a"], "a" * 10**6]),
        (Matching(r"v\d+", "a version"), ["v1"], ["v", "v1\n", "v1 ", "v" + "1" * 10**6, 1]),
        (Name(), ["CS", "St. Mary", "Köln", "a-b_c.d"], ["", ".", "..", "../x", "/x", "a/b", "a\\b", "a\n", "x" * 65]),
        (Setting(), ["asyndgan", "real_subset/St. Mary"], ["/x", "../x", "asyndgan/A", "real_subset/", "real_subset/..",
                                                           "real_subset/A/B", "real_subset", "", 3]),
        (kinds.Path(), ["/a", "../b", "a#b", "$c", Path("d")], [2018, 1e5, True, ["a"], (), None, "\0", 5000 * "x"]),
        (Text(), ["whole tumor", "µm²"], ["", "$x", "@x", "%x", "a\n", "\x1b[2J", "{workspace}", "x" * 101, 1]),
        (Scalar(), [1, 1.5, "x", None, True, math.inf], [[1], {}, "x" * 65, 10**400]),
        (ListOf(Whole(0, 9), 1, 2), [[1], (1, 2)], [[], [1, 2, 3], [True], "12", {1: 2}, nested(10**5), [0] * 10**6]),
        (ByName(Whole(0, 9), 2), [{}, {"A": 1}], [{"../A": 1}, {"A": "1"}, {1: 1}, dict.fromkeys("ABC", 1), []]),
        (Fields(a=Flag(), b=Whole(0, 1)), [{}, {"a": True}], [{"c": 1}, {"a": 1}, {"a": nested(10**5)}, 3]),
        (Either(Flag(), Whole(2, 3)), [True, 2], [1, "2"]),
        (optional(Whole(1, 2)), [None, 1], [0, "null"]),
    ],
)  # fmt: skip
def test_a_kind_takes_its_own_and_nothing_that_python_takes_for_it(kind, right, wrong):
    assert [value for value in right if not kind.accepts(value)] == []
    assert [in_brief(value) for value in wrong if kind.accepts(value)] == []
    assert str(kind)


LONG = {
    "text": "x" * 10**6,
    "number": 10**5000,
    "nested": nested(500),
    "mapping": dict.fromkeys(map(str, range(10**4)), "y" * 10**4),
    "signs": "a\nb\x1b[2J",
    "lists": [[1] * 99] * 99,
}


@pytest.mark.parametrize("what", LONG)
def test_what_is_shown_of_a_value_is_a_short_line(what):
    assert len(in_brief(LONG[what])) < 400
    assert in_brief(LONG[what]).isprintable()
