"""Sequencer: fetches instructions, checks them and hands them to the units' queues."""

from functools import reduce
from operator import xor

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Opcode, Unit
from systolith.hw.spec.numbers import PAGE_BYTES
from systolith.hw.spec.registers import REPORT, RESET_CYCLES, SEQUENCER, ErrorCode
from systolith.hw.spec.timing import FETCHES, code_unit
from systolith.hw.spec.widths import offset_bits, payload, where_bits

from .axi import ReadSignature
from .legality import InstructionCheck
from .queues import InstructionQueues

__all__ = ["Sequencer"]


class Sequencer(wiring.Component):
    """Runs one program from BEGIN to END.

    Each instruction is one burst, or two where it crosses a 4 KiB page. Beats are checked and
    written to the queues while they come. `busy` is high from the cycle after `start` on.

    Timing: an instruction whose last beat comes in cycle t is executed (BEGIN, END) or committed to
    its unit's queue in cycle t + 4; when it reaches its unit says `InstructionQueues`. A request
    is made in cycle t + 1 if in cycle t one could be: the last one was taken before t - 1, no queue
    is full, and fewer than `FETCHES` instructions are requested and not committed. After END
    nothing is requested, and what still comes does not matter.

    When END has been executed, all queues are empty and LOAD is not busy, BEGIN is fetched again
    and dropped: an answer that came twice would show at the latest as this one's, which has several
    beats. The program has ended when all queues are empty, no unit is busy and the bus is quiet;
    `done` is high and `busy` low two cycles later.

    Errors: the first one that a unit reports, or that is found here, is held in `report`; `halt`
    goes high three cycles after a unit's report. Nothing is committed from the cycle after on.
    Errors found here are an illegal instruction (see `InstructionCheck`; BEGIN missing or
    repeated), a wrong identity, an END whose checksum is not that of what was fetched, an
    instruction outside the window, or one that came with a bus error (not after END), and the
    watchdog. Of several in one cycle the one with the lowest unit
    number is held, the sequencer's being last.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    start : In(1)
        Pulse; only while neither `busy` nor `report.valid` is high. Also clears token counters.
    stop : In(1)
        Halts as an error does, for a reset.
    program : In(32)
        Offset of BEGIN; a multiple of 64, so that BEGIN is one burst.
    watchdog : In(32)
        Cycles without `progress` before error 5; 0: never.
    read : Out(ReadSignature)
    load, array, post, store : Out(stream of widths.payload)
        Instructions for each unit; `o[unit]` is the stream of that `Unit`.
    unit_busy : In(4)
        One bit a unit: an instruction is in work (it may already have left the queue).
    progress : In(1)
        Something has moved in this cycle, here excepted.
    quiet : In(1)
        No transaction is outstanding on the memory bus.
    overflow : In(1)
        From the token counters.
    reports : In(REPORT), of LOAD and of STORE
        The other units find no errors.
    report : Out(REPORT)
    expired : Out(1)
        Nothing has moved for `watchdog` cycles or, while `stop` is high, RESET_CYCLES. If `stop` is
        high and the bus not quiet, it is reported as ErrorCode.RESET, whatever was reported before.
    busy, done, halt : Out(1)
    """

    def __init__(self, *, arch: Arch) -> None:
        self.arch = arch
        self.beats = arch.instruction_bytes // arch.beat_bytes
        super().__init__({
            "start": In(1), "stop": In(1), "program": In(32), "watchdog": In(32),
            "read": Out(ReadSignature(arch)),
            "load": Out(stream.Signature(payload(arch, Opcode.LOAD))),
            "array": Out(stream.Signature(payload(arch, Opcode.ARRAY))),
            "post": Out(stream.Signature(payload(arch, Opcode.POST))),
            "store": Out(stream.Signature(payload(arch, Opcode.STORE))),
            "unit_busy": In(4), "progress": In(1), "quiet": In(1), "overflow": In(1),
            "reports": In(REPORT).array(2), "report": Out(REPORT),
            "expired": Out(1), "busy": Out(1), "done": Out(1), "halt": Out(1),
        })
        self.o = (self.load, self.array, self.post, self.store)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.check = check = InstructionCheck(arch=self.arch)
        m.submodules.queues = queues = InstructionQueues(arch=self.arch)
        for own, queue in zip(self.o, queues.o, strict=True):
            wiring.connect(m, wiring.flipped(own), queue)
        m.d.sync += self.halt.eq(self.report.valid | self.stop)

        # In one cycle an instruction is complete and judged, in the next one executed.
        complete, failed, opcode, layer, whole = self._elaborate_beats(m, check, queues)
        good = Signal()
        executed = Signal()
        ended = Signal()
        damaged = Signal()
        commit = Signal(len(Unit))
        ends = Signal()
        fault = Signal(4)
        faulty_layer = Signal.like(layer, reset_less=True)
        asking, position, missing, checked = self._elaborate_fetch(m, queues, executed, ended)
        first = Signal()
        # An instruction of one beat may be complete in the cycle after another one: then END, and
        # that BEGIN was the first, must be known before they are executed.
        single = self.beats == 1
        begins = Signal()               # of others the opcode is known a cycle before
        m.d["comb" if single else "sync"] += begins.eq(opcode == Opcode.BEGIN)
        wrong_order = first != begins
        over: Value = ended | (executed & ends) if single else ended
        m.d.comb += good.eq(complete & self.busy & ~over & ~self.halt & ~failed & ~check.illegal
                            & ~check.foreign & ~wrong_order)
        m.d.sync += [
            executed.eq(good), ends.eq(opcode == Opcode.END),
            commit.eq(Mux(good & _has_unit(opcode), 1 << _unit(opcode), 0)),
            fault.eq(0), faulty_layer.eq(layer),
        ]
        with m.If(complete & ~over):
            with m.If(failed):
                m.d.sync += fault.eq(ErrorCode.BUS)
            with m.Elif(check.illegal | wrong_order):
                m.d.sync += fault.eq(ErrorCode.ILLEGAL)
            with m.Elif(check.foreign):
                m.d.sync += fault.eq(ErrorCode.IDENTITY)
        with m.Elif(missing):
            m.d.sync += fault.eq(ErrorCode.WINDOW)
        m.d.comb += [queues.commit.eq(commit), damaged.eq(executed & ends & ~whole)]

        idle = Signal()
        m.d.sync += idle.eq(queues.empty & (self.unit_busy == 0) & self.quiet & ~asking & checked)
        with m.If(self.start):
            m.d.sync += [first.eq(1), ended.eq(0), self.busy.eq(1), self.done.eq(0)]
        with m.Elif(executed):
            m.d.sync += [first.eq(0), ended.eq(ends & whole)]
        with m.Elif(self.busy & ended & idle & ~self.halt):
            m.d.sync += [self.busy.eq(0), self.done.eq(1)]
        if single:
            with m.If(good):
                m.d.sync += first.eq(0)
        with m.If(self.halt):
            m.d.sync += self.busy.eq(0)
        self._elaborate_report(m, fault, damaged, executed, faulty_layer, position)
        return m

    def _elaborate_beats(self, m, check, queues):
        """From the bus to the check and to the queues' memory. Returns signals of the cycle in
        which an instruction is complete: that it is, that a beat of it came with an error, its
        opcode and its layer; and that the sum of the program to the last beat of the cycle before
        is 0."""
        beats = self.read.beats
        beat, last_beat = (Signal(self.arch.bus_bits, name=name, reset_less=True)
                           for name in ("beat", "last_beat"))
        place, last_place = (Signal(range(self.beats), name=name)
                             for name in ("place", "last_place"))
        came = Signal()
        written = Signal()
        error = Signal()
        failed = Signal()
        complete = Signal()
        head = data.StructLayout({item.name: item.width for item in isa.HEAD})
        opcode = Signal.like(check.opcode, reset_less=True)
        layer = Signal(head["layer"].shape, reset_less=True)
        m.d.comb += [
            beats.ready.eq(1),
            check.valid.eq(came), check.beat.eq(beat), check.last_beat.eq(last_beat),
            check.place.eq(place),
            queues.clear.eq(self.start),
            queues.write.eq(written & _has_unit(check.opcode)),
            queues.beat.eq(last_beat), queues.place.eq(last_place),
            queues.unit.eq(_unit(check.opcode)),
        ]
        m.d.sync += [came.eq(beats.valid), written.eq(came),
                     complete.eq(written & (last_place == self.beats - 1))]
        # (whatever the bus has: that it is a beat is known late)
        m.d.sync += [beat.eq(beats.payload.data), error.eq(beats.payload.error)]
        with m.If(came):
            m.d.sync += [last_beat.eq(beat), last_place.eq(place),
                         place.eq(Mux(place == self.beats - 1, 0, place + 1))]
        with m.If(self.start):
            m.d.sync += place.eq(0)
        with m.If(written & (last_place == 0)):
            view = head(last_beat[:head.size])
            m.d.sync += [opcode.eq(view.opcode), layer.eq(view.layer)]
        # the beat's error is known with it; what is kept is that of the beats up to the last one
        late = Signal()
        m.d.sync += late.eq(error)
        with m.If(written):
            m.d.sync += failed.eq(late | (failed & (last_place != 0)))
        if not self.arch.checksum:
            return complete, failed, opcode, layer, Const(1)
        # the sum (see END's `checksum`): a beat's words, then the words of all beats
        total = Signal(32, reset_less=True)
        if len(beat) == 32:
            words = last_beat
        else:
            words = Signal(32, reset_less=True)
            m.d.sync += words.eq(reduce(xor, (beat[n:n + 32] for n in range(0, len(beat), 32))))
        whole = Signal()
        m.d.sync += whole.eq(total == 0)
        with m.If(self.start):
            m.d.sync += total.eq(0)
        with m.Elif(written):
            m.d.sync += total.eq(Mux(last_place == 0, total.rotate_left(1), total) ^ words)
        return complete, failed, opcode, layer, whole

    def _elaborate_fetch(self, m, queues, executed, ended):
        """Requests. Returns the signal that one is made, the offset of the instruction that is
        executed next, the signal that it lies outside the window, and the signal that after END the
        last request was taken."""
        # An instruction is one or three chunks of `code_unit` bytes, and none straddles a page.
        # The next request begins at `offset`; `ahead` chunks before it have been requested and not
        # executed. `rest` are left of its instruction, `length` of them are requested at once.
        unit = code_unit(self.arch)
        chunks, unit_bits = self.arch.instruction_bytes // unit, (unit - 1).bit_length()
        page_bits = (PAGE_BYTES // unit - 1).bit_length()
        offset = Signal(offset_bits(self.arch) - unit_bits, reset_less=True)
        rest = Signal(2)
        length = Signal(2)
        now = Signal(2)
        ahead = Signal(range(chunks * FETCHES + 1))
        last = Signal(page_bits, reset_less=True)   # of the requested chunks, its place in the page
        refused = Signal()
        asking = Signal()
        taken = Signal()
        asked = Signal()
        chunk_bits = (unit // self.arch.beat_bytes - 1).bit_length()    # of a beat's number
        request = self.read.request
        rewound = Signal()
        first: Value = offset
        final: Value = last
        if self.beats == 1:
            # BEGIN alone would be one beat: with it comes the other one of an aligned pair, which
            # is in the window, too, be it the one before or the next instruction.
            first = Cat(offset[0] & ~rewound, offset[1:])
            final = Cat(last[0] | rewound, last[1:])
        m.d.comb += [
            request.valid.eq(asking),
            request.payload.offset.eq(Cat(Const(0, chunk_bits), first)),
            request.payload.last.eq(Cat(Const((1 << chunk_bits) - 1, chunk_bits), final)),
            taken.eq(asking & request.ready),
            now.eq(rest),
        ]
        if chunks > 1:
            with m.If(offset[:8] == 255):
                m.d.comb += now.eq(1)
            with m.Elif((offset[:8] == 254) & rest[0]):
                m.d.comb += now.eq(2)
        # of its last chunk, on this page or on the next one
        until = Signal(page_bits + 1)
        m.d.comb += until.eq(offset[:page_bits] + (rest - 1)[:2])
        m.d.sync += asked.eq(taken)     # then the arbiter says whether it was outside
        # after END, BEGIN once more
        checked = Signal()
        rewind = Signal()
        m.d.comb += rewind.eq(ended & ~rewound & ~asking & ~asked)
        with m.If(~asking & ~asked):
            m.d.sync += [
                length.eq(now), last.eq(until[:page_bits] | until[page_bits].replicate(page_bits)),
                asking.eq(self.busy & ~self.halt & Mux(
                    ended, rewound & ~checked & queues.empty & ~self.unit_busy[Unit.LOAD],
                    ~refused & ~queues.full
                    & ((rest != chunks) | (ahead <= chunks * (FETCHES - 1))))),
            ]
        with m.Elif(taken):
            m.d.sync += asking.eq(0)
        got = asked & ~self.read.refused
        with m.If(self.start | rewind):
            m.d.sync += [offset.eq(self.program[unit_bits:]), rest.eq(chunks)]
        with m.Elif(got):
            m.d.sync += [offset.eq(offset + length),
                         rest.eq(Mux(length == rest, chunks, rest - length))]
        with m.If(self.start):
            m.d.sync += [ahead.eq(0), refused.eq(0), asking.eq(0), rewound.eq(0), checked.eq(0)]
        with m.Else():
            m.d.sync += [rewound.eq(rewound | rewind), checked.eq(checked | (taken & rewound))]
            with m.If(asked & self.read.refused):
                m.d.sync += refused.eq(1)
            m.d.sync += ahead.eq(ahead + Mux(got, length, 0) - Mux(executed, chunks, 0))
        position = Signal(32)
        m.d.comb += position.eq((offset - ahead)[:len(offset)] << unit_bits)
        # what is not outside has come and been executed
        return asking, position, refused & ~ended & (ahead < chunks), checked

    def _elaborate_report(self, m, fault, damaged, executed, layer, position):
        # `age` counts the cycles since something moved, from 1 up, and stops beyond the watchdog.
        age = Signal(self.arch.watchdog_bits + 1, init=1)
        limit_bit = min(RESET_CYCLES.bit_length(), len(age)) - 1        # of a reset
        moved = Signal()
        waits = Signal()
        m.d.comb += waits.eq(self.busy | self.stop)
        m.d.sync += [
            moved.eq(self.start | executed | self.progress | self.read.beats.valid),
            self.expired.eq(waits & ((age == self.watchdog) | (self.stop & age[limit_bit]))),
        ]
        with m.If(moved | ~waits):
            m.d.sync += age.eq(1)
        with m.Elif(~age[-1]):
            m.d.sync += age.eq(age + 1)

        # Of a unit's report, the register before: the way from there is long.
        told = Signal(REPORT)
        one, other = self.reports
        m.d.sync += told.eq(Mux(one.valid, one.as_value(), other.as_value()))
        own = self.report
        quiet = Signal()                # a cycle later: whether it is comes late
        m.d.sync += quiet.eq(self.quiet)
        with m.If(self.stop):
            with m.If(self.expired & ~quiet):
                m.d.sync += [own.valid.eq(1), own.unit.eq(SEQUENCER), own.code.eq(ErrorCode.RESET)]
        with m.Elif(self.busy & ~own.valid):
            with m.If(told.valid):
                m.d.sync += own.eq(told)
            with m.Elif(self.overflow | self.expired | damaged | (fault != 0)):
                m.d.sync += [
                    own.valid.eq(1),
                    own.unit.eq(SEQUENCER),
                    own.layer.eq(layer[:where_bits(self.arch, len(layer))]),
                    own.address.eq(position[:where_bits(self.arch, len(position))]),
                    own.code.eq(Mux(fault != 0, fault,
                                    Mux(damaged, ErrorCode.CHECKSUM,
                                        Mux(self.expired, ErrorCode.WATCHDOG, ErrorCode.TOKENS)))),
                ]


def _has_unit(opcode):
    """Whether an opcode is one of those from LOAD to STORE."""
    return opcode[1] ^ opcode[2]


def _unit(opcode):
    """The number of the unit of an opcode that has one."""
    return Cat(opcode[0], opcode[2])
