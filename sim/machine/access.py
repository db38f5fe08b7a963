"""Which words every instruction reads and writes, computed from its fields.

The token pass, the race checker and the bounds check all read `accesses`; the chip itself never
does. Words are counted in intervals: (N, 2) integer arrays of half-open ranges, ascending,
disjoint and merged.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from systolith.hw.spec.isa import INSTRUCTION_BYTES, Destination, Memory, Opcode, Pooling

__all__ = ["Access", "AccessError", "Space", "accesses", "begins", "check", "check_program",
           "item_bytes", "merge", "overlap", "reads", "results", "windows", "word_bytes", "words"]


class AccessError(ValueError):
    """An instruction that reaches outside a memory, or that no chip of this shape can execute."""


class Space(IntEnum):
    """The memories that instructions read and write. EXTERNAL is counted in beats of the bus, the
    rest in words."""
    ACTIVATION = 0
    WEIGHT = 1
    PARAMETER = 2
    OPERAND = 3
    TABLE = 4
    ACCUMULATOR = 5
    EXTERNAL = 6

    def depth(self, arch):
        """Words that the chip has of it; None for EXTERNAL."""
        return (arch.activation_depth, arch.weight_depth, arch.parameter_depth,
                arch.operand_depth, arch.table_depth, arch.accumulator_depth, None)[self]


#: By `Memory`: the chip's attribute that says how many bytes a word of it takes outside.
_BYTES = ("activation_bytes", "weight_bytes", "parameter_bytes", "activation_bytes", "table_bytes")


@dataclass(frozen=True, eq=False)
class Access:
    """Words of one space that an instruction reads, or that it writes."""
    space: Space
    intervals: np.ndarray
    is_write: bool


def merge(starts, stops):
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


def overlap(one, other):
    """Whether two sets of intervals share a word."""
    if not len(one) or not len(other):
        return False
    after = np.searchsorted(other[:, 1], one[:, 0], side="right")
    inside = after < len(other)
    return bool((other[after[inside], 0] < one[inside, 1]).any())


def words(intervals):
    """The numbers of all words in the intervals, ascending."""
    lengths = intervals[:, 1] - intervals[:, 0]
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if ends.size else 0) + np.repeat(
        intervals[:, 0] - ends + lengths, lengths)


def word_bytes(memory, arch):
    """Bytes that one word of an on-chip memory takes outside."""
    return getattr(arch, _BYTES[memory])


def item_bytes(raw, arch):
    """Bytes that one item of the store unit takes outside."""
    return arch.raw_bytes if raw else arch.group_bytes


def _loops(start, *loops):
    """Sums of start and one multiple of each stride: int64 array [count, count, ...]."""
    total = np.int64(start)
    for count, stride in loops:
        total = np.add.outer(total, np.arange(count, dtype=np.int64) * stride)
    return total


def _positions(i):
    """All y and all x that an ARRAY instruction visits, padding included."""
    return (_loops(i.y_start, (i.kernel_y, i.stride_ky), (i.out_y, i.stride_oy),
                   (i.pool_y, i.stride_py)),
            _loops(i.x_start, (i.kernel_x, i.stride_kx), (i.out_x, i.stride_ox),
                   (i.pool_x, i.stride_px)))


def _external(i, arch):
    """The first byte and the length of every transfer of a LOAD or STORE: (starts, size)."""
    if i.opcode == Opcode.LOAD:
        return _loops(i.address, (i.rows, i.row_stride)), i.words * word_bytes(i.memory, arch)
    size = item_bytes(i.raw, arch)
    if i.burst:
        return _loops(i.address, (i.rows, i.row_stride)), i.items * size
    return _loops(i.address, (i.rows, i.row_stride), (i.items, i.item_stride)), size


def _beats(starts, size, arch):
    return merge(starts // arch.beat_bytes, -(-(starts + size) // arch.beat_bytes))


def begins(i):
    """Pixels that begin a result, as numbers in the order of the results: int64 array.

    `i` is an ARRAY instruction; pixels are counted in the order out_y, out_x, pool_y, pool_x.
    """
    pixels = np.arange(i.out_y * i.out_x * i.pool_y * i.pool_x).reshape(
        i.out_y, i.out_x, i.pool_y, i.pool_x)
    if i.starts:
        pixels = pixels[:, ::i.start_x, ::i.start_y][:, :i.results_x, :i.starts].swapaxes(1, 2)
    return pixels.ravel()


def results(i):
    """How many results an ARRAY instruction has."""
    if i.starts:
        return i.out_y * i.results_x * i.starts
    return i.out_y * i.out_x * i.pool_y * i.pool_x


def _columns(i):
    """What a POST instruction reads for a row of results: the tops of the columns of their
    windows, in order, as offsets in words from the row's first one; and that of the next row."""
    starts = _loops(0, (i.out_x, i.pool_x + i.jump))
    if i.pooling == Pooling.LEAD:
        columns = np.concatenate(([0], 1 + _loops(starts, (i.pool_x, 1)).ravel()))
    else:
        columns = _loops(starts, (i.pool_x, 1)).ravel()
    return columns, int(columns[-1]) + 1 + i.turn


