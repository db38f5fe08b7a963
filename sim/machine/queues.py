"""The units' queues of instructions in the cycle model, as of `hw/core/queues.py`."""

from bisect import bisect_right
from collections.abc import Generator
from typing import Any

from systolith.hw.spec import timing
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import Opcode, Unit

from .events import At, Channel, Events

__all__ = ["InstructionQueues"]


class InstructionQueues:
    """When instructions go into the queues, and from there into their units' registers.

    Attributes
    ----------
    code : {Unit: Channel}
        What stands before a unit, for its process: (cycle, number, instruction).
    freed : Channel
        From when on a unit's register is free, after each instruction, of all units.
    """

    def __init__(self, arch: Arch, events: Events) -> None:
        self.arch, self._put = arch, events.put
        self.code = {unit: Channel() for unit in Unit}
        self.freed = Channel()
        self._delivery = {opcode: (timing.delivery_beats(arch, opcode),
                                   timing.delivery_cycles(arch, opcode)) for opcode in Opcode}
        # (can be read from, number, instruction)
        self._queued = {unit: Channel() for unit in Unit}
        self._room = {unit: Channel([0]) for unit in Unit}
        # when instructions went into each queue and out, and when those out that are known
        self._into: dict[Unit, list[int]] = {unit: [] for unit in Unit}
        self._out_of = {unit: Channel() for unit in Unit}
        self._went: dict[Unit, list[int]] = {unit: [] for unit in Unit}
        self._reading_ends = 0          # the cycle from which the queues can be read again

    def commit(self, cycle: int, number: int, code: Instruction) -> None:
        """An instruction of a unit's is in its queue from `cycle` on."""
        assert code.unit is not None
        self._into[code.unit].append(cycle)
        self._put(self._queued[code.unit], (cycle, number, code))

    def free(self, unit: Unit, cycle: int) -> None:
        """A unit's register of its next instruction is free from `cycle` on."""
        self._put(self._room[unit], cycle)
        self._put(self.freed, cycle)

    def room(self, cycle: int) -> Generator[Any, Any, int]:
        """Generates what to read; its value is the first cycle from `cycle` on in which no queue is
        full, as far as is known in `cycle`."""
        depth = self.arch.queue_depth
        for unit, into in self._into.items():
            if len(into) < depth:
                continue
            least = bisect_right(into, cycle) - depth + 1
            gone = self._went[unit]
            while len(gone) < least:
                gone.append((yield self._out_of[unit]))
            if least > 0 and gone[least - 1] > cycle:
                cycle = gone[least - 1]
        return cycle

    def deliver(self, unit: Unit) -> Generator[Any, Any, None]:
        """The process from a unit's queue into its register; one unit at a time."""
        while True:
            chosen, number, code = yield self._queued[unit]
            chosen = max(chosen, (yield self._room[unit]))
            yield At(chosen, unit)
            while self._reading_ends > chosen:
                chosen = self._reading_ends
                yield At(chosen, unit)
            beats, cycles = self._delivery[code.opcode]
            self._reading_ends = chosen + beats + 1
            self._put(self._out_of[unit], chosen + 1)
            self._put(self.code[unit], (chosen + cycles, number, code))
