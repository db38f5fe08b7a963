"""What the loops of an instruction amount to: passes, pixels, results, items, words.

Simulators, compiler, reports and the checks of instructions read these instead of the fields.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .arch import Arch
from .instruction import Instruction
from .isa import Opcode, Pooling
from .memories import item_bytes, loaded_bytes
from .narrow import words_of_rows

__all__ = ["Nest", "axes", "begins", "chunk_count", "column_group", "coordinates", "copies_apart",
           "extent", "filled", "fillings", "group_field", "item_count", "loops", "moved_bytes",
           "pass_words", "passes", "pixels", "reads", "results", "run_bytes", "slot_of", "slots_of",
           "steps", "window_columns", "windows", "word_starts"]

#: (count, stride) of each loop, the outermost first.
Nest = tuple[tuple[int, int], ...]


def loops(start: int, *nest: tuple[int, int]) -> np.ndarray:
    """Sums of `start` and one multiple of each stride: int64 array [count, count, ...], for
    (count, stride) of each loop, the outermost first."""
    total = np.asarray(start, np.int64)
    for count, stride in nest:
        total = np.add.outer(total, np.arange(count, dtype=np.int64) * stride)
    return total


def extent(start: int, *nest: tuple[int, int]) -> tuple[int, int]:
    """The smallest and the largest number in `loops`."""
    reach = [(count - 1) * stride for count, stride in nest]
    return start + sum(min(part, 0) for part in reach), start + sum(max(part, 0) for part in reach)


# ARRAY.

def passes(i: Instruction) -> int:
    """Passes of an ARRAY: fillings of the array with weights."""
    return i.kernel_y * i.kernel_x * i.blocks


def fillings(i: Instruction) -> int:
    """Times that an ARRAY streams its pixels: its passes, or one for all of them where each has
    rows of its own."""
    return i.blocks if i.side == 3 else passes(i)


def pixels(i: Instruction) -> int:
    """Pixels of each pass of an ARRAY."""
    return i.out_y * i.out_x * i.pool_y * i.pool_x


def steps(i: Instruction, arch: Arch) -> int:
    """Cycles of one pass of an ARRAY but for the shortest (`timing.shortest_pass`): a pixel each;
    activations that come from the top wait until the rows have their weights."""
    return pixels(i) + (arch.upper_rows if i.starts else 0)


def results(i: Instruction) -> int:
    """Sums that an ARRAY writes to each column's accumulators; groups of results of a POST."""
    if i.opcode == Opcode.POST:
        return i.out_y * i.out_x
    return i.out_y * i.results_x * i.starts if i.starts else pixels(i)


def begins(i: Instruction) -> np.ndarray:
    """Pixels of an ARRAY that start a result, in the order of the results: int64 array [results].

    Pixels are numbered in the order out_y, out_x, pool_y, pool_x.
    """
    numbers = np.arange(pixels(i)).reshape(i.out_y, i.out_x, i.pool_y, i.pool_x)
    if i.starts:
        numbers = numbers[:, ::i.start_x, ::i.start_y][:, :i.results_x, :i.starts].swapaxes(1, 2)
    return numbers.ravel()


def axes(i: Instruction) -> tuple[Nest, Nest]:
    """The loops of an ARRAY over rows and over columns of the map: y (kernel_y, out_y, pool_y) and
    x (kernel_x, out_x, pool_x)."""
    return (((i.kernel_y, i.stride_ky), (i.out_y, i.stride_oy), (i.pool_y, i.stride_py)),
            ((i.kernel_x, i.stride_kx), (i.out_x, i.stride_ox), (i.pool_x, i.stride_px)))


def coordinates(i: Instruction) -> tuple[np.ndarray, np.ndarray]:
    """All positions that an ARRAY visits, in words, padding included: y [kernel_y, out_y, pool_y]
    and x [kernel_x, out_x, pool_x]."""
    y, x = axes(i)
    return loops(i.y_start, *y), loops(i.x_start, *x)


# POST.

def group_field(group: int, chunks: int, arch: Arch) -> int:
    """What a POST's `group` is for the first `chunks` chunks of a group of columns; of all of them
    where the field has no bits for so many."""
    which, bits = arch.group_bits_of_post
    return group + (chunks % arch.chunks << which) if chunks >> bits == 0 else group


def column_group(i: Instruction, arch: Arch) -> int:
    """The group of columns that a POST reads."""
    return i.group % (1 << arch.group_bits_of_post[0])


