"""Store: writes results to external memory."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec import isa
from systolith.hw.spec.isa import Opcode, Unit
from systolith.hw.spec.numbers import PAGE_BYTES
from systolith.hw.spec.registers import REPORT, ErrorCode, UnitState
from systolith.hw.spec.timing import STORE_BURSTS, burst_limit

from .axi import AXI4Signature, times

__all__ = ["Store"]


class Store(wiring.Component):
    """Executes STORE instructions on the items that post-processing sends.

    A run is what bursts may span: with `burst` all items of a row, otherwise one item. Bursts end
    at multiples of `timing.burst_limit` beats and at the end of a run. Up to `STORE_BURSTS` are
    outstanding, of the next instruction too.

    Timing: an instruction is started (tokens taken) in the first cycle s in which it is at `i`,
    its tokens are available and the one before has left `i`. A burst is begun in the first cycle
    in which an item is at `items`, the AW channel is free or accepts, and fewer than
    `STORE_BURSTS` are outstanding (a response in cycle t makes room from t + 1): in cycle s + 1
    or, for later bursts, in the cycle after the last beat of the one before was made, at the
    earliest. Begun in cycle b, it is on AW from b + 1, and its beats are made from b + 1 on, one
    in every cycle in which there is an item and the W channel is free or accepts; a beat made in
    cycle t is on W from t + 1. An item is taken in the cycle in which its last beat is made, and
    `i` with the last one. When the last response comes in cycle t, `give` is high in cycle t + 1;
    responses are accepted at once.

    While `halt` is high nothing is started or begun, and the beats of a burst that was begun are
    sent without strobes and without items.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    i : In(stream of isa.layout(Opcode.STORE))
    available, take, give : In(4), Out(4), Out(4)
        Tokens: see `tokens.TokenCounters`.
    items : In(stream of arch.item_bits)
        A group in its lowest 8 * group_bytes bits or a raw chunk in its lowest 8 * raw_bytes.
    axi : Out(AXI4Signature.part("aw", "w", "b"))
    window_base, window_size : In(32)
        Base (a multiple of 4096) that is added to offsets, and bytes in the window.
    halt : In(1)
    busy : Out(1)
        An instruction has been started and its tokens have not been given.
    progress : Out(1)
        A handshake takes place on AW, W or B.
    quiet : Out(1)
        Nothing is on AW or W, promised, or outstanding.
    state, missing : Out(4)
        A `UnitState`, and the units whose tokens are missing.
    report : Out(REPORT)
        A burst outside the window, which is not begun, or a bus error; its first byte.
    """

    def __init__(self, *, arch):
        self.arch = arch
        super().__init__({
            "i": In(stream.Signature(isa.layout(Opcode.STORE))),
            "available": In(4), "take": Out(4), "give": Out(4),
            "items": In(stream.Signature(arch.item_bits)),
            "axi": Out(AXI4Signature(32, arch.bus_bits).part("aw", "w", "b")),
            "window_base": In(32), "window_size": In(32),
            "halt": In(1), "busy": Out(1), "progress": Out(1), "quiet": Out(1),
            "state": Out(4), "missing": Out(4), "report": Out(REPORT),
        })

    def _item_beats(self, size):
        return max(1, size // self.arch.beat_bytes)

    def elaborate(self, platform):
        m = Module()
        arch = self.arch
        axi = self.axi
        instruction = self.i.payload
        beat_bits = (arch.beat_bytes - 1).bit_length()
        page_bits = (PAGE_BYTES - 1).bit_length()
        limit = burst_limit(arch)
        limit_bits = (limit - 1).bit_length()
        kinds = {0: self._item_beats(arch.group_bytes), 1: self._item_beats(arch.raw_bytes)}
        most = max(kinds.values())

        # Beats of an item, and of a run.
        item_beats = Signal(range(most + 1))
        run_beats = Signal(16 + most.bit_length())
        with m.Switch(instruction.raw):
            for raw, count in kinds.items():
                with m.Case(raw):
                    m.d.comb += [
                        item_beats.eq(count),
                        run_beats.eq(Mux(instruction.burst, times(instruction.items, count),
                                         count)),
                    ]

        started = Signal()      # an instruction is in work
        promised = Signal()     # a burst is begun, beats are left to be made
        offset = Signal(32, reset_less=True)    # where the next burst begins
        run = Signal(32, reset_less=True)       # where the run began
        row = Signal(32, reset_less=True)       # where the row of runs began
        left = Signal.like(run_beats, reset_less=True)
        runs = Signal(16, reset_less=True)      # left in the row
        rows = Signal(12, reset_less=True)
        last_burst = Signal(reset_less=True)

        # Start.
        start = Signal()
        m.d.comb += [
            self.missing.eq(Mux(started, 0, instruction.wait & ~self.available)),
            start.eq(self.i.valid & ~started & (self.missing == 0) & ~self.halt),
            self.take.eq(Mux(start, instruction.wait, 0)),
        ]
        runs_in_row = Mux(instruction.burst, 1, instruction.items)
        with m.If(start):
            m.d.sync += [
                started.eq(1),
                offset.eq(instruction.address),
                run.eq(instruction.address),
                row.eq(instruction.address),
                left.eq(run_beats),
                runs.eq(runs_in_row),
                rows.eq(instruction.rows),
            ]

        # Begin a burst.
        outstanding = data.StructLayout({"offset": 32, "layer": 12, "signal": 4})
        m.submodules.bursts = bursts = fifo.SyncFIFO(width=outstanding.size, depth=STORE_BURSTS)
        reach = Signal(range(limit + 1))
        run_ends = Signal()
        length = Signal(range(limit + 1))
        last_beat = Signal(32 - beat_bits)
        outside = Signal()
        ready = Signal()
        begin = Signal()
        beat_offset = offset[beat_bits:]
        m.d.comb += [
            reach.eq(limit - beat_offset[:limit_bits]),
            run_ends.eq(left <= reach),
            length.eq(Mux(run_ends, left, reach)),
            # bursts stay within a page, so that no long adder is needed here
            last_beat.eq(Cat((offset[beat_bits:page_bits] + (length - 1))[:page_bits - beat_bits],
                             offset[page_bits:])),
            outside.eq(last_beat >= self.window_size[beat_bits:]),
            ready.eq(started & ~promised & self.items.valid & bursts.w_rdy & ~self.halt
                     & (~axi.awvalid | axi.awready)),
            begin.eq(ready & ~outside),
        ]
        next_row = row + instruction.row_stride
        next_run = run + instruction.item_stride
        lanes = Signal(beat_bits)
        beats = Signal(range(limit + 1), reset_less=True)
        ends = run_ends & (runs == 1) & (rows == 1)
        m.d.comb += [
            axi.awsize.eq(beat_bits),
            axi.awburst.eq(1),
            bursts.w_en.eq(begin),
            bursts.w_data.eq(Cat(offset, instruction.layer, Mux(ends, instruction.signal, 0))),
        ]
        with m.If(axi.awready):
            m.d.sync += axi.awvalid.eq(0)
        with m.If(begin):
            m.d.sync += [
                axi.awvalid.eq(1),
                axi.awaddr.eq(Cat(Const(0, beat_bits), offset[beat_bits:page_bits],
                                  offset[page_bits:] + self.window_base[page_bits:])),
                axi.awlen.eq(length - 1),
                lanes.eq(offset[:beat_bits]),
                beats.eq(length),
                promised.eq(1),
                last_burst.eq(ends),
            ]
            with m.If(~run_ends):
                m.d.sync += [
                    offset[beat_bits:].eq((beat_offset[limit_bits:] + 1) << limit_bits),
                    left.eq(left - reach),
                ]
            with m.Elif(runs != 1):
                m.d.sync += [
                    offset.eq(next_run),
                    run.eq(next_run),
                    left.eq(run_beats),
                    runs.eq(runs - 1),
                ]
            with m.Else():
                m.d.sync += [
                    offset.eq(next_row),
                    run.eq(next_row),
                    row.eq(next_row),
                    left.eq(run_beats),
                    runs.eq(runs_in_row),
                    rows.eq(rows - 1),
                ]

        # Make its beats.
        free = ~axi.wvalid | axi.wready
        make = Signal()
        beat = Signal(range(most))
        item_ends = beat == (item_beats - 1)
        m.d.comb += [
            make.eq(promised & free & (self.items.valid | self.halt)),
            self.items.ready.eq(make & item_ends & ~self.halt),
            self.i.ready.eq(make & (beats == 1) & last_burst),
        ]
        with m.If(axi.wready):
            m.d.sync += axi.wvalid.eq(0)
        with m.If(make):
            m.d.sync += [
                axi.wvalid.eq(1),
                axi.wlast.eq(beats == 1),
                beats.eq(beats - 1),
                beat.eq(Mux(item_ends, 0, beat + 1)),
            ]
            with m.If(beats == 1):
                m.d.sync += promised.eq(0)
                with m.If(last_burst):
                    m.d.sync += started.eq(0)
            with m.Switch(instruction.raw):
                for raw, size in ((0, arch.group_bytes), (1, arch.raw_bytes)):
                    with m.Case(raw):
                        self._elaborate_beat(m, size, beat, lanes)
            with m.If(self.halt):
                m.d.sync += axi.wstrb.eq(0)

        # Responses.
        answer = data.View(outstanding, bursts.r_data)
        m.d.comb += [
            axi.bready.eq(1),
            bursts.r_en.eq(axi.bvalid),
        ]
        m.d.sync += self.give.eq(Mux(axi.bvalid, answer.signal, 0))

        works = Signal()
        m.d.comb += [
            works.eq(started | bursts.r_rdy | (self.give != 0)),
            self.busy.eq(works),
            self.progress.eq((axi.awvalid & axi.awready) | (axi.wvalid & axi.wready) | axi.bvalid),
            self.quiet.eq(~axi.awvalid & ~axi.wvalid & ~promised & ~bursts.r_rdy),
            self.state.eq(UnitState.IDLE),
        ]
        with m.If(begin | make | start):
            m.d.comb += self.state.eq(UnitState.RUNNING)
        with m.Elif(started & ~self.items.valid):
            m.d.comb += self.state.eq(UnitState.UNIT)
        with m.Elif(started | bursts.r_rdy):
            m.d.comb += self.state.eq(UnitState.MEMORY)
        with m.Elif(self.i.valid & (self.missing != 0) & ~works):
            m.d.comb += self.state.eq(UnitState.TOKENS)
        with m.Elif(works | self.i.valid):
            m.d.comb += self.state.eq(UnitState.RUNNING)

        # The unit's number is not set once for both: a constant of its own, as part of a signal
        # whose other parts change, is lost where Verilog simulators wait for a change.
        with m.If(axi.bvalid & (axi.bresp != 0)):
            m.d.comb += [
                self.report.valid.eq(1),
                self.report.unit.eq(Unit.STORE),
                self.report.code.eq(ErrorCode.BUS),
                self.report.layer.eq(answer.layer),
                self.report.address.eq(answer.offset),
            ]
        with m.Elif(ready & outside):
            m.d.comb += [
                self.report.valid.eq(1),
                self.report.unit.eq(Unit.STORE),
                self.report.code.eq(ErrorCode.WINDOW),
                self.report.layer.eq(instruction.layer),
                self.report.address.eq(offset),
            ]
        return m

    def _elaborate_beat(self, m, size, beat, lanes):
        """Data and strobes of beat `beat` of an item of `size` bytes that begins at `lanes`."""
        arch = self.arch
        if size >= arch.beat_bytes:
            m.d.sync += [
                self.axi.wdata.eq(self.items.payload.word_select(beat, arch.bus_bits)),
                self.axi.wstrb.eq(-1),
            ]
        else:
            # the item stands in every place, the strobes choose one
            m.d.sync += [
                self.axi.wdata.eq(self.items.payload[:8 * size].replicate(
                    arch.beat_bytes // size)),
                self.axi.wstrb.eq(((1 << size) - 1)
                                  << Cat(Const(0, size.bit_length() - 1),
                                         lanes[size.bit_length() - 1:])),
            ]