def reads(i):
    """Accumulator words that a POST instruction reads for a chunk of each result, in order."""
    columns, row = _columns(i)
    return _loops(np.add.outer(i.accumulator + _loops(0, (i.out_y, row)), columns),
                  (i.pool_y, i.row)).ravel()


def windows(i):
    """Accumulator words of each result of a POST instruction, the column that is carried among
    them: int64 array [results, words]. A row's first result without one has a column twice."""
    words = reads(i).reshape(i.out_y, -1, i.pool_y)
    if i.pooling in (Pooling.CARRIED, Pooling.LEAD):
        if i.pooling == Pooling.CARRIED:
            words = np.concatenate((words[:, :1], words), axis=1)
        index = np.add.outer(np.arange(i.out_x) * i.pool_x, np.arange(i.pool_x + 1))
        words = words[:, index]
    return words.reshape(i.out_y * i.out_x, -1)


def _sums_read(i):
    """What `reads` gives for accumulators, as intervals."""
    if i.pool_y == 1 and not i.jump and not i.turn:
        count = i.out_y * (i.out_x * i.pool_x + (i.pooling == Pooling.LEAD))
        return np.array([[i.accumulator, i.accumulator + count]])
    columns, row = _columns(i)
    runs = merge(columns, columns + 1)
    rows = _loops(i.accumulator, (i.out_y, row), (i.pool_y, i.row))[..., None]
    return merge(rows + runs[:, 0], rows + runs[:, 1])


