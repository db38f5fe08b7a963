"""Tokens: what orders the units, which run concurrently, where their instructions conflict.

Each unit executes its own instructions in order, and the k-th token that unit A gives to unit B is
taken by the k-th instruction of B that waits for A. So a token says that A has finished all its
instructions up to the one that gave it, and B needs another wait only for a conflict with a later
instruction of A.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import Opcode, Unit
from systolith.hw.spec.loops import reads, results
from systolith.hw.spec.memories import Space
from systolith.sim.machine.access import Access, accesses, overlap, span_of

__all__ = ["outstanding", "synchronize"]


class _Last:
    """For every word of a memory, the number of the last instruction that accessed it, -1: none
    has; and the last one of all."""

    def __init__(self, size):
        self.words, self.last = np.full(size, -1, np.int64), -1

    def latest(self, index, known):
        """The last instruction that accessed one of the words, `known` if that is later."""
        if self.last <= known:
            return known
        return max(known, int(np.maximum.reduce(self.words[index], initial=-1)))

    def touch(self, index, number):
        self.words[index] = self.last = number


def synchronize(instructions: Iterable[Instruction], arch: Arch,
                used: Sequence[list[Access]] | None = None) -> list[Instruction]:
    """Copies of instructions with `wait`, `signal` and `early` filled in; old values are dropped.

    Every pair of accesses to one word by two units, of which at least one writes, is ordered by a
    token. The stream of items from POST to STORE needs none.

    Parameters
    ----------
    instructions : sequence of Instruction
        In an order in which the program is right if they are executed one after the other.
    arch : Arch
    used : sequence, or None
        `accesses` of each instruction, where they are known.
    """
    instructions = [i.bare() for i in instructions]
    used = used or [accesses(i, arch) for i in instructions]
    spans = {space: span_of(space, arch, used) for space in Space}
    #: by space: (unit, _Last) of those that write and that read there
    writers: dict[Space, dict] = {space: {} for space in Space}
    readers: dict[Space, dict] = {space: {} for space in Space}
    covered = [[-1] * len(Unit) for _ in Unit]      # by taker and giver
    for number, (i, mine) in enumerate(zip(instructions, used, strict=True)):
        unit = i.opcode.unit
        if unit is None:
            continue
        if unit == Unit.ARRAY:
            i.fields["early"] = 0
        known = covered[unit]
        need = known.copy()
        touched = []
        for access in mine:
            space = access.space
            index = access.index(*spans[space])
            touched.append((access, index))
            for others in (writers, readers) if access.is_write else (writers,):
                for other, found in others[space].items():
                    if found.last > need[other] and other != unit:
                        need[other] = found.latest(index, need[other])
        for other in Unit:
            if need[other] > known[other] and other != unit:
                known[other] = need[other]
                i.wait |= 1 << other
                instructions[need[other]].signal |= 1 << unit
        for access, index in touched:
            last = (writers if access.is_write else readers)[access.space]
            if unit not in last:
                first, end = spans[access.space]
                last[unit] = _Last(end - first)
            last[unit].touch(index, number)
    _set_early(instructions, used)
    return instructions


def _set_early(instructions, used):
    """Set `early` in the ARRAY instructions whose token for POST may be given when the first sum of
    their last pass is written, instead of the last one.

    All POST instructions between the one that takes the token and the next one that takes a token
    of ARRAY rely on it. The token may be early if these conflict with the ARRAY instruction in the
    accumulators alone, and never read a sum before it is written: the array writes one word a
    cycle and POST reads at most one a cycle, so it is enough that the k-th word that POST reads
    after the token is among the first k words that the array writes. Pooling windows of several
    rows read ahead and break that rule. Sums of earlier ARRAY instructions are there by then,
    because sums leave the array in program order. With activations from the top the array writes
    in another order, so these tokens are never early.
    """
    givers = iter([n for n, i in enumerate(instructions)
                   if i.opcode == Opcode.ARRAY and i.signal >> Unit.POST & 1])
    giver, read = None, 0
    for number, i in enumerate(instructions):
        if i.opcode != Opcode.POST:
            continue
        if i.wait >> Unit.ARRAY & 1:
            giver, read = next(givers), 0
            instructions[giver].fields["early"] = int(not instructions[giver].starts)
        mine = reads(i)
        if giver is not None:
            array = instructions[giver]
            if array.early and not _in_step(mine - array.accumulator, read, results(array)):
                array.fields["early"] = 0
            for own in used[number]:
                for its in used[giver]:
                    if (own.space == its.space != Space.ACCUMULATOR
                            and (own.is_write or its.is_write)
                            and overlap(own.intervals, its.intervals)):
                        array.fields["early"] = 0
        read += mine.size


def _in_step(place, read, count):
    """Whether POST never reads a sum before it is written.

    `place` (int64 array): for each word that POST reads, in order, which of the array's `count`
    words it is; others are below 0 or from `count` up. `read`: words that POST has read before,
    since the token.
    """
    late = place > read + np.arange(place.size)
    return not (late & (place < count)).any()


def outstanding(instructions: Sequence[Instruction], arch: Arch) -> int:
    """The highest value that any token counter can reach, whatever the timing of the units.

    While a unit waits for a token, the others continue until its queue is full (`queue_depth`
    instructions, and one on the way there) and the sequencer stops.
    """
    most = 0
    units = np.array([-1 if i.opcode.unit is None else i.opcode.unit for i in instructions],
                     np.int64)
    waits, signals = (np.array([getattr(i, name) for i in instructions], np.int64)
                      for name in ("wait", "signal"))
    for taker in Unit:
        mine = np.flatnonzero(units == taker)
        # how many instructions the sequencer has dispatched when it stops for one of these
        stops = np.append(mine, np.full(arch.queue_depth + 2, len(instructions)))[
            arch.queue_depth + 2:]
        for giver in set(Unit) - {taker}:
            takes = waits[mine] >> giver & 1
            if takes.any():
                given = np.cumsum((units == giver) & (signals >> taker & 1 == 1))
                ahead = given[stops - 1] - (np.cumsum(takes) - takes)
                most = max(most, int(ahead[takes == 1].max()))
    return most
