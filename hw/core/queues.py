"""Queues of instructions: one memory for all units, and a register of the next one before each."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Opcode, Unit
from systolith.hw.spec.timing import FETCHES, delivery_beats
from systolith.hw.spec.widths import payload

__all__ = ["InstructionQueues"]

_OPCODES = {code.unit: code for code in Opcode if code.unit is not None}


class InstructionQueues(wiring.Component):
    """Keeps instructions, beat by beat in a block RAM, until their units take them.

    A unit's next instruction is read into a register as soon as that is free: `delivery_beats`
    cycles and one more, during which no other instruction is read; the unit with the lowest number
    comes first.

    Timing: an instruction that is committed in cycle t can be chosen to be read from cycle t + 1
    on. One chosen in cycle t is at its unit's output from cycle t + `delivery_cycles` on; the next
    one is chosen from t + 1 + `delivery_beats` on. A register whose instruction is taken in cycle t
    is free from cycle t + 1.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    clear : In(1)
        A program starts; all queues must be empty.
    write : In(1)
        Keep a beat. After its last one, an instruction that is not committed is in the way of those
        that follow.
    unit : In(range(4)), place : In(range(beats)), beat : In(bus_bits)
        Whose instruction it belongs to, which of its beats it is, and the beat.
    commit : In(4)
        Bit u: the next instruction of unit u, all of whose beats have been written, may be read.
    full : Out(1)
        A unit has `arch.queue_depth` instructions or more that are not being read. There is room
        for timing.FETCHES more of each.
    empty : Out(1)
        In the cycle before, no instruction was here.
    load, array, post, store : Out(stream of widths.payload)
        Instructions for each unit; `o[unit]` is the stream of that `Unit`.
    """

    def __init__(self, *, arch: Arch) -> None:
        self.arch = arch
        self.beats = arch.instruction_bytes // arch.beat_bytes
        super().__init__({
            "clear": In(1), "write": In(1), "unit": In(range(len(Unit))),
            "place": In(range(self.beats)), "beat": In(arch.bus_bits), "commit": In(len(Unit)),
            "full": Out(1), "empty": Out(1),
            **{unit.name.lower(): Out(stream.Signature(payload(arch, _OPCODES[unit])))
               for unit in Unit},
        })
        self.o = tuple(getattr(self, unit.name.lower()) for unit in Unit)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        most = self.arch.queue_depth + FETCHES
        slot = range(1 << (most - 1).bit_length())
        written, read = ([Signal(slot, name=f"{unit.name.lower()}_{what}") for unit in Unit]
                         for what in ("written", "read"))
        waiting = [Signal(range(most + 1), name=f"{unit.name.lower()}_waiting") for unit in Unit]
        claimed = Signal(len(Unit))     # the register has an instruction, or will have it

        # which one is read
        ready = Signal(len(Unit))
        active = Signal()
        unit = Signal(range(len(Unit)))
        place = Signal.like(self.place)
        reading = Signal(slot)
        begins = Signal(len(Unit))
        last = Signal()
        m.d.comb += [
            ready.eq(Cat(count != 0 for count in waiting) & ~claimed),
            begins.eq(Mux(active, 0, Cat(ready[n] & ~ready[:n].any() for n in Unit))),
            last.eq(place == Array(delivery_beats(self.arch, code) - 1
                                   for code in _OPCODES.values())[unit]),
        ]
        with m.If(active):
            m.d.sync += [place.eq(place + 1), active.eq(~last)]
        with m.Else():
            m.d.sync += [place.eq(0), active.eq(ready.any()),
                         unit.eq(Cat(begins[1] | begins[3], begins[2] | begins[3]))]
            for number in Unit:
                with m.If(begins[number]):
                    m.d.sync += reading.eq(read[number])

        # the memory
        place_bits = len(self.place)
        m.submodules.memory = memory = Memory(
            shape=self.arch.bus_bits, depth=len(Unit) * len(slot) << place_bits, init=[],
            attrs={"no_rw_check": 1})
        write = memory.write_port()
        port = memory.read_port()
        m.d.comb += [
            write.en.eq(self.write), write.data.eq(self.beat),
            write.addr.eq(Cat(self.place, Array(written)[self.unit], self.unit)),
            port.addr.eq(Cat(place, reading, unit)),
        ]

        ends = Signal()
        m.d.comb += ends.eq(self.write & (self.place == self.beats - 1))

        # The output of a block RAM is late, and the units are far away.
        read_beat, delay = port.data, 1
        if self.arch.prefetch:
            read_beat, delay = Signal.like(port.data, name="read_beat", reset_less=True), 2
            m.d.sync += read_beat.eq(port.data)

        # the registers: each beat goes into its place, as far as the chip keeps its fields
        valid = Signal(len(Unit))
        for number in Unit:
            output = self.o[number]
            beats = delivery_beats(self.arch, _OPCODES[number])
            words, comes = [], Mux(active & (unit == number), 1 << place, 0)[:beats]
            for cycle in range(delay):
                comes, before = Signal(
                    beats, name=f"{number.name.lower()}_comes_{cycle}"), comes
                m.d.sync += comes.eq(before)
            for beat in range(beats):
                word = Signal(self.arch.bus_bits, name=f"{number.name.lower()}_next_{beat}",
                              reset_less=True)
                words.append(word)
                with m.If(comes[beat]):
                    m.d.sync += word.eq(read_beat)
            whole = isa.layout(_OPCODES[number])(Cat(words)[:isa.layout(_OPCODES[number]).size])
            taken = Signal(name=f"{number.name.lower()}_taken")
            m.d.comb += [taken.eq(output.valid & output.ready),
                         output.valid.eq(valid[number]),
                         *(output.payload[name].eq(whole[name])
                           for name, _ in output.payload.shape())]
            with m.If(comes[beats - 1]):
                m.d.sync += valid[number].eq(1)
            with m.If(taken):
                m.d.sync += [valid[number].eq(0), claimed[number].eq(0)]
            with m.If(begins[number]):
                m.d.sync += [claimed[number].eq(1), read[number].eq(read[number] + 1)]
            with m.If(self.clear):
                m.d.sync += [written[number].eq(0), read[number].eq(0)]
            with m.Elif(ends & (self.unit == number)):
                m.d.sync += written[number].eq(written[number] + 1)
            with m.If(self.commit[number] ^ begins[number]):
                # plus or minus one in a single adder
                m.d.sync += waiting[number].eq(
                    waiting[number] + begins[number].replicate(len(waiting[number]))
                    + self.commit[number])
        m.d.comb += self.full.eq(Cat(count >= self.arch.queue_depth for count in waiting).any())
        m.d.sync += self.empty.eq(~Cat(*waiting, claimed).any())
        return m
