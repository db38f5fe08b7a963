"""Where a netlist's blocks of RAM and multipliers stand on an ECP5, chosen before nextpnr places.

They have few sites, in rows far from each other. nextpnr's placer "static" brings them there after
it has spread all cells, each to some free site near it, and the logic has to follow: most of the
wires of a core are then those to its blocks. Here all cells are placed roughly first, each of them
where its wires pull it, again and again, while blocks are drawn to sites of their own with a
growing force (a quadratic placement, see Kim, Lee and Markov, "SimPL", ICCAD 2010; wires by the
bound-to-bound model of Spindler, Schlichtmann and Johannes, "Kraftwerk2", TCAD 2008). Of the
result, nextpnr is told the sites of the blocks alone: it places the logic around them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import cg

__all__ = ["logic_tiles", "place_blocks", "sites"]

_Numbers = NDArray[np.float64]
_Indices = NDArray[np.intp]

#: By the number in a part's name: rows of RAM, rows of multipliers, and the columns at which groups
#: of four of either begin, as in Project Trellis' tile grids.
_GRIDS = {
    "12": ((25, 37), (13,), (4, 13, 22, 33, 42, 51, 60)),
    "25": ((25, 37), (13,), (4, 13, 22, 33, 42, 51, 60)),
    "45": ((10, 34, 58), (22, 46), (4, 13, 22, 31, 42, 51, 60, 69, 78)),
    "85": ((22, 46, 70, 82), (10, 34, 58),
           (4, 13, 22, 31, 40, 49, 58, 69, 78, 87, 96, 105, 114)),
}
#: By the same number, the last column and row of tiles of logic; the first ones are 2.
_LAST = {"12": (70, 48), "25": (70, 48), "45": (88, 69), "85": (124, 93)}
#: Of a group: the columns from its first one, and the names. Of four multipliers one stays free:
#: a group has four enables, and each of an array's elements has one of its own.
_RAMS = ((0, "EBR0"), (2, "EBR1"), (4, "EBR2"), (6, "EBR3"))
_MULTIPLIERS = ((0, "MULT18_0"), (1, "MULT18_1"), (4, "MULT18_4"))
#: Enables, and resets, of a group of multipliers.
_CONTROLS = 4
#: Wires with more ends than this say nothing of where a block should be.
_MOST_ENDS = 600
#: Rounds, and those of them in which blocks are spread by their order alone.
_ROUNDS, _SPREADING = 44, 12
#: The force towards a block's site, in parts of that of its wires: in the first round, and by how
#: much it grows in each.
_FORCE, _GROWTH = 0.02, 1.13
#: Steps towards each solution, which begins with the one before.
_STEPS = 40
#: A wire that is longer than this (in tiles) pulls more than in proportion, as the clock is bound
#: by the longest ones; the exponent of that.
_LONG, _POWER = 10.0, 0.5


@dataclass(frozen=True)
class _Kind:
    """Blocks of a kind: which cells they are, and the sites' coordinates and names."""
    cells: _Indices
    places: _Numbers
    names: list[str]


def sites(part: str) -> dict[str, list[tuple[int, int, str]]]:
    """The sites (x, y, name) of an ECP5 for each type of cell that is placed here; none for other
    parts. Of four multipliers beside each other there are three."""
    size = part.removesuffix("F").rpartition("-")[2]
    if not part.startswith("LFE5U") or size not in _GRIDS:
        return {}
    rams, multipliers, columns = _GRIDS[size]
    return {kind: [(column + by, row, f"X{column + by}/Y{row}/{name}")
                   for row in rows for column in columns for by, name in group]
            for kind, rows, group in (("DP16KD", rams, _RAMS),
                                      ("MULT18X18D", multipliers, _MULTIPLIERS))}


