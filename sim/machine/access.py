"""Which words every instruction reads and writes, computed from its fields.

The token pass, the race checker and the bounds check all read `accesses`; the chip itself never
does. Words are counted in intervals: (N, 2) integer arrays of half-open ranges, ascending,
disjoint and merged.
"""

from dataclasses import dataclass

import numpy as np
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import INSTRUCTION_BYTES, Destination, Instruction, Opcode, Pooling
from systolith.hw.spec.legality import fault, transfers
from systolith.hw.spec.loops import coordinates, loops, passes, results, window_columns
from systolith.hw.spec.memories import Space
from systolith.hw.spec.program import Program

__all__ = ["Access", "AccessError", "accesses", "check", "check_program", "merge", "overlap",
           "words"]


class AccessError(ValueError):
    """An instruction that reaches outside a memory, or that no chip of this shape can execute."""


@dataclass(frozen=True, eq=False)
class Access:
    """Words of one space that an instruction reads, or that it writes."""
    space: Space
    intervals: np.ndarray
    is_write: bool


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


def _beats(transfers, arch):
    """Beats of (first bytes, size) of transfers, as intervals."""
    starts, size = transfers
    return merge(starts // arch.beat_bytes, -(-(starts + size) // arch.beat_bytes))


def _sums_read(i):
    """Accumulator words that a POST instruction reads, as intervals."""
    if i.pool_y == 1 and not i.jump and not i.turn:
        count = i.out_y * (i.out_x * i.pool_x + (i.pooling == Pooling.LEAD))
        return np.array([[i.accumulator, i.accumulator + count]])
    columns, row = window_columns(i)
    runs = merge(columns, columns + 1)
    rows = loops(i.accumulator, (i.out_y, row), (i.pool_y, i.row))[..., None]
    return merge(rows + runs[:, 0], rows + runs[:, 1])


def accesses(instruction: Instruction, arch: Arch) -> list[Access]:
    """All words that one instruction reads and writes, as a list of Access.

    An ARRAY that starts new sums does not read the accumulators; padding is not read. A POST to
    the store unit writes nothing itself. Writing some groups of an activation word, or some bytes
    of a beat, counts as writing it. BEGIN and END touch nothing.
    """
    i, opcode = instruction, instruction.opcode
    if opcode == Opcode.LOAD:
        base = loops(i.base, (i.rows, i.base_stride))
        return [Access(Space.EXTERNAL, _beats(transfers(i, arch), arch), False),
                Access(Space(i.memory), merge(base, base + i.words), True)]
    if opcode == Opcode.ARRAY:
        y, x = coordinates(i)
        if i.replicate:
            y, x = np.clip(y, 0, i.y_last), np.clip(x, 0, i.x_last)
        y = np.unique(y[(y >= 0) & (y <= i.y_last)])
        x = np.unique(x[(x >= 0) & (x <= i.x_last)])
        runs = merge(x, x + 1)
        planes = np.add.outer(loops(i.base, (i.blocks, i.stride_block)), y)[..., None]
        sums = np.array([[i.accumulator, i.accumulator + results(i)]])
        found = [Access(Space.WEIGHT, np.array(
                    [[i.weight_base, i.weight_base + passes(i) * arch.rows]]), False),
                 Access(Space.ACTIVATION, merge(planes + runs[:, 0], planes + runs[:, 1]), False),
                 Access(Space.ACCUMULATOR, sums, True)]
        return found + [Access(Space.ACCUMULATOR, sums, False)] * i.accumulate
    if opcode == Opcode.POST:
        found = [Access(Space.ACCUMULATOR, _sums_read(i), False),
                 Access(Space.PARAMETER, np.array(
                     [[i.parameters, i.parameters + arch.chunks]]), False)]
        if i.table and arch.table_depth:
            addresses = np.arange(i.low, i.high + 1) % arch.table_depth
            found.append(Access(Space.TABLE, merge(addresses, addresses + 1), False))
        offsets = loops(0, (i.out_y, i.stride_y), (i.out_x, i.stride_x))
        if i.operand:
            base = i.operand_base + offsets * (not i.broadcast)
            found.append(Access(Space.OPERAND, merge(base, base + 1), False))
        for space, first, chosen in (
                (Space.OPERAND, i.copy_base, (Destination.OPERAND, Destination.BOTH)),
                (Space.ACTIVATION, i.base, (Destination.ACTIVATION, Destination.BOTH))):
            if i.destination in chosen:
                found.append(Access(space, merge(first + offsets, first + offsets + 1), True))
        return found
    if opcode == Opcode.STORE:
        return [Access(Space.EXTERNAL, _beats(transfers(i, arch), arch), True)]
    return []


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
    i.encode()
    if text := fault(i, arch):
        raise AccessError(f"{text}: {i}")
    if i.opcode in (Opcode.LOAD, Opcode.STORE):
        starts, size = transfers(i, arch)
        last, end = int(starts.max()) + size, window_bytes or 1 << 32
        _require(last <= end, i, f"reaches byte {last} of a window of {end} bytes")
    used = used or accesses(i, arch)
    for access in used:
        depth = access.space.depth(arch)
        if depth is not None and len(access.intervals):
            low, high = int(access.intervals[0, 0]), int(access.intervals[-1, 1])
            _require(low >= 0 and high <= depth, i,
                     f"{'writes' if access.is_write else 'reads'} {access.space.name.lower()} "
                     f"words {low} to {high - 1}; the chip has {depth}")
    mine = [access.intervals for access in used if access.space == Space.OPERAND]
    _require(len(mine) < 2 or not overlap(*mine), i,
             "the operand words that it reads and those that it writes must not overlap")


def check_program(program: Program) -> None:
    """`check` for every instruction of a Program, and what only the whole of it shows.

    Raises AccessError also where BEGIN is not the first or END not the last instruction, where
    the code does not lie in the window on a beat, and where a STORE would overwrite the code.
    """
    arch, code = program.arch, program.instructions
    if not code or code[0].opcode != Opcode.BEGIN or code[-1].opcode != Opcode.END or any(
            i.opcode in (Opcode.BEGIN, Opcode.END) for i in code[1:-1]):
        raise AccessError("a program starts with its only BEGIN and ends with its only END")
    start, end = program.code_offset, program.code_offset + len(code) * INSTRUCTION_BYTES
    if start % arch.beat_bytes or end > program.window_bytes:
        raise AccessError(f"the code must start on a beat and lie in the window, not in bytes "
                          f"{start} to {end}")
    text = np.array([[start // arch.beat_bytes, -(-end // arch.beat_bytes)]])
    for i in code:
        check(i, arch, program.window_bytes)
        if i.opcode == Opcode.STORE:
            _require(not overlap(accesses(i, arch)[0].intervals, text), i,
                     "overwrites the program's code")
