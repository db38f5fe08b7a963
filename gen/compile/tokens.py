"""Tokens: from instructions in a valid sequential order to units that may run concurrently.

A unit executes its instructions in order, and the k-th token that a unit gives to another meets
the k-th wait of that other. So one token covers all that the giver has done before, and a wait
is needed only where a conflict is newer than what has been waited for already.
"""

from dataclasses import replace

import numpy as np
from systolith.hw.spec.isa import Opcode, Unit
from systolith.hw.spec.loops import reads, results
from systolith.hw.spec.memories import Space
from systolith.sim.machine.access import accesses, overlap, words

__all__ = ["outstanding", "synchronize"]


class _Last:
    """For every word of a space the latest instruction of one unit that touched it, or -1."""

    def __init__(self):
        self.words = np.full(0, -1, np.int64)

    def latest(self, index):
        index = index[index < self.words.size]
        return int(self.words[index].max()) if index.size else -1

    def touch(self, index, number):
        if index.size and index[-1] >= self.words.size:
            grown = np.full(max(2 * self.words.size, int(index[-1]) + 1), -1, np.int64)
            grown[:self.words.size] = self.words
            self.words = grown
        self.words[index] = number


def synchronize(instructions, arch, used=None):
    """The instructions with `wait`, `signal` and `early` filled in.

    `instructions` stand in an order in which executing them one after the other is right. Every
    read that follows a write of the same word by another unit, every write that follows a read
    and every write that follows a write is ordered by a token; what flows from POST to STORE
    through their stream needs none. Old tokens are dropped. `used` is `accesses` of each, where
    known. Returns new instructions.
    """
    instructions = [
        replace(i, wait=0, signal=0,
                fields=i.fields | ({"early": 0} if i.opcode == Opcode.ARRAY else {}))
        for i in instructions]
    used = used or [accesses(i, arch) for i in instructions]
    last: dict[tuple, _Last] = {}               # by (space, unit, is_write)
    covered = np.full((len(Unit), len(Unit)), -1, np.int64)
    for number, (i, touched) in enumerate(zip(instructions, used, strict=True)):
        if i.unit is None:
            continue
        touched = [(access.space, access.is_write, words(access.intervals)) for access in touched]
        for unit in set(Unit) - {i.unit}:
            need = max((last[key].latest(index) for space, is_write, index in touched
                        for key in ((space, unit, True), (space, unit, False))
                        if key in last and (is_write or key[2])), default=-1)
            if need > covered[unit, i.unit]:
                covered[unit, i.unit] = need
                i.wait |= 1 << unit
                instructions[need].signal |= 1 << i.unit
        for space, is_write, index in touched:
            last.setdefault((space, i.unit, is_write), _Last()).touch(index, number)
    _set_early(instructions, used)
    return instructions


def _set_early(instructions, used):
    """Mark the ARRAY instructions whose token for post may be given at the first finished sum.

    All POST instructions from the one that takes the token up to the next that takes one rely on
    it. It may be early if the only thing that orders any of them after this ARRAY instruction
    is reading sums, never ahead of their writing: the array writes one word a cycle, post reads
    at most one a cycle, so the k-th word that post reads since the token must not come after the
    k-th that the array wrote; windows with rows look ahead. Earlier ARRAY instructions have
    finished by then: sums leave the array in program order. With activations from the top the
    array writes in another order.
    """
    givers = iter([n for n, i in enumerate(instructions)
                   if i.unit == Unit.ARRAY and i.signal >> Unit.POST & 1])
    giver, read = None, 0
    for number, i in enumerate(instructions):
        if i.unit != Unit.POST:
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
    """Whether post, which has read `read` words, may read words that are the array's `place`-th,
    one a cycle, while it writes its `count` words."""
    late = place > read + np.arange(place.size)
    return not (late & (place < count)).any()


def outstanding(instructions, arch):
    """The most tokens that can wait to be taken, for any pair of units, whatever the timing.

    A unit that stands still before its k-th wait lets others run on until later instructions fill
    its queue (`queue_depth`, and one on the way) and the sequencer stops.
    """
    most = 0
    for taker in Unit:
        mine = [n for n, i in enumerate(instructions) if i.unit == taker]
        for giver in set(Unit) - {taker}:
            given = np.cumsum([i.unit == giver and i.signal >> taker & 1 for i in instructions])
            taken = 0
            for place, number in enumerate(mine):
                if instructions[number].wait >> giver & 1:
                    stop = place + arch.queue_depth + 2
                    reach = mine[stop] if stop < len(mine) else len(instructions)
                    most = max(most, int(given[reach - 1]) - taken)
                    taken += 1
    return most
