"""Records as JSON and back: dataclasses whose annotations are the schema.

A field is an int, float, bool or str, a `Literal` of texts, another record, a named tuple (a list
in JSON), a `tuple[X, Y]` or `tuple[X, ...]`, a `dict[str, X]`, one of these or None, or Any. A
number of a float field that JSON has as an integer stays one, so that what is written again is the
same. A class may have `to_json()` or `from_json(data, where)` of its own.

Every field must be there when a record is read, whether or not it has a default; keys that no
field has are passed over.
"""

import reprlib
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints

__all__ = ["FLAT", "OPTIONAL", "Record", "RecordError", "from_json", "to_json"]

#: Metadata of a field: the keys of its record stand among those of the record that it is in.
FLAT: Mapping[str, bool] = {"flat": True}
#: Metadata of a field: where it is None, JSON has no key of its name.
OPTIONAL: Mapping[str, bool] = {"optional": True}

_SCALARS: dict[Any, tuple[str, tuple[type, ...]]] = {
    int: ("a whole number", (int,)), float: ("a number", (int, float)),
    bool: ("true or false", (bool,)), str: ("a text", (str,))}


class RecordError(ValueError):
    """Data that is no such record: the field, and what is wrong with it."""


class Record:
    """A dataclass with `to_json` and `from_json`."""

    def to_json(self) -> dict[str, Any]:
        """Plain data: dicts in the order of the fields, lists, numbers and texts."""
        return _fields_to_json(self)

    @classmethod
    def from_json(cls, data: Any, where: str = "") -> Self:
        """The record in plain data; `where` is what messages call it. Raises RecordError naming
        the field that is missing or of a wrong type."""
        return _record(cls, data, where)


def to_json(value: Any) -> Any:
    """Plain data of a record, of a tuple, list or dict of records, or of what is plain already."""
    if hasattr(value, "to_json"):
        return value.to_json()
    if is_dataclass(value):
        return _fields_to_json(value)
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    return value


def _fields_to_json(record):
    data: dict[str, Any] = {}
    for item in fields(record):
        value = getattr(record, item.name)
        if item.metadata.get("flat"):
            data |= to_json(value)
        elif value is not None or not item.metadata.get("optional"):
            data[item.name] = to_json(value)
    return data


def from_json(kind: Any, data: Any, where: str) -> Any:
    """The value of the type `kind` in plain data. Raises RecordError, which calls it `where`."""
    if kind is Any:
        return data
    if kind in _SCALARS:
        text, types = _SCALARS[kind]
        # True is an integer in Python, and not in JSON.
        if not isinstance(data, types) or (isinstance(data, bool) and kind is not bool):
            raise _wrong(where, text, data)
        return data
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        kinds = [item for item in inner if item is not NoneType]
        assert len(kinds) == 1 and len(inner) == 2, f"{where}: no field is {kind}"
        return None if data is None else from_json(kinds[0], data, where)
    if origin is Literal:
        if data not in inner:
            raise _wrong(where, f"one of {', '.join(map(repr, inner))}", data)
        return data
    if origin is dict:
        return {name: from_json(inner[1], item, f"{where}.{name}")
                for name, item in _object(data, where).items()}
    if origin is tuple and inner[-1] is Ellipsis:
        return tuple(from_json(inner[0], item, f"{where}[{n}]")
                     for n, item in enumerate(_list(data, where)))
    if origin is tuple:
        return tuple(from_json(item, part, f"{where}[{n}]") for n, (item, part) in enumerate(
            zip(inner, _list(data, where, len(inner)), strict=True)))
    if hasattr(kind, "from_json"):
        return kind.from_json(data, where)
    if is_dataclass(kind):
        return _record(kind, data, where)
    assert issubclass(kind, tuple) and hasattr(kind, "_fields"), f"{where}: no field is {kind}"
    hints = _hints(kind)
    parts = _list(data, where, len(hints))
    return kind(*(from_json(hint, part, f"{where}[{n}]")
                  for n, (hint, part) in enumerate(zip(hints.values(), parts, strict=True))))


_hints = cache(get_type_hints)


def _record(kind, data, where):
    values, hints = {}, _hints(kind)
    for item in fields(kind):
        own = f"{where}.{item.name}" if where else item.name
        if item.metadata.get("flat"):
            values[item.name] = from_json(hints[item.name], data, where)
        elif item.name in _object(data, where):
            values[item.name] = from_json(hints[item.name], data[item.name], own)
        elif not item.metadata.get("optional"):
            raise RecordError(f"{own} is missing")
        else:
            assert item.default is not MISSING, f"{own} is optional and has no default"
    return kind(**values)


def _object(data, where):
    if not isinstance(data, dict):
        raise _wrong(where, "an object", data)
    return data


def _list(data, where, length=None):
    if not isinstance(data, list) or (length is not None and len(data) != length):
        raise _wrong(where, "a list" if length is None else f"a list of {length}", data)
    return data


def _wrong(where, what, data):
    """Data that has another type than it must, in a word or two."""
    return RecordError(f"{where or 'the data'} must be {what}, not {reprlib.repr(data)}")
