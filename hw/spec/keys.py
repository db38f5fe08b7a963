"""The keys of a chip file: what each of them holds, how a file writes it, and what it means.

A field of `Arch` carries its key in its metadata, see `key`; `keys_of` gives the rows.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields
from typing import Any

from systolith.hw.formats import parse

from .rules import ArchError

__all__ = ["Choice", "Key", "Kind", "Megahertz", "Name", "Number", "Several", "Switch", "Whole",
           "key", "keys_of", "quoted", "shown"]


def quoted(names: Iterable[object]) -> str:
    """Names in double quotes, numbers as they are, between commas."""
    return ", ".join(f'"{name}"' if isinstance(name, str) else str(name) for name in names)


def shown(value: object) -> str:
    """A value of a TOML file as messages show it."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)


class Kind(ABC):
    """What values a key takes, in the file and in `Arch`."""

    @abstractmethod
    def check(self, value: object) -> None:
        """Raise ValueError, which says what is allowed, for what a field of `Arch` cannot be."""

    def read(self, value: object) -> object:
        """The field's value for `value` from the file. Raises ValueError: what is allowed."""
        self.check(value)
        return value

    def show(self, value: object) -> str:
        """A value of the field of `Arch`, as TOML."""
        escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'


@dataclass(frozen=True)
class Whole(Kind):
    """Whole numbers from `low` to `high`; the text `none` stands for None, if there is one."""
    low: int
    high: int
    none: str | None = None

    def check(self, value: object) -> None:
        if value is None and self.none is not None:
            return
        if isinstance(value, bool) or not isinstance(value, int) or not (
                self.low <= value <= self.high):
            allowed = f"\"{self.none}\" or a whole number" if self.none else "a whole number"
            raise ValueError(f"must be {allowed} from {self.low} to {self.high}, "
                             f"not {shown(value)}")

    def read(self, value: object) -> object:
        return super().read(None if self.none is not None and value == self.none else value)

    def show(self, value: object) -> str:
        return f'"{self.none}"' if value is None else str(value)


@dataclass(frozen=True)
class Several(Kind):
    """Up to `most` whole numbers from `low` to `high`, each once unless it `repeats`: a list in the
    file, a tuple in `Arch`."""
    low: int
    high: int
    most: int
    repeats: bool = False

    def check(self, value: object) -> None:
        if not isinstance(value, tuple) or (
                len(set(value)) < len(value) and not self.repeats) or (
                len(value) > self.most) or any(
                isinstance(item, bool) or not isinstance(item, int)
                or not self.low <= item <= self.high for item in value):
            raise ValueError(f"must be a list of up to {self.most} whole numbers from {self.low} "
                             f"to {self.high}{'' if self.repeats else ', each once'}, not "
                             f"{self._shown(value)}")

    def read(self, value: object) -> object:
        return super().read(tuple(value) if isinstance(value, list) else value)

    def show(self, value: object) -> str:
        assert isinstance(value, tuple)
        return str(list(value))

    @staticmethod
    def _shown(value):
        return str(list(value)) if isinstance(value, tuple) else shown(value)


@dataclass(frozen=True)
class Megahertz(Kind):
    """Numbers of MHz greater than 0; the text "auto" stands for None."""

    def check(self, value: object) -> None:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)
                                  or not 0 < value < math.inf):
            raise ValueError("must be \"auto\" or a number of MHz greater than 0, not "
                             f"{shown(value)}")

    def read(self, value: object) -> object:
        if value == "auto":
            return None
        self.check(value)
        assert isinstance(value, int | float)
        return float(value)

    def show(self, value: object) -> str:
        if value is None:
            return '"auto"'
        assert isinstance(value, int | float)
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)


@dataclass(frozen=True)
class Switch(Kind):
    """true or false."""

    def check(self, value: object) -> None:
        if not isinstance(value, bool):
            raise ValueError(f"must be true or false, not {shown(value)}")

    def show(self, value: object) -> str:
        return "true" if value else "false"


@dataclass(frozen=True)
class Choice(Kind):
    """One of some names or numbers."""
    values: tuple[Any, ...]

    def check(self, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, type(self.values[0])) or (
                value not in self.values):
            raise ValueError(f"must be one of {quoted(self.values)}, not {shown(value)}")

    def show(self, value: object) -> str:
        return super().show(value) if isinstance(value, str) else str(value)


@dataclass(frozen=True)
class Name(Kind):
    """Texts that can be part of a file's name."""

    def check(self, value: object) -> None:
        if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][\w .+-]*", value):
            raise ValueError("must be a text of letters, digits and ._+- that begins with a "
                             f"letter or digit, not {shown(value)}")


@dataclass(frozen=True)
class Number(Kind):
    """Number formats, in the file their names; `shifted`: an unsigned integer format stands for the
    signed one on which its codes run, shifted by half their range."""
    shifted: bool = False

    def check(self, value: object) -> None:
        """`Arch` parses what it is given, and has nothing but formats."""

    def read(self, value: object) -> object:
        if not isinstance(value, str):
            raise ValueError("must be the name of a number format such as \"int8\", not "
                             f"{shown(value)}")
        try:
            form = parse(value)
        except ValueError as error:
            raise ValueError(f"must be the name of a number format: {error}") from None
        return form.chip_format if self.shifted else form


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key of a chip file.

    Attributes
    ----------
    field : str
        The field of `Arch` that it sets.
    path : str
        "section.name", or the name alone at the top of the file.
    kind : Kind
        Its values. Contradictions with other fields are those of `systolith.hw.spec.rules`.
    doc : str
        What it means, for users.
    programs : bool
        Whether programs depend on it; else only the circuit or reports do.
    initial : object
        The field's default; MISSING where a chip must state it.
    """
    field: str
    path: str
    kind: Kind
    doc: str
    programs: bool
    initial: Any

    @property
    def section(self) -> str:
        return self.path.rpartition(".")[0]

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]

    @property
    def required(self) -> bool:
        return self.initial is MISSING

    @property
    def default(self) -> str | None:
        """The default as it would stand in the file; None where there is none."""
        return None if self.required else self.kind.show(self.initial)

    @property
    def optional(self) -> bool:
        """Whether it adds a part that chips do not have by default: a switch, or its sizes."""
        return isinstance(self.kind, Switch | Whole | Several) and self.initial in (False, 0, ())

    @property
    def high(self) -> int:
        """The largest number, of a key that holds whole numbers."""
        assert isinstance(self.kind, Whole)
        return self.kind.high

    def check(self, arch: object) -> None:
        """Raise ArchError where the field of a chip has a value that the key does not take."""
        try:
            self.kind.check(getattr(arch, self.field))
        except ValueError as error:
            raise ArchError(self.field, str(error)) from None


def key(path: str, kind: Kind, doc: str, *, programs: bool = True) -> dict[str, Any]:
    """The metadata of a field of `Arch`; see `Key` for the parameters."""
    return {"path": path, "kind": kind, "doc": doc, "programs": programs}


def keys_of(owner: Any) -> dict[str, Key]:
    """{field: its key} of a dataclass, in the order of its fields."""
    return {item.name: Key(field=item.name, initial=item.default, **item.metadata)
            for item in fields(owner)}