def logic_tiles(part: str) -> list[tuple[int, int]]:
    """(x, y) of each tile of LUTs and flip-flops of an ECP5; none for other parts."""
    size = part.removesuffix("F").rpartition("-")[2]
    if not part.startswith("LFE5U") or size not in _LAST:
        return []
    rams, multipliers, _ = _GRIDS[size]
    last_x, last_y = _LAST[size]
    return [(x, y) for x in range(2, last_x + 1) for y in range(2, last_y + 1)
            if y not in rams and y not in multipliers]


def place_blocks(module: dict[str, Any], part: str) -> int:
    """Give blocks of RAM and multipliers their sites on a part, as their attribute BEL; how many
    blocks have one then.

    `module` is a flat module of Yosys' JSON, as mapped for the ECP5, and is changed. Kinds of which
    there are more than sites, or of which one has a site already, are left to nextpnr, and so are
    multipliers beside each other that have more enables or resets together than their group has.
    """
    cells = [cell for cell in module["cells"].values() if cell["type"] != "$scopeinfo"]
    kinds = []
    for name, places in sites(part).items():
        mine = np.array([n for n, cell in enumerate(cells) if cell["type"] == name], dtype=np.intp)
        if 0 < len(mine) <= len(places) and not any(
                "BEL" in cells[n].get("attributes", {}) for n in mine) and not (
                name == "MULT18X18D" and any(cell["type"] == "ALU54B" for cell in cells)):
            kinds.append(_Kind(mine, np.array([place[:2] for place in places], dtype=float),
                               [place[2] for place in places]))
    wires = _Wires(cells)
    if not kinds or not len(wires.pins):
        return 0
    placed = 0
    for kind, chosen in zip(kinds, _Placement(wires, kinds).run(), strict=True):
        groups: dict[tuple[int, int], list[tuple[dict[str, Any], str]]] = {}
        for number, site in zip(kind.cells, chosen, strict=True):
            column, row = kind.places[site]
            group = max(first for first in _columns(part) if first <= column), int(row)
            groups.setdefault(group, []).append((cells[number], kind.names[site]))
        for some in groups.values():
            if all(len(_controls([cell for cell, _ in some], pin)) <= _CONTROLS
                   for pin in ("CE", "RST") if some[0][0]["type"] == "MULT18X18D"):
                placed += len(some)
                for cell, name in some:
                    cell.setdefault("attributes", {})["BEL"] = name
    return placed


def _columns(part):
    """The columns at which groups of a part begin."""
    return _GRIDS[part.removesuffix("F").rpartition("-")[2]][2]


def _controls(cells, pin):
    """What drives the enables or the resets of some cells."""
    return {bit for cell in cells for name, bits in cell["connections"].items()
            if name.rstrip("0123") == pin for bit in bits}


class _Wires:
    """The wires between cells: `pins`, cells in the order of their wires, `first` pin of each wire,
    and of each pin the wire, `owner`. Clocks and constants are left out."""

    def __init__(self, cells):
        ends: dict[int, set[int]] = {}
        for number, cell in enumerate(cells):
            for pin, bits in cell["connections"].items():
                if not pin.startswith("CLK") and pin != "WCK":
                    for bit in bits:
                        if not isinstance(bit, str):
                            ends.setdefault(bit, set()).add(number)
        wires = [sorted(some) for some in ends.values() if 2 <= len(some) <= _MOST_ENDS]
        self.cells = len(cells)
        self.ends = np.array([len(wire) for wire in wires], dtype=np.intp)
        self.pins: _Indices = np.array([cell for wire in wires for cell in wire], dtype=np.intp)
        self.first = np.cumsum(self.ends) - self.ends
        self.owner = np.repeat(np.arange(len(wires)), self.ends)

    def length(self, *axes: _Numbers) -> float:
        """The sum of all wires' extents."""
        return float(sum((np.maximum.reduceat(axis[self.pins], self.first)
                          - np.minimum.reduceat(axis[self.pins], self.first)).sum()
                         for axis in axes))

    def springs(self, axis: _Numbers) -> tuple[_Indices, _Indices, _Numbers]:
        """Pairs of cells and the force between them for each unit of distance: of the cells at a
        wire's two ends with each other and with all others of it."""
        order = np.lexsort((axis[self.pins], self.owner))
        pins = self.pins[order]
        low, high = pins[self.first], pins[self.first + self.ends - 1]
        extent = axis[high] - axis[low]
        wire = 2.0 / (self.ends - 1) * np.maximum(extent / _LONG, 0.1) ** _POWER
        some = []
        for bound, other in ((low[self.owner], None), (high[self.owner], low[self.owner])):
            real = pins != bound
            if other is not None:               # the two ends pull each other once
                real &= pins != other
            one, two = pins[real], bound[real]
            some.append((one, two, wire[self.owner][real] / np.maximum(
                np.abs(axis[one] - axis[two]), 1.0)))
        ones, twos, forces = (np.concatenate(part) for part in zip(*some, strict=True))
        return ones, twos, forces


