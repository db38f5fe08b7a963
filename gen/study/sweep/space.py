"""Spaces of chips: groups, each with its axes, and the points that they have.

`space_file.read_space` reads them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path

from systolith.gen.chip.toml import chip_from_dict
from systolith.gen.kit.errors import UserError
from systolith.hw.board.boards import BOARDS
from systolith.hw.spec.arch import Arch

from .net import Net
from .point import Placing, Point
from .values import Expression

__all__ = ["METHODS", "Axis", "Group", "Search", "Space"]

#: How points are chosen.
METHODS = ("grid", "random", "nsga2", "tpe")


@dataclass(frozen=True)
class Search:
    """How points are chosen: one of METHODS, at most so many `evaluations` (None: all), from a
    `seed`."""
    method: str = "grid"
    evaluations: int | None = None
    seed: int = 1


@dataclass(frozen=True)
class Axis:
    """What varies together: its keys, as a text, and for each choice {key: value}."""
    name: str
    choices: list


@dataclass(frozen=True)
class Group:
    """A group of a space: all combinations of its axes that its conditions allow."""
    name: str
    base: dict
    networks: tuple[Net, ...]
    axes: list[Axis]
    conditions: list[Expression]
    target: str
    dsp: bool | str
    part: str | None
    method: str
    placing: Placing

    @property
    def size(self) -> int:
        """Combinations, conditions left aside."""
        return prod(len(axis.choices) for axis in self.axes)

    def point(self, number: int) -> Point | None:
        """The combination of this number, from 0 up, the last axis the fastest; None where a
        condition forbids it."""
        settings: dict = {}
        for axis in reversed(self.axes):
            number, place = divmod(number, len(axis.choices))
            settings = axis.choices[place] | settings
        values = self.base | settings
        if not all(condition(values) for condition in self.conditions):
            return None
        try:
            arch, problem = _changed(values), ""
        except UserError as error:
            arch, problem = None, str(error).removeprefix("sweep: ")
        return Point(self.name, settings, arch, problem, self.networks, self.target, self.dsp,
                     self.part or _board_part(arch, self.target), self.method, self.placing)


@dataclass(frozen=True)
class Space:
    """A space: its groups, and what is wanted of a point. `path` names the file, `energy` that of
    its table of energies; None: the default."""
    path: Path
    groups: list[Group]
    objectives: list[str]
    constraints: list[Expression]
    search: Search = field(default_factory=Search)
    energy: Path | None = None

    @property
    def size(self) -> int:
        """Combinations of all groups, conditions left aside."""
        return sum(group.size for group in self.groups)

    def __iter__(self) -> Iterator[Point]:
        """All points."""
        for group in self.groups:
            for number in range(group.size):
                point = group.point(number)
                if point is not None:
                    yield point

    @cached_property
    def points(self) -> list[Point]:
        """All points, as a list."""
        return list(self)

    def point(self, number: int) -> Point | None:
        """The combination of this number among those of all groups; None where a condition
        forbids it."""
        for group in self.groups:
            if number < group.size:
                return group.point(number)
            number -= group.size
        raise IndexError(number)


def _changed(values: dict) -> Arch:
    """The chip of key to value."""
    tables: dict = {}
    for path, value in (values | {"name": "sweep"}).items():
        section, _, key = path.rpartition(".")
        (tables.setdefault(section, {}) if section else tables)[key] = value
    return chip_from_dict(tables, "sweep")


def _board_part(arch, target):
    """The name of the part of a chip's board, where the sweep is for parts of its kind."""
    board = BOARDS.get(arch.board) if arch else None
    return board.part.name if board and board.part.target == target else None
