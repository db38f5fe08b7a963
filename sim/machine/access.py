"""Which words every instruction reads and writes, computed from its fields.

The token pass, the race checker and the bounds check all read `accesses`; the chip itself never
does. Words are counted in intervals: (N, 2) integer arrays of half-open ranges, ascending,
disjoint and merged.

Most instructions of a layer differ only in where they read and write. So the words are a
`Pattern`, counted from a base address: it is computed once for all instructions of one shape.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import Destination, Opcode, Pooling
from systolith.hw.spec.legality import fault, transfers
from systolith.hw.spec.loops import (
    axes,
    chunk_count,
    extent,
    loops,
    pass_words,
    passes,
    results,
    window_columns,
)
from systolith.hw.spec.memories import MEMORIES, Space
from systolith.hw.spec.narrow import pool_of, width_of
from systolith.hw.spec.program import Program
from systolith.hw.spec.timing import code_unit

__all__ = ["Access", "AccessError", "Pattern", "accesses", "check", "check_program", "merge",
           "overlap", "span_of", "words"]


class AccessError(ValueError):
    """An instruction that reaches outside a memory, or that no chip of this shape can execute."""


class Pattern:
    """A set of words, counted from a base: `intervals`, and the first (`low`) and the last word + 1
    (`high`); both are 0 where there is none."""

    def __init__(self, intervals: np.ndarray):
        self.intervals = intervals
        self.intervals.setflags(write=False)    # shared by all who ask for it
        self.low, self.high = ((int(intervals[0, 0]), int(intervals[-1, 1]))
                               if len(intervals) else (0, 0))

    @cached_property
    def words(self) -> np.ndarray:
        """The numbers of all words, ascending."""
        found = words(self.intervals)
        found.setflags(write=False)
        return found


@dataclass(eq=False)
class Access:
    """Words of one space that an instruction reads, or that it writes: a pattern from `base` on."""
    __slots__ = ("_index", "_range", "base", "is_write", "pattern", "space")

    space: Space
    pattern: Pattern
    base: int
    is_write: bool

    def __post_init__(self):
        self._range = None

    @property
    def intervals(self) -> np.ndarray:
        """All words, as intervals."""
        return self.pattern.intervals + self.base

    @property
    def low(self) -> int:
        """The first word."""
        return self.pattern.low + self.base

    @property
    def high(self) -> int:
        """The word after the last one; `low` where there are no words."""
        return self.pattern.high + self.base

    def index(self, start: int = 0, stop: int | None = None) -> slice | np.ndarray:
        """What selects its words from an array that holds something for each word from `start` to
        before `stop`; others are left out."""
        if self._range != (start, stop):        # asked for several times with the same
            self._range, self._index = (start, stop), self._find(start, stop)
        return self._index

    def _find(self, start, stop):
        low, high = self.low - start, self.high - start
        room = (high if stop is None else stop - start)
        if len(self.pattern.intervals) <= 1:
            return slice(max(low, 0), max(min(high, room), 0))
        index = self.pattern.words + (self.base - start)
        return index if low >= 0 and high <= room else index[(index >= 0) & (index < room)]


def merge(starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """The union of half-open ranges (any shapes that broadcast) as intervals; empty ones vanish."""
    starts, stops = (part.ravel() for part in np.broadcast_arrays(starts, stops))
    order = np.argsort(starts, kind="stable")
    order = order[(stops > starts)[order]]
    starts, stops = starts[order].astype(np.int64), stops[order].astype(np.int64)
    if not starts.size:
        return np.zeros((0, 2), np.int64)
    reach = np.maximum.accumulate(stops)
    first = np.flatnonzero(np.concatenate(([True], starts[1:] > reach[:-1])))
    last = np.concatenate((first[1:], [starts.size])) - 1
    return np.stack((starts[first], reach[last]), axis=1)


def overlap(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two sets of intervals share a word."""
    if not len(one) or not len(other):
        return False
    after = np.searchsorted(other[:, 1], one[:, 0], side="right")
    inside = after < len(other)
    return bool((other[after[inside], 0] < one[inside, 1]).any())


def words(intervals: np.ndarray) -> np.ndarray:
    """The numbers of all words in the intervals, ascending."""
    lengths = intervals[:, 1] - intervals[:, 0]
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if ends.size else 0) + np.repeat(
        intervals[:, 0] - ends + lengths, lengths)


#: Patterns of a program's layers that are remembered, of each kind.
_PATTERNS = 1 << 12


