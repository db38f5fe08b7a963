"""Checks of a program's token order: conflicts that no token orders, and queues that fill for good.

Both work on the instructions alone and share nothing with the pass that places the tokens.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import Destination, Opcode, Unit
from systolith.hw.spec.loops import item_count, reads, results
from systolith.hw.spec.memories import Space
from systolith.hw.spec.timing import ITEMS

from .access import accesses, overlap

__all__ = ["find_races", "find_stall"]


def _pairs(instructions):
    """For every instruction the instructions whose tokens it takes, by giving unit.

    A wait whose token nobody gives has None in place of the giver.
    """
    given: dict[tuple[Unit, Unit], deque[int]] = {
        (giver, taker): deque() for giver in Unit for taker in Unit}
    for number, i in enumerate(instructions):
        for taker in Unit:
            if i.unit is not None and i.signal >> taker & 1:
                given[i.unit, taker].append(number)
    sources = []
    for i in instructions:
        sources.append({giver: given[giver, i.unit].popleft() if given[giver, i.unit] else None
                        for giver in Unit if i.unit is not None and i.wait >> giver & 1})
    return sources


def _in_step(read, post, array):
    """Whether POST, having read `read` words since the array's early token, never reads ahead of
    its writes.

    Times are counted from the early token, with the fastest post and the slowest array that the
    hardware allows: one word a cycle each.
    """
    address = reads(post)
    written = address - array.accumulator
    count = results(array)
    shared = (written >= 0) & (written < count)
    if array.starts:
        return not shared.any()                     # sums come in another order
    return bool((written <= read + np.arange(address.size))[shared].all())


@dataclass
class _Order:
    """What tokens guarantee about a program.

    Attributes
    ----------
    mine : dict of Unit to list of int
        The numbers of each unit's instructions.
    known : dict of int to int64 array [units]
        For each instruction, how many instructions of each unit are surely done when it starts.
    early : dict of int to int or None
        For each POST the ARRAY whose token, given early, is the last one that it has waited for.
    read : dict of int to int
        For each POST the words that POST has read since that token.
    """
    mine: dict[Unit, list[int]]
    known: dict[int, np.ndarray] = field(default_factory=dict)
    early: dict[int, int | None] = field(default_factory=dict)
    read: dict[int, int] = field(default_factory=dict)


def _order(instructions):
    """The `_Order` of a program. Raises ValueError for tokens that can never arrive."""
    sources = _pairs(instructions)
    found = _Order({unit: [n for n, i in enumerate(instructions) if i.unit == unit]
                    for unit in Unit})
    known, early, read = found.known, found.early, found.read
    place = {n: k for mine in found.mine.values() for k, n in enumerate(mine)}
    last: dict[Unit, int | None] = dict.fromkeys(Unit)
    waiting = {unit: deque(mine) for unit, mine in found.mine.items()}
    while any(waiting.values()):
        for unit in Unit:
            if waiting[unit] and all(n in known for n in sources[waiting[unit][0]].values()):
                break
        else:
            raise ValueError("tokens that never arrive before instructions "
                             f"{[mine[0] for mine in waiting.values() if mine]}")
        n = waiting[unit].popleft()
        before = last[unit]
        clock = known[before].copy() if before is not None else np.zeros(len(Unit), int)
        clock[unit] = place[n]
        if unit == Unit.POST:
            early[n], read[n] = None, 0
            if before is not None:
                early[n], done = early.get(before), instructions[before]
                read[n] = read[before] + reads(done).size
        for giver, source in sources[n].items():
            clock = np.maximum(clock, known[source])
            finished = place[source] + 1
            if giver == Unit.ARRAY and unit == Unit.POST:
                early[n], read[n] = source, 0
                finished -= instructions[source].early       # only those before it
            clock[giver] = max(clock[giver], finished)
        known[n], last[unit] = clock, n
    return found


def _conflicts(mine, other):
    """The spaces, once for each pair of accesses, in which two instructions access the same words
    and one of them writes."""
    return [one.space for one in mine for two in other
            if one.space == two.space and (one.is_write or two.is_write)
            and overlap(one.intervals, two.intervals)]


def find_races(instructions: Sequence[Instruction], arch: Arch) -> list[tuple[int, int, Space]]:
    """Conflicting accesses of two units that tokens do not put into program order.

    Returns a list of (earlier, later, space): numbers of instructions. Empty: whatever the
    timing, the result is that of executing one instruction after the other. Raises ValueError
    for tokens that can never arrive.
    """
    order = _order(instructions)
    used = [accesses(i, arch) for i in instructions]
    races = []
    for later, clock in sorted(order.known.items()):
        for unit in set(Unit) - {instructions[later].unit}:
            for earlier in order.mine[unit][clock[unit]:]:
                if earlier > later:
                    break
                excused = (instructions[earlier].opcode == Opcode.ARRAY
                           and instructions[earlier].early and order.early.get(later) == earlier
                           and _in_step(order.read[later], instructions[later],
                                        instructions[earlier]))
                races += [(earlier, later, space)
                          for space in _conflicts(used[earlier], used[later])
                          if not (excused and space == Space.ACCUMULATOR)]
    return races


def find_stall(instructions: Sequence[Instruction], arch: Arch) -> list[int] | None:
    """Find a deadlock of a program on a chip with queues of `queue_depth` instructions.

    The sequencer hands out instructions in program order and stops before a full queue, and
    post stops when the store unit does not take its results: so a STORE that comes too long after
    its POSTs never gets started. Post takes its instruction out of the queue and has room
    for `ITEMS` items; the other units are not assumed to have room for more than their
    queues. Returns None, or the numbers of the instructions that all wait.
    """
    sources = _pairs(instructions)
    queues: dict[Unit, deque[int]] = {unit: deque() for unit in Unit}
    done: set[int] = set()
    following = 0
    room = dict.fromkeys(Unit, arch.queue_depth) | {Unit.POST: arch.queue_depth + 1}
    made, taken, buffered = {}, {}, 0
    for n, i in enumerate(instructions):
        if i.opcode == Opcode.POST and i.destination == Destination.STORE:
            made[n] = item_count(i, arch)
        elif i.opcode == Opcode.STORE:
            taken[n] = item_count(i, arch)
    progress = True
    while progress:
        progress = False
        while following < len(instructions):
            unit = instructions[following].unit
            if unit is not None:
                # A POST that has not started yet is still in its queue.
                waits = unit == Unit.POST and queues[unit] and not done.issuperset(
                    sources[queues[unit][0]].values())
                if len(queues[unit]) >= room[unit] - bool(waits):
                    break
                queues[unit].append(following)
            following, progress = following + 1, True
        for queue in queues.values():
            if not queue or not done.issuperset(sources[queue[0]].values()):
                continue
            n = queue[0]
            if n in made:
                moved = min(made[n], ITEMS - buffered)
                made[n], buffered = made[n] - moved, buffered + moved
            elif n in taken:
                moved = min(taken[n], buffered)
                taken[n], buffered = taken[n] - moved, buffered - moved
            else:
                moved = 0
            if not made.get(n) and not taken.get(n):
                queue.popleft()
                done.add(n)
            progress |= n in done or moved > 0
    left = [n for queue in queues.values() for n in queue]
    return sorted(left) or None