def chunk_count(i: Instruction, arch: Arch) -> int:
    """The chunks of its group that a POST reads, the first ones."""
    return i.group >> arch.group_bits_of_post[0] or arch.chunks


def slot_of(i: Instruction, arch: Arch) -> int:
    """The group of a word that a POST writes, or the first one of its copies."""
    return i.slot % (1 << arch.copy_bits) if arch.banks > 1 else i.slot


def copies_apart(i: Instruction, arch: Arch) -> int:
    """Groups from one copy of a POST's group in a word to the next; those of a word where it writes
    none."""
    number = i.slot >> arch.copy_bits if arch.banks > 1 else 0
    return (arch.slots // arch.banks) << number - 1 if number else arch.slots


def slots_of(i: Instruction, arch: Arch) -> range:
    """The groups of a word that a POST writes."""
    return range(slot_of(i, arch), arch.slots, copies_apart(i, arch))


@lru_cache(1 << 12)
def window_columns(out_x: int, pool_x: int, jump: int, turn: int,
                   pooling: int) -> tuple[np.ndarray, int]:
    """The accumulator words that a POST with these fields reads for one row of results, as offsets
    from the row's first word: the top word of each column of each window, in order (int64 array,
    read-only); and the offset of the next row's first word."""
    starts = loops(0, (out_x, pool_x + jump))
    if pooling == Pooling.LEAD:
        columns = np.concatenate(([0], 1 + loops(0, (out_x, pool_x + jump), (pool_x, 1)).ravel()))
    else:
        columns = np.add.outer(starts, np.arange(pool_x)).ravel()
    columns.setflags(write=False)
    return columns, int(columns[-1]) + 1 + turn


def reads(i: Instruction) -> np.ndarray:
    """Accumulator words that a POST reads for one chunk of each result, in order: int64 array."""
    columns, row = window_columns(i.out_x, i.pool_x, i.jump, i.turn, i.pooling)
    tops = np.add.outer(i.accumulator + loops(0, (i.out_y, row)), columns)
    return np.add.outer(tops, np.arange(i.pool_y, dtype=np.int64) * i.row).ravel()


def windows(i: Instruction) -> np.ndarray:
    """Accumulator words of each result of a POST, the carried column among them: int64 array
    [results, words]. A row's first result without a carried column has its first column twice."""
    words = reads(i).reshape(i.out_y, -1, i.pool_y)
    if i.pooling in (Pooling.CARRIED, Pooling.LEAD):
        if i.pooling == Pooling.CARRIED:
            words = np.concatenate((words[:, :1], words), axis=1)
        index = np.add.outer(np.arange(i.out_x) * i.pool_x, np.arange(i.pool_x + 1))
        words = words[:, index]
    return words.reshape(results(i), -1)


# LOAD.

def word_starts(i: Instruction, arch: Arch) -> np.ndarray:
    """Bytes from the begin of a run to each of its words in external memory: int64 array."""
    number = np.arange(i.words)
    if i.step_even:
        return number // 2 * (i.step_even + i.step_odd) + number % 2 * i.step_even
    return number * loaded_bytes(i, arch)


def run_bytes(i: Instruction, arch: Arch) -> int:
    """Bytes of one run of a LOAD in external memory."""
    return (i.word_beats * arch.beat_bytes if i.step_even
            else i.words * loaded_bytes(i, arch))


# POST and STORE, LOAD and STORE.

def item_count(i: Instruction, arch: Arch) -> int:
    """Items that a POST makes, or that a STORE takes: groups, or raw chunks."""
    if i.opcode == Opcode.STORE:
        return i.rows * i.items
    return results(i) * (arch.chunks if i.raw else 1)


def filled(i: Instruction, arch: Arch) -> int:
    """Rows of the array that each pass of an ARRAY fills with weights of its own; where weights are
    in blocks, all, and that of scales."""
    return i.height * arch.height_unit or arch.fill


def pass_words(i: Instruction, arch: Arch) -> int:
    """Weight words of each pass of an ARRAY."""
    return words_of_rows(filled(i, arch), i.narrow, arch)


def moved_bytes(i: Instruction, arch: Arch) -> int:
    """Bytes that a LOAD brings, or that a STORE writes."""
    if i.opcode == Opcode.LOAD:
        return i.rows * run_bytes(i, arch)
    return item_count(i, arch) * stored_bytes(i, arch)


def stored_bytes(i: Instruction, arch: Arch) -> int:
    """Bytes that a STORE writes of each item."""
    return i.item_beats * arch.beat_bytes or item_bytes(i.raw, arch)