def accesses(instruction, arch):
    """All words that one instruction reads and writes, as a list of Access.

    An ARRAY that starts new sums does not read the accumulators; padding is not read. A POST to
    the store unit writes nothing itself. Writing some groups of an activation word, or some bytes
    of a beat, counts as writing it. BEGIN and END touch nothing.
    """
    i, opcode = instruction, instruction.opcode
    if opcode == Opcode.LOAD:
        base = _loops(i.base, (i.rows, i.base_stride))
        return [Access(Space.EXTERNAL, _beats(*_external(i, arch), arch), False),
                Access(Space(i.memory), merge(base, base + i.words), True)]
    if opcode == Opcode.ARRAY:
        passes = i.kernel_y * i.kernel_x * i.blocks
        y, x = _positions(i)
        if i.replicate:
            y, x = np.clip(y, 0, i.y_last), np.clip(x, 0, i.x_last)
        y = np.unique(y[(y >= 0) & (y <= i.y_last)])
        x = np.unique(x[(x >= 0) & (x <= i.x_last)])
        runs = merge(x, x + 1)
        planes = np.add.outer(_loops(i.base, (i.blocks, i.stride_block)), y)[..., None]
        sums = np.array([[i.accumulator, i.accumulator + results(i)]])
        found = [Access(Space.WEIGHT, np.array(
                    [[i.weight_base, i.weight_base + passes * arch.rows]]), False),
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
        offsets = _loops(0, (i.out_y, i.stride_y), (i.out_x, i.stride_x))
        if i.operand:
            base = i.operand_base + offsets * (not i.broadcast)
            found.append(Access(Space.OPERAND, merge(base, base + 1), False))
        for space, base, chosen in (
                (Space.OPERAND, i.copy_base, (Destination.OPERAND, Destination.BOTH)),
                (Space.ACTIVATION, i.base, (Destination.ACTIVATION, Destination.BOTH))):
            if i.destination in chosen:
                found.append(Access(space, merge(base + offsets, base + offsets + 1), True))
        return found
    if opcode == Opcode.STORE:
        return [Access(Space.EXTERNAL, _beats(*_external(i, arch), arch), True)]
    return []


def _require(condition, instruction, text):
    if not condition:
        raise AccessError(f"{text}: {instruction}")


def check(instruction, arch, window_bytes=None, used=None):
    """Refuse an instruction that this chip cannot execute as its fields say.

    Raises AccessError where it reaches outside a memory of the chip or outside the window, where
    an address is not aligned, and where a field is out of the range that the chip's shape and
    formats set. `used` is what `accesses` says, where known.
    """
    i, opcode = instruction, instruction.opcode
    i.encode()
    if opcode in (Opcode.LOAD, Opcode.STORE):
        if opcode == Opcode.LOAD:
            _require(i.memory != Memory.OPERAND or arch.operand_depth, i,
                     "the chip has no operand memory")
            _require(i.memory <= Memory.TABLE, i, "there are five memories to be loaded")
            _require(i.memory != Memory.TABLE or arch.table_depth, i,
                     "the chip has no table memory")
            unit = arch.beat_bytes
        else:
            size = item_bytes(i.raw, arch)
            unit = min(size, arch.beat_bytes)
            _require(not i.burst or size % arch.beat_bytes == 0, i,
                     f"items of {size} bytes are no whole beats of {arch.beat_bytes} bytes and "
                     "cannot be joined in bursts")
            _require(i.burst or i.items == 1 or i.item_stride % unit == 0, i,
                     f"item_stride must be a multiple of {unit} bytes")
        _require(i.address % unit == 0, i, f"address must be a multiple of {unit} bytes")
        _require(i.rows == 1 or i.row_stride % unit == 0, i,
                 f"row_stride must be a multiple of {unit} bytes")
        starts, size = _external(i, arch)
        last, end = int(starts.max()) + size, window_bytes or 1 << 32
        _require(last <= end, i, f"reaches byte {last} of a window of {end} bytes")
    if opcode == Opcode.ARRAY:
        for name, position, bits in zip("yx", _positions(i), (20, 16), strict=True):
            low, high = int(position.min()), int(position.max())
            _require(-(1 << bits - 1) <= low and high < 1 << bits - 1, i,
                     f"{name} runs from {low} to {high}, which does not fit {bits} bits")
        _require(i.pad_code >> arch.activation.width == 0, i,
                 f"pad_code must be a code of {arch.activation}")
        _require(not i.double or (arch.bit_planes and i.accumulate), i,
                 "only sums that there are can be doubled, on chips with bit planes")
        if i.starts:
            _require(arch.depthwise, i, "activations come from the top only on chips with "
                                        "depthwise")
            _require((i.results_x - 1) * i.start_x < i.out_x
                     and (i.starts - 1) * i.start_y < i.pool_y and i.pool_x == 1, i,
                     "results must begin at pixels that there are, and pool_x be 1")
            _require(not i.early, i, "from the top, sums come in another order than post reads "
                                     "them: no early token")
    if opcode == Opcode.POST:
        groups, slots = arch.groups_per_columns, arch.groups_per_word
        _require(i.group < groups, i, f"group must be less than {groups}")
        reads, copies = i.operand, i.destination in (Destination.OPERAND, Destination.BOTH)
        _require(arch.operand_depth or not (reads or copies), i, "the chip has no operand memory")
        if i.destination != Destination.STORE or reads:
            _require(i.slot < slots, i, f"slot must be less than {slots}")
        _require(not i.raw or (i.pool_x == i.pool_y == 1 and i.pooling == Pooling.LARGEST
                               and i.destination == Destination.STORE
                               and not reads and not i.table), i,
                 "raw results go to the store unit and are not pooled, combined or looked up")
        _require(not i.table or arch.table_depth, i, "the chip has no table memory")
        if not i.raw and not arch.activation.binary:
            bottom, top = arch.activation.ordered_range
            least, most = bottom, top
            if i.table and arch.activation.uniform:
                least, most = -arch.table_depth, arch.table_depth - 1
            _require(least <= i.low <= i.high <= most, i,
                     f"low and high must be from {least} to {most}, low not above high")
            _require(not i.table or i.high - i.low < arch.table_depth, i,
                     f"it would look up more than {arch.table_depth} results in the table")
            if reads:
                _check_operand(i, arch, bottom, top)
    for access in used or accesses(i, arch):
        depth = access.space.depth(arch)
        if depth is not None and len(access.intervals):
            low, high = int(access.intervals[0, 0]), int(access.intervals[-1, 1])
            _require(low >= 0 and high <= depth, i,
                     f"{'writes' if access.is_write else 'reads'} {access.space.name.lower()} "
                     f"words {low} to {high - 1}; the chip has {depth}")


def _check_operand(i, arch, bottom, top):
    if not arch.activation.uniform:
        _require(bottom <= i.first_low <= i.first_high <= top, i,
                 f"first_low and first_high must be from {bottom} to {top}")
        _require(i.operand_zero == 0, i, "operand_zero must be 0 where operands are floats")
    else:
        _require(i.first_low <= i.first_high, i, "first_low must not be above first_high")
    _require(bottom <= i.operand_zero <= top, i, f"operand_zero must be from {bottom} to {top}")
    mine = [access.intervals for access in accesses(i, arch) if access.space == Space.OPERAND]
    _require(len(mine) < 2 or not overlap(*mine), i,
             "the operand words that it reads and those that it writes must not overlap")


def check_program(program):
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