class _Placement:
    """Coordinates of all cells, and a site for each block."""

    def __init__(self, wires: _Wires, kinds: list[_Kind]) -> None:
        self.wires, self.kinds = wires, kinds
        generator = np.random.default_rng(1)
        places = np.concatenate([kind.places for kind in kinds])
        self.middle = places.mean(axis=0)
        self.spread = places.std(axis=0) * 0.7
        self.axes = [generator.normal(middle, 3.0, wires.cells) for middle in self.middle]
        self.chosen: list[_Indices] = [
            generator.permutation(len(kind.places))[:len(kind.cells)] for kind in kinds]

    def run(self) -> list[_Indices]:
        """The sites of each kind's blocks, those with the shortest wires."""
        force, best = _FORCE, None
        for number in range(_ROUNDS):
            for _ in range(2 if number < _SPREADING else 1):
                self.axes = [self._settled(axis, force) for axis in range(2)]
            self.chosen = [self._assigned(kind, max(0.0, 1 - number / _SPREADING))
                           for kind in self.kinds]
            force *= _GROWTH
            if number % 4 == 3 and number > _ROUNDS // 2:
                length = self._length()
                if best is None or length < best[0]:
                    best = length, self.chosen
        assert best is not None
        return best[1]

    def _length(self):
        """The length of all wires, with blocks on their sites and the logic around them."""
        before = list(self.axes)
        for _ in range(2):
            self.axes = [self._settled(axis, 1e4) for axis in range(2)]
        found, self.axes = self.wires.length(*self.axes), before
        return found

    def _settled(self, axis, force):
        """One coordinate of all cells where the forces on each are zero: those of wires, as long as
        they were, and on blocks one towards their sites."""
        value = self.axes[axis]
        ones, twos, forces = self.wires.springs(value)
        cells = self.wires.cells
        own = np.bincount(ones, forces, cells) + np.bincount(twos, forces, cells)
        extra = np.full(cells, 1e-4)
        pull = extra * self.middle[axis]
        for kind, chosen in zip(self.kinds, self.chosen, strict=True):
            towards = own[kind.cells] * force
            extra[kind.cells] += towards
            pull[kind.cells] += towards * kind.places[chosen, axis]
        own += extra
        every = np.arange(cells)
        matrix = csr_array((np.concatenate([own, -forces, -forces]),
                            (np.concatenate([every, ones, twos]),
                             np.concatenate([every, twos, ones]))), shape=(cells, cells))
        return cg(matrix, pull, value, rtol=1e-4, maxiter=_STEPS, M=diags_array(1 / own))[0]

    def _assigned(self, kind, spread):
        """A site for each block: together the nearest ones. `spread`: how much the blocks' order
        alone counts, 1 to 0."""
        here = np.stack([self.axes[axis][kind.cells] for axis in range(2)], axis=1)
        middle, wide = here.mean(axis=0), np.maximum(here.std(axis=0), 1e-3)
        here = (1 - spread) * here + spread * (middle + (here - middle) / wide * self.spread)
        apart = np.abs(here[:, None, :] - kind.places[None, :, :]).sum(axis=2)
        return linear_sum_assignment(apart ** 1.5)[1]
