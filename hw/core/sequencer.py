"""Sequencer: fetches instructions, checks them and hands them to the units' queues."""

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity
from systolith.hw.spec.isa import Opcode, Unit
from systolith.hw.spec.legality import OPTIONS
from systolith.hw.spec.registers import REPORT, SEQUENCER, ErrorCode
from systolith.hw.spec.timing import FETCHES

from .axi import ReadSignature

__all__ = ["Sequencer", "is_legal"]


class Sequencer(wiring.Component):
    """Runs one program from BEGIN to END.

    In the cycle after `start`, `busy` goes high and the first request is made. Each instruction
    is one burst, or two where it crosses a 4 KiB page. A request for instruction n is made as
    soon as instruction n - `FETCHES` has left (the cycle after) and the one before was taken.

    Timing: a beat that arrives in cycle t can be shifted into the head from cycle t + 2 on, one
    beat a cycle in order; the instruction whose last beat is shifted in cycle t leaves in cycle
    t + 1 or, if its queue is full then, as soon as it is not; the next instruction's first beat
    can be shifted in the cycle in which it leaves. An instruction that leaves in cycle t is at
    the output of its unit's queue, if that was empty, from cycle t + 1. A queue that is popped
    in cycle t has room from cycle t + 1.

    END leaves when all queues are empty, no unit is busy and the bus is quiet; `done` is high
    and `busy` low from the cycle after.

    Errors: the first one that a unit reports, or that is found here, is held in `report`; `halt`
    goes high in the next cycle. Nothing leaves while it is high. Errors found here are an illegal
    instruction (unknown opcode, a field out of its range such as a count of 0, a value of
    `legality.OPTIONS` that needs a part which the chip lacks, a token for or from itself, BEGIN
    missing or repeated), a wrong identity, an instruction outside the window, or one that came
    with a bus error (only when it would be executed: what is fetched after END does not
    matter), and the watchdog. Of several in one cycle the one with the lowest unit number is
    held, the sequencer's being last.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    start : In(1)
        Pulse; only while neither `busy` nor `report.valid` is high. Also clears token counters.
    stop : In(1)
        Halts as an error does, without a report.
    program : In(32)
        Offset of BEGIN; a multiple of 16.
    watchdog : In(32)
        Cycles without `progress` before error 5; 0: never.
    read : Out(ReadSignature)
    load, array, post, store : Out(stream of isa.layout)
        Instructions for each unit; `o[unit]` is the stream of that `Unit`.
    unit_busy : In(4)
        One bit a unit: an instruction is in work (it may already have left the queue).
    progress : In(1)
        Something has moved in this cycle, here excepted.
    quiet : In(1)
        No transaction is outstanding on the memory bus.
    overflow : In(1)
        From the token counters.
    reports[unit] : In(REPORT)
    report : Out(REPORT)
    busy, done, halt : Out(1)
    """

    def __init__(self, *, arch: Arch) -> None:
        self.arch = arch
        super().__init__({
            "start": In(1), "stop": In(1), "program": In(32), "watchdog": In(32),
            "read": Out(ReadSignature(arch.bus_bits)),
            "load": Out(stream.Signature(isa.layout(Opcode.LOAD))),
            "array": Out(stream.Signature(isa.layout(Opcode.ARRAY))),
            "post": Out(stream.Signature(isa.layout(Opcode.POST))),
            "store": Out(stream.Signature(isa.layout(Opcode.STORE))),
            "unit_busy": In(4), "progress": In(1), "quiet": In(1), "overflow": In(1),
            "reports": In(REPORT).array(4), "report": Out(REPORT),
            "busy": Out(1), "done": Out(1), "halt": Out(1),
        })
        self.o = (self.load, self.array, self.post, self.store)

    def elaborate(self, platform):
        m = Module()
        arch = self.arch
        beats = isa.INSTRUCTION_BITS // arch.bus_bits

        # Beats wait in a narrow memory, so that wide words exist only once here (the head, a
        # shift register) and once in each queue.
        m.submodules.beats = beat_fifo = ResetInserter(self.start)(fifo.SyncFIFOBuffered(
            width=arch.bus_bits + 1, depth=FETCHES * beats))
        head = Signal(isa.INSTRUCTION_BITS, reset_less=True)
        head_error = Signal()
        shifted = Signal(range(beats + 1))
        full = Signal()
        leaves = Signal()
        shift = Signal()
        m.d.comb += [
            beat_fifo.w_data.eq(Cat(self.read.beats.payload.data, self.read.beats.payload.error)),
            beat_fifo.w_en.eq(self.read.beats.valid),
            self.read.beats.ready.eq(1),
            full.eq(shifted == beats),
            shift.eq(beat_fifo.r_rdy & (~full | leaves)),
            beat_fifo.r_en.eq(shift),
            self.halt.eq(self.report.valid | self.stop),
        ]
        with m.If(shift):
            m.d.sync += [
                head.eq(Cat(head[arch.bus_bits:], beat_fifo.r_data[:-1])),
                head_error.eq(beat_fifo.r_data[-1] | (head_error & ~leaves)),
            ]
        with m.If(self.start):
            m.d.sync += [shifted.eq(0), head_error.eq(0)]
        with m.Elif(leaves):
            m.d.sync += shifted.eq(shift)
            with m.If(~shift):
                m.d.sync += head_error.eq(0)
        with m.Elif(shift):
            m.d.sync += shifted.eq(shifted + 1)

        position = Signal(32, reset_less=True)
        with m.If(self.start):
            m.d.sync += position.eq(self.program)
        with m.Elif(leaves):
            m.d.sync += position.eq(position + isa.INSTRUCTION_BYTES)

        common = isa.layout(Opcode.END)(head[:isa.layout(Opcode.END).size])
        is_end = Signal()
        m.d.comb += is_end.eq(full & (common.opcode == Opcode.END))
        missing = self._elaborate_fetch(m, leaves, is_end)
        fault = self._elaborate_dispatch(m, head, full, leaves, is_end)
        with m.If(full & head_error):
            m.d.comb += fault.eq(ErrorCode.BUS)
        with m.Elif(missing):
            m.d.comb += fault.eq(ErrorCode.WINDOW)
        self._elaborate_report(m, fault, leaves, common.layer, position)
        return m

    def _elaborate_fetch(self, m, leaves, is_end):
        """Requests; returns the signal that the instruction needed next lies outside."""
        # An instruction is three chunks of 16 bytes, and chunks never straddle a page.
        chunk_beats = 128 // self.arch.bus_bits
        offset = Signal(32, reset_less=True)
        rest = Signal(2)
        slots = Signal(range(FETCHES + 1))
        refused = Signal()
        length = Signal(2)
        request = self.read.request
        m.d.comb += [
            length.eq(rest),
            request.valid.eq(self.busy & ~self.halt & ~is_end & ~refused
                             & ((slots != 0) | (rest != 3))),
            request.payload.offset.eq(offset),
            request.payload.beats.eq(length * chunk_beats),
        ]
        with m.If(offset[4:12] == 255):
            m.d.comb += length.eq(1)
        with m.Elif((offset[4:12] == 254) & rest[0]):
            m.d.comb += length.eq(2)

        taken = request.valid & request.ready
        begun = Signal()
        m.d.comb += begun.eq(taken & (rest == 3))
        with m.If(self.start):
            m.d.sync += [
                offset.eq(self.program),
                rest.eq(3),
                slots.eq(FETCHES),
                refused.eq(0),
            ]
        with m.Else():
            with m.If(taken):
                m.d.sync += [
                    offset[4:].eq(offset[4:] + length),
                    rest.eq(Mux(length == rest, 3, rest - length)),
                    refused.eq(self.read.refused),
                ]
            with m.If(begun & ~leaves):
                m.d.sync += slots.eq(slots - 1)
            with m.Elif(leaves & ~begun):
                m.d.sync += slots.eq(slots + 1)
        # what is not outside has been fetched and has left
        return refused & (slots == FETCHES - 1)

    def _elaborate_dispatch(self, m, head, full, leaves, is_end):
        """Queues; returns the signal that holds the error code of the head, or 0."""
        first = Signal()
        room = Signal()
        legal = Signal()
        fault = Signal(4)
        opcode = head[:4]
        go = Signal()
        m.d.comb += [
            go.eq(self.busy & full & ~self.halt & (fault == 0)),
            leaves.eq(go & room),
        ]
        queues = {}
        for code in Opcode:
            if code.unit is None:
                continue
            queues[code] = queue = fifo.SyncFIFO(width=isa.layout(code).size,
                                                 depth=self.arch.queue_depth)
            m.submodules[f"queue_{code.name.lower()}"] = queue
            m.d.comb += [
                queue.w_data.eq(head),
                queue.w_en.eq(go & (opcode == code)),
                self.o[code.unit].payload.eq(queue.r_data),
                self.o[code.unit].valid.eq(queue.r_rdy),
                queue.r_en.eq(self.o[code.unit].ready),
            ]
        begin = isa.layout(Opcode.BEGIN)(head[:isa.layout(Opcode.BEGIN).size])
        with m.Switch(opcode):
            with m.Case(Opcode.BEGIN):
                m.d.comb += [legal.eq(first), room.eq(1)]
            for code, queue in queues.items():
                view = isa.layout(code)(head[:isa.layout(code).size])
                with m.Case(code):
                    m.d.comb += [legal.eq(~first & is_legal(self.arch, code, view)),
                                 room.eq(queue.w_rdy)]
            with m.Case(Opcode.END):
                m.d.comb += [
                    legal.eq(~first),
                    room.eq(~Cat(queue.r_rdy for queue in queues.values()).any()
                            & (self.unit_busy == 0) & self.quiet),
                ]
        with m.If(self.busy & full):
            with m.If(~legal):
                m.d.comb += fault.eq(ErrorCode.ILLEGAL)
            with m.Elif(first & (begin.identity != identity(self.arch))):
                m.d.comb += fault.eq(ErrorCode.IDENTITY)

        with m.If(self.start):
            m.d.sync += [first.eq(1), self.busy.eq(1), self.done.eq(0)]
        with m.Elif(leaves):
            m.d.sync += first.eq(0)
            with m.If(is_end):
                m.d.sync += [self.busy.eq(0), self.done.eq(1)]
        with m.If(self.halt):
            m.d.sync += self.busy.eq(0)
        return fault

    def _elaborate_report(self, m, fault, leaves, layer, position):
        countdown = Signal(32, reset_less=True)
        expired = Signal()
        m.d.comb += expired.eq((countdown == 0) & (self.watchdog != 0))
        with m.If(self.start | leaves | self.progress | self.read.beats.valid):
            m.d.sync += countdown.eq(self.watchdog)
        with m.Else():
            m.d.sync += countdown.eq(countdown - 1)

        with m.If(self.busy & ~self.halt):
            own = self.report
            with m.If(self.overflow | expired | (fault != 0)):
                m.d.sync += [
                    own.valid.eq(1),
                    own.unit.eq(SEQUENCER),
                    own.layer.eq(layer),
                    own.address.eq(position),
                    own.code.eq(Mux(fault != 0, fault,
                                    Mux(expired, ErrorCode.WATCHDOG, ErrorCode.TOKENS))),
                ]
            for unit in reversed(Unit):
                with m.If(self.reports[unit].valid):
                    m.d.sync += own.eq(self.reports[unit])


def is_legal(arch, opcode, view):
    """Whether a chip executes the instruction in `view`, a view of `isa.layout(opcode)`: no token
    goes to or comes from the unit itself, every field is in its range, and none has a value of
    `legality.OPTIONS` that needs what the chip lacks."""
    legal = ~view.wait[opcode.unit] & ~view.signal[opcode.unit]
    for item in isa.OPCODES[opcode]:
        if item.least is not None or item.most is not None:
            legal &= _within(view[item.name], item.low, item.high)
    for option in OPTIONS:
        if option.opcode == opcode and option.missing(arch):
            legal &= ~_within(view[option.field], option.low, option.high)
    return legal


def _within(value, low, high):
    """Whether a field is from `low` to `high`; what its width says already takes no logic."""
    shape = value.shape()
    least = -(1 << shape.width - 1) if shape.signed else 0
    most = least + (1 << shape.width) - 1
    if low == high:
        return value == low
    if low == least:
        return value <= high
    above = value != least if low == least + 1 else value >= low
    return above if high == most else above & (value <= high)