@lru_cache(_PATTERNS)
def _one(words: int) -> Pattern:
    return Pattern(np.array([[0, words]]))


@lru_cache(_PATTERNS)
def _grid(words: int, *nest: tuple[int, int]) -> Pattern:
    """`words` words from every sum of multiples of the strides on, for (count, stride) of each
    loop."""
    starts = loops(0, *nest)
    return Pattern(merge(starts, starts + words))


@lru_cache(_PATTERNS)
def _beats(offset: int, size: int, beat: int, *nest: tuple[int, int]) -> Pattern:
    """Beats of `beat` bytes that transfers of `size` bytes touch; the first transfer begins
    `offset` bytes after the beginning of beat 0."""
    starts = loops(offset, *nest)
    return Pattern(merge(starts // beat, -(-(starts + size) // beat)))


def _external(i, arch, is_write):
    beat = arch.beat_bytes
    nest, size = transfers(i, arch)
    return Access(Space.EXTERNAL, _beats(i.address % beat, size, beat, *nest), i.address // beat,
                  is_write)


@lru_cache(_PATTERNS)
def _line(start: int, last: int, replicate: int, *nest: tuple[int, int]) -> np.ndarray:
    """Positions along one axis from 0 to `last` that an ARRAY reads, ascending."""
    at = loops(start, *nest)
    return np.unique(np.clip(at, 0, last) if replicate else at[(at >= 0) & (at <= last)])


@lru_cache(_PATTERNS)
def _map(blocks: tuple[int, int], rows: tuple, columns: tuple) -> Pattern:
    """Activation words of an ARRAY, from its base on. `blocks` is (count, stride), `rows` and
    `columns` are what `_line` takes."""
    y, x = _line(*rows), _line(*columns)
    runs = merge(x, x + 1)
    planes = np.add.outer(loops(0, blocks), y)[..., None]
    return Pattern(merge(planes + runs[:, 0], planes + runs[:, 1]))


@lru_cache(_PATTERNS)
def _windows(out: tuple[int, int], pool: tuple[int, int], jump: int, turn: int, row: int,
             pooling: int) -> Pattern:
    """Accumulator words of a POST, from its first one on; `out` and `pool` are (y, x)."""
    if pool[0] == 1 and not jump and not turn:
        return Pattern(np.array([[0, out[0] * (out[1] * pool[1] + (pooling == Pooling.LEAD))]]))
    columns, next_row = window_columns(out[1], pool[1], jump, turn, pooling)
    runs = merge(columns, columns + 1)
    rows = loops(0, (out[0], next_row), (pool[0], row))[..., None]
    return Pattern(merge(rows + runs[:, 0], rows + runs[:, 1]))


@lru_cache(_PATTERNS)
def _looked_up(low: int, high: int, depth: int) -> Pattern:
    addresses = np.arange(low, high + 1) % depth
    return Pattern(merge(addresses, addresses + 1))


def accesses(instruction: Instruction, arch: Arch) -> list[Access]:
    """All words that one instruction reads and writes, as a list of Access.

    An ARRAY that starts new sums does not read the accumulators; padding is not read. A POST to
    the store unit writes nothing itself. Writing some groups of an activation word, or some bytes
    of a beat, counts as writing it. BEGIN and END touch nothing.
    """
    i, opcode = instruction, instruction.opcode
    if opcode == Opcode.LOAD:
        return [_external(i, arch, False),
                Access(Space(i.memory), _grid(i.words, (i.rows, i.base_stride)), i.base, True)]
    if opcode == Opcode.ARRAY:
        y, x = axes(i)
        read = _map((i.blocks, i.stride_block), (i.y_start, i.y_last, i.replicate, *y),
                    (i.x_start, i.x_last, i.replicate, *x))
        sums = _one(results(i))
        found = [Access(Space.WEIGHT, _one(passes(i) * pass_words(i, arch)), i.weight_base, False),
                 Access(Space.ACTIVATION, read, i.base, False),
                 Access(Space.ACCUMULATOR, sums, i.accumulator, True)]
        pool = pool_of(i.narrow, arch)
        if pool is not None:
            found.append(Access(Space.POOL, _one(1 << width_of(i.narrow, arch)), pool, False))
        return found + [Access(Space.ACCUMULATOR, sums, i.accumulator, False)] * i.accumulate
    if opcode == Opcode.POST:
        read = _windows((i.out_y, i.out_x), (i.pool_y, i.pool_x), i.jump, i.turn, i.row, i.pooling)
        found = [Access(Space.ACCUMULATOR, read, i.accumulator, False),
                 Access(Space.PARAMETER, _one(chunk_count(i, arch)), i.parameters, False)]
        depth = MEMORIES[Space.TABLE].depth(arch)
        if i.table and depth:
            found.append(Access(Space.TABLE, _looked_up(i.low, i.high, depth), 0, False))
        places = _grid(1, (i.out_y, i.stride_y), (i.out_x, i.stride_x))
        if i.operand:
            found.append(Access(Space.OPERAND, _one(1) if i.broadcast else places, i.operand_base,
                                False))
        for space, first, chosen in (
                (Space.OPERAND, i.copy_base, (Destination.OPERAND, Destination.BOTH)),
                (Space.ACTIVATION, i.base, (Destination.ACTIVATION, Destination.BOTH))):
            if i.destination in chosen:
                found.append(Access(space, places, first, True))
        return found
    if opcode == Opcode.STORE:
        return [_external(i, arch, True)]
    return []


def span_of(space: Space, arch: Arch, used: Sequence[list[Access]]) -> tuple[int, int]:
    """(first word, last word + 1) of those in which instructions can conflict, `used` being
    `accesses` of all: a memory of the chip as a whole, of external memory what is written."""
    depth = space.depth(arch)
    if depth is not None:
        return 0, depth
    written = [access for mine in used for access in mine
               if access.space == space and access.is_write]
    return (min((access.low for access in written), default=0),
            max((access.high for access in written), default=0))


def _require(condition, instruction, text):
    if not condition:
        raise AccessError(f"{text}: {instruction}")


def check(instruction: Instruction, arch: Arch, window_bytes: int | None = None,
          used: list[Access] | None = None) -> None:
    """Refuse an instruction that this chip cannot execute as its fields say.

    Raises ValueError where a field is out of its range, and AccessError where
    `systolith.hw.spec.legality` finds a fault, or where it reaches outside a memory of the chip or
    outside the window, or would overwrite its own operands. `used` is what `accesses` says, where
    known.
    """
    i = instruction
    i.check_ranges()
    if text := fault(i, arch):
        raise AccessError(f"{text}: {i}")
    if i.opcode in (Opcode.LOAD, Opcode.STORE):
        nest, size = transfers(i, arch)
        last, end = extent(i.address, *nest)[1] + size, window_bytes or 1 << arch.address_bits
        _require(last <= end, i, f"reaches byte {last} of a window of {end} bytes")
    used = used or accesses(i, arch)
    for access in used:
        depth = access.space.depth(arch)
        if depth is not None and access.low < access.high and (
                access.low < 0 or access.high > depth):
            raise AccessError(
                f"{'writes' if access.is_write else 'reads'} {access.space.name.lower()} words "
                f"{access.low} to {access.high - 1}; the chip has {depth}: {i}")
    mine = [access.intervals for access in used if access.space == Space.OPERAND]
    _require(len(mine) < 2 or not overlap(*mine), i,
             "the operand words that it reads and those that it writes must not overlap")


def check_program(program: Program) -> None:
    """`check` for every instruction of a Program, and what only the whole of it shows.

    Raises AccessError also where BEGIN is not the first or END not the last instruction, where
    the code does not lie in the window as fetching needs it, and where a STORE would overwrite it.
    """
    arch, code = program.arch, program.instructions
    if not code or code[0].opcode != Opcode.BEGIN or code[-1].opcode != Opcode.END or any(
            i.opcode in (Opcode.BEGIN, Opcode.END) for i in code[1:-1]):
        raise AccessError("a program starts with its only BEGIN and ends with its only END")
    start, end = program.code_offset, program.code_offset + len(code) * arch.instruction_bytes
    if start % code_unit(arch) or end > program.window_bytes:
        raise AccessError(f"the code must start at a multiple of {code_unit(arch)} bytes and lie "
                          f"in the window, not in bytes {start} to {end}")
    if program.window_bytes > 1 << arch.address_bits:
        raise AccessError(f"the window has {program.window_bytes} bytes, the chip addresses "
                          f"{1 << arch.address_bits}")
    text = np.array([[start // arch.beat_bytes, -(-end // arch.beat_bytes)]])
    for i in code:
        check(i, arch, program.window_bytes)
        if i.opcode == Opcode.STORE:
            _require(not overlap(accesses(i, arch)[0].intervals, text), i,
                     "overwrites the program's code")
