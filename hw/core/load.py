"""Load: fills the chip's memories from external memory."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, fifo, stream
from amaranth.lib.wiring import In, Out
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Memory, Opcode, Unit
from systolith.hw.spec.memories import loadable, word_bytes
from systolith.hw.spec.registers import REPORT, ErrorCode, UnitState
from systolith.hw.spec.timing import LOAD_BURSTS, burst_limit, loads_in_work

from .axi import ReadSignature, times
from .unit import ExecutionUnit

__all__ = ["Load"]

_LAYOUT = isa.layout(Opcode.LOAD)

#: What the back half needs of an instruction.
_BETWEEN = data.StructLayout({name: _LAYOUT[name].shape for name in (
    "memory", "rows", "words", "base", "base_stride", "signal", "layer")})


class Load(ExecutionUnit):
    """Executes LOAD instructions.

    A front half asks for bursts; a back half puts the beats together into words. Up to
    `timing.loads_in_work` instructions lie between the two, so that the latency of many small loads
    overlaps. Bursts end at multiples of `timing.burst_limit` beats and at the end of a run; up to
    `LOAD_BURSTS` are outstanding.

    Timing of the front: an instruction is started (tokens taken) in the first cycle s in which it
    is at `i`, its tokens are available and there is room between front and back. Its first
    request is made in cycle s + 1; one request a cycle, while fewer than `LOAD_BURSTS` bursts are
    asked for and not completely received (a burst whose last beat comes in cycle t makes room
    from t + 1). `i` is popped with its last request; the next instruction starts in the cycle
    after at the earliest.

    Timing of the back: the instruction started in cycle s can take beats from cycle s + 2 on, or
    from two cycles after the last beat of the one before, if that is later. Beats are taken one a
    cycle, except while a finished word waits. A word whose last beat comes in cycle t is at `o`
    from cycle t + 1. When the instruction's last word is taken in cycle t, `give` is high in
    cycle t + 1.

    While `halt` is high nothing is started and nothing is asked for.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    i, available, take, give, busy, progress, state, missing
        See `UnitSignature`. `busy`: an instruction has been started and its tokens have not been
        given. `progress`: a word is taken at `o`.
    read : Out(ReadSignature)
    o : Out(stream)
        One word per transfer: `memory`, `address` (to be truncated to the memory's depth) and the
        word as each memory has it in `activation` (the operand memory, too), `weight`, `parameter`
        and, if the chip has tables, `table` (only the one that `memory` names is meaningful).
    halt : In(1)
    report : Out(REPORT)
        A bus error (address: of the burst) or a request outside the window (address: its first
        byte).
    """

    def __init__(self, *, arch: Arch) -> None:
        super().__init__(Opcode.LOAD, arch=arch, own={
            "read": Out(ReadSignature(arch.bus_bits)),
            "o": Out(stream.Signature(data.StructLayout({
                "memory": _LAYOUT["memory"].shape, "address": _LAYOUT["base"].shape,
                "activation": arch.activation_bits, "weight": arch.weight_bits,
                "parameter": arch.post_lanes * arch.parameter_bits,
                **({"table": arch.activation.width} if arch.table_depth else {})}))),
            "halt": In(1), "report": Out(REPORT),
        })

    def _word_beats(self) -> dict[Memory, int]:
        """Beats of a word of each memory."""
        arch = self.arch
        return {Memory(row.space): word_bytes(row.space, arch) // arch.beat_bytes
                for row in loadable(arch)}

    def elaborate(self, platform):
        m = Module()
        m.submodules.between = queue = fifo.SyncFIFO(
            width=_BETWEEN.size, depth=loads_in_work(self.arch))
        # the offset of every burst that is outstanding
        m.submodules.bursts = bursts = fifo.SyncFIFO(width=_LAYOUT["address"].width,
                                                    depth=LOAD_BURSTS)

        issuing = self._elaborate_front(m, queue, bursts)
        giving = self._elaborate_back(m, queue, bursts)
        waits = self.i.valid & ~issuing & (self.missing != 0)
        works = Signal()
        m.d.comb += [
            works.eq(issuing | queue.r_rdy | giving),
            self.busy.eq(works),
            self.progress.eq(self.o.valid & self.o.ready),
            self.state.eq(UnitState.IDLE),
        ]
        with m.If(self.o.valid & ~self.o.ready):
            m.d.comb += self.state.eq(UnitState.UNIT)
        with m.Elif(queue.r_rdy & ~self.read.beats.valid):
            m.d.comb += self.state.eq(UnitState.MEMORY)
        with m.Elif(waits & ~works):
            m.d.comb += self.state.eq(UnitState.TOKENS)
        with m.Elif(works | self.i.valid):
            m.d.comb += self.state.eq(UnitState.RUNNING)
        return m

    def _elaborate_front(self, m, queue, bursts):
        """Starts instructions and asks for bursts; returns the signal that one is being asked
        for."""
        arch = self.arch
        instruction = self.i.payload
        limit = burst_limit(arch)
        limit_bits = (limit - 1).bit_length()
        beat_bits = (arch.beat_bytes - 1).bit_length()
        word_beats = self._word_beats()

        row_beats = Signal(_LAYOUT["words"].width + max(word_beats.values()).bit_length())
        with m.Switch(instruction.memory):
            for memory, count in word_beats.items():
                with m.Case(memory):
                    m.d.comb += row_beats.eq(times(instruction.words, count))

        issuing = Signal()
        # everything in beats from here on
        offset = Signal(_LAYOUT["address"].width - beat_bits, reset_less=True)
        row = Signal.like(offset)
        next_row = Signal.like(offset)
        left = Signal.like(row_beats, reset_less=True)
        rows = Signal(_LAYOUT["rows"].shape, reset_less=True)
        start = Signal()
        m.d.comb += [
            self.missing.eq(Mux(issuing, 0, instruction.wait & ~self.available)),
            start.eq(self.i.valid & ~issuing & (self.missing == 0) & queue.w_rdy & ~self.halt),
            self.take.eq(Mux(start, instruction.wait, 0)),
            queue.w_en.eq(start),
            queue.w_data.eq(Cat(instruction[name] for name, _ in _BETWEEN)),
        ]

        # up to the next multiple of the limit, or the end of the row
        request = self.read.request
        reach = Signal(range(limit + 1))
        row_ends = Signal()
        m.d.comb += [
            reach.eq(limit - offset[:limit_bits]),
            row_ends.eq(left <= reach),
            next_row.eq(row + instruction.row_stride[beat_bits:]),
            request.valid.eq(issuing & bursts.w_rdy & ~self.halt),
            request.payload.offset.eq(Cat(Const(0, beat_bits), offset)),
            request.payload.beats.eq(Mux(row_ends, left, reach)),
            bursts.w_data.eq(request.payload.offset),
            bursts.w_en.eq(request.valid & request.ready & ~self.read.refused),
            self.i.ready.eq(request.valid & request.ready & row_ends & (rows == 1)),
        ]
        with m.If(start):
            m.d.sync += [
                issuing.eq(1),
                offset.eq(instruction.address[beat_bits:]),
                row.eq(instruction.address[beat_bits:]),
                left.eq(row_beats),
                rows.eq(instruction.rows),
            ]
        with m.Elif(request.valid & request.ready):
            with m.If(row_ends):
                m.d.sync += [
                    offset.eq(next_row),
                    row.eq(next_row),
                    left.eq(row_beats),
                    rows.eq(rows - 1),
                    issuing.eq(rows != 1),
                ]
            with m.Else():
                m.d.sync += [
                    offset.eq((offset[limit_bits:] + 1) << limit_bits),
                    left.eq(left - reach),
                ]
        return issuing

    def _elaborate_back(self, m, queue, bursts):
        """Puts beats together into words; returns the signal that a word or a token is on its way
        out."""
        word_beats = self._word_beats()
        instruction = data.View(_BETWEEN, queue.r_data)
        slots = max(word_beats.values())

        active = Signal()
        beat = Signal(range(slots))
        words = Signal(_LAYOUT["words"].shape, reset_less=True)
        rows = Signal(_LAYOUT["rows"].shape, reset_less=True)
        address = Signal(_LAYOUT["base"].shape, reset_less=True)
        row = Signal.like(address)
        taken = Signal()
        word_ends = Signal()
        instruction_ends = Signal()
        m.d.comb += [
            self.read.beats.ready.eq(active & (~self.o.valid | self.o.ready)),
            taken.eq(self.read.beats.valid & self.read.beats.ready),
            instruction_ends.eq(taken & word_ends & (words == 1) & (rows == 1)),
            bursts.r_en.eq(taken & self.read.beats.payload.last),
            queue.r_en.eq(instruction_ends),
        ]
        with m.Switch(instruction.memory):
            for memory, count in word_beats.items():
                with m.Case(memory):
                    m.d.comb += word_ends.eq(beat == count - 1)

        with m.If(~active):
            m.d.sync += [
                active.eq(queue.r_rdy),
                words.eq(instruction.words),
                rows.eq(instruction.rows),
                address.eq(instruction.base),
                row.eq(instruction.base),
            ]
        with m.Elif(taken):
            m.d.sync += beat.eq(Mux(word_ends, 0, beat + 1))
            with m.If(word_ends):
                m.d.sync += [words.eq(words - 1), address.eq(address + 1)]
                with m.If(words == 1):
                    next_row = (row + instruction.base_stride)[:len(row)]
                    m.d.sync += [
                        words.eq(instruction.words),
                        rows.eq(rows - 1),
                        address.eq(next_row),
                        row.eq(next_row),
                    ]
            with m.If(instruction_ends):
                m.d.sync += active.eq(0)

        giving = self._elaborate_output(m, instruction, address, taken, beat, word_ends,
                                        instruction_ends)
        self._elaborate_report(m, instruction, taken, bursts)
        return self.o.valid | giving

    def _elaborate_output(self, m, instruction, address, taken, beat, word_ends, instruction_ends):
        """The register of the word at `o` and its tokens; returns the signal that the last cycle
        has taken a word.

        The register of the beats is the register of the output: the next word's first beat comes
        in while the word leaves.
        """
        arch = self.arch
        slots = max(self._word_beats().values())
        content = Signal(slots * arch.bus_bits, reset_less=True)
        signal = Signal(4)
        giving = Signal()
        with m.If(taken):
            with m.Switch(beat):
                for slot in range(slots):
                    with m.Case(slot):
                        m.d.sync += content.word_select(slot, arch.bus_bits).eq(
                            self.read.beats.payload.data)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(taken & word_ends):
            m.d.sync += [
                self.o.valid.eq(1),
                self.o.payload.memory.eq(instruction.memory),
                self.o.payload.address.eq(address),
                signal.eq(Mux(instruction_ends, instruction.signal, 0)),
            ]
        m.d.sync += [
            giving.eq(self.o.valid & self.o.ready),
            self.give.eq(Mux(self.o.valid & self.o.ready, signal, 0)),
        ]
        groups = [content[8 * n * arch.group_bytes:][:arch.group_bits]
                  for n in range(arch.groups_per_word)]
        m.d.comb += [
            self.o.payload.activation.eq(Cat(groups)),
            self.o.payload.weight.eq(content),
            self.o.payload.parameter.eq(content),
        ]
        if arch.table_depth:
            m.d.comb += self.o.payload.table.eq(content)
        return giving

    def _elaborate_report(self, m, instruction, taken, bursts):
        """Bus errors of the back half's instruction, refused requests of the front half's."""
        with m.If(taken & self.read.beats.payload.error):
            m.d.comb += [
                self.report.valid.eq(1),
                self.report.code.eq(ErrorCode.BUS),
                self.report.layer.eq(instruction.layer),
                self.report.address.eq(bursts.r_data),
            ]
        with m.Elif(self.read.refused):
            m.d.comb += [
                self.report.valid.eq(1),
                self.report.code.eq(ErrorCode.WINDOW),
                self.report.layer.eq(self.i.payload.layer),
                self.report.address.eq(self.read.request.payload.offset),
            ]
        m.d.comb += self.report.unit.eq(Unit.LOAD)
