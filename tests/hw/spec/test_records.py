"""Records: what is written is read, and what is wrong is named."""

import json
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import pytest
from systolith.hw.spec.records import FLAT, OPTIONAL, Record, RecordError, from_json, to_json


class Point(NamedTuple):
    y: int
    x: float


@dataclass(frozen=True)
class Name(Record):
    name: str
    kind: Literal["a", "b"]


@dataclass(frozen=True)
class Inner:
    at: Point


class Doubled:
    """A class that writes and reads itself."""

    def __init__(self, number):
        self.number = number

    def __eq__(self, other):
        return self.number == other.number

    def to_json(self):
        return 2 * self.number

    @classmethod
    def from_json(cls, data, where):
        if data % 2:
            raise RecordError(f"{where} is odd")
        return cls(data // 2)


@dataclass(frozen=True)
class Outer(Record):
    about: Name = field(metadata=FLAT)
    size: tuple[int, int]
    inner: tuple[Inner, ...]
    sums: dict[str, float]
    on: bool
    anything: dict[str, Any]
    twice: Doubled
    none: int | None
    note: str | None = field(default=None, metadata=OPTIONAL)


OUTER = Outer(Name("n", "a"), (1, 2), (Inner(Point(3, 4)), Inner(Point(5, 0.5))), {"s": 1.0},
              True, {"k": [1, None]}, Doubled(4), None)
DATA = {"name": "n", "kind": "a", "size": [1, 2], "inner": [{"at": [3, 4]}, {"at": [5, 0.5]}],
        "sums": {"s": 1.0}, "on": True, "anything": {"k": [1, None]}, "twice": 8, "none": None}


def test_records_are_written_in_the_order_of_their_fields_and_read_again():
    text = json.dumps(OUTER.to_json())
    assert text == json.dumps(DATA)
    read = Outer.from_json(json.loads(text))
    assert read == OUTER and json.dumps(read.to_json()) == text


def test_an_optional_field_is_there_where_it_is_not_none():
    data = DATA | {"note": "here", "none": 3}
    read = Outer.from_json(data)
    assert (read.note, read.none) == ("here", 3) and read.to_json() == data


def test_keys_that_no_field_has_are_passed_over():
    assert Outer.from_json(DATA | {"more": 1}) == OUTER


def test_what_is_not_a_record_is_written_too():
    assert to_json([Point(1, 2), {"a": Name("n", "b")}, "text"]) == [
        [1, 2], {"a": {"name": "n", "kind": "b"}}, "text"]


@pytest.mark.parametrize("name", DATA)
def test_a_field_that_is_missing_is_named(name):
    data = {key: value for key, value in DATA.items() if key != name}
    with pytest.raises(RecordError, match=f"^{name} is missing$"):
        Outer.from_json(data)


@pytest.mark.parametrize("name, value, text", [
    ("name", 3, "name must be a text, not 3"),
    ("kind", "c", "kind must be one of 'a', 'b', not 'c'"),
    ("kind", [], r"kind must be one of 'a', 'b', not \[\]"),
    ("size", [1], r"size must be a list of 2, not \[1\]"),
    ("size", [1, True], r"size\[1\] must be a whole number, not True"),
    ("size", "12", "size must be a list of 2, not '12'"),
    ("inner", {}, r"inner must be a list, not \{\}"),
    ("inner", [{"at": [3, 4]}, {"at": [5, "x"]}], r"inner\[1\]\.at\[1\] must be a number, not 'x'"),
    ("inner", [{}], r"inner\[0\]\.at is missing"),
    ("inner", [7], r"inner\[0\] must be an object, not 7"),
    ("sums", {"s": False}, r"sums\.s must be a number, not False"),
    ("sums", [], r"sums must be an object, not \[\]"),
    ("on", 1, "on must be true or false, not 1"),
    ("twice", 3, "twice is odd"),
    ("none", 1.5, "none must be a whole number, not 1.5"),
    ("note", 1, "note must be a text, not 1"),
])
def test_a_field_of_a_wrong_type_is_named(name, value, text):
    with pytest.raises(RecordError, match=f"^{text}$"):
        Outer.from_json(DATA | {name: value})


def test_data_that_is_no_object_is_refused():
    with pytest.raises(RecordError, match=r"^the data must be an object, not \[\]$"):
        Outer.from_json([])
    with pytest.raises(RecordError, match=r"^it\.name is missing$"):
        Name.from_json({}, "it")


def test_long_data_is_cut_in_messages():
    with pytest.raises(RecordError) as caught:
        from_json(int, list(range(10_000)), "n")
    assert len(str(caught.value)) < 100
