"""Ranges of a space, and expressions over names."""

import pytest
from systolith.gen.kit.errors import UserError
from systolith.gen.study.sweep.values import Expression, expand


@pytest.mark.parametrize("values, expected", [
    ([3, "x"], [3, "x"]),
    ({"from": 4, "to": 12, "step": 4}, [4, 8, 12]),
    ({"from": 4, "to": 13, "step": 4}, [4, 8, 12]),
    ({"from": 0.5, "to": 1.5, "step": 0.5}, [0.5, 1.0, 1.5]),
    ({"from": 4, "to": 64, "times": 2}, [4, 8, 16, 32, 64]),
    ({"from": 4, "to": 63, "times": 2}, [4, 8, 16, 32]),
    ({"from": 2, "to": 9, "times": 1.5}, [2, 3, 4, 7]),
    ({"from": 16, "to": 4096, "points": 5}, [16, 64, 256, 1024, 4096]),
    ({"from": 1, "to": 4, "points": 9}, [1, 2, 3, 4])])
def test_ranges(values, expected):
    assert expand(values, "here") == expected


@pytest.mark.parametrize("values, words", [
    ([], "at least one value"), (3, "must be a list of values or a range"),
    ({"from": 1}, "a range has from, to and one of"),
    ({"from": 1, "to": 2, "step": 1, "times": 2}, "one of step, times and points"),
    ({"from": 1, "to": 2, "by": 1}, "one of step"), ({"from": 2, "to": 1, "step": 1}, "is above"),
    ({"from": 1, "to": 2, "step": 0}, "step must be above 0"),
    ({"from": 0, "to": 2, "times": 2}, "begins above 0"),
    ({"from": 1, "to": 2, "times": 1}, "a factor above 1"),
    ({"from": 1, "to": 2, "points": 1}, "2 of them or more"),
    ({"from": 1, "to": 10**9, "step": 1}, "at most 100,000"),
    ({"from": True, "to": 2, "step": 1}, "from must be a number")])
def test_mistakes_in_ranges(values, words):
    with pytest.raises(UserError, match="^here.*" + words):
        expand(values, "here")


@pytest.mark.parametrize("text, expected", [
    ("array.rows * array.columns <= 256", True), ("array.rows < array.columns", False),
    ("4 < array.rows <= 16 and not array.depthwise", True),
    ("array.weight in ['int4', 'int8']", True), ("array.weight not in ('int4',)", True),
    ("array.depthwise or array.rows // 3 == 5", True), ("array.depthwise == false", True),
    ("-array.rows + 2 * 8 % 5 == -15", True), ("array.rows / 4", 4.0)])
def test_expressions(text, expected):
    known = {"array.rows": 16, "array.columns": 16, "array.weight": "int8",
             "array.depthwise": False}
    assert Expression.of(text, "here", known)(known) == expected


@pytest.mark.parametrize("text, words", [
    (3, "must be a text"), ("a <", "is no expression"), ("b < 3", "b is no name here; names: a"),
    ("f(3)", r"has 'f\(3\)' in it"), ("a[0] < 3", "in it; numbers"), ("a.b.c > 1", "is no name"),
    ("a ** 9 > 1", "in it; numbers"), ("[x for x in a]", "in it; numbers")])
def test_mistakes_in_expressions(text, words):
    with pytest.raises(UserError, match="^here.*" + words):
        Expression.of(text, "here", ["a"])


@pytest.mark.parametrize("text", ["a < 'x'", "a / 0"])
def test_expressions_without_a_value(text):
    with pytest.raises(UserError, match=r"a [</]"):
        Expression.of(text, "here", ["a"])({"a": 3})
