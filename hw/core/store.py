"""Store: writes results to external memory."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, fifo, stream
from amaranth.lib.wiring import In, Out
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Opcode, Unit
from systolith.hw.spec.numbers import PAGE_BYTES
from systolith.hw.spec.registers import REPORT, ErrorCode, UnitState
from systolith.hw.spec.timing import STORE_BURSTS, burst_limit

from .axi import AXI4Signature, times
from .unit import ExecutionUnit

__all__ = ["Store"]

_LAYOUT = isa.layout(Opcode.STORE)

#: What is kept of a burst until its response comes; `signal` in an instruction's last burst only.
_OUTSTANDING = data.StructLayout({"offset": _LAYOUT["address"].shape,
                                  "layer": _LAYOUT["layer"].shape,
                                  "signal": _LAYOUT["signal"].shape})


class _Position:
    """Registers that say where the next burst begins, and what is left of its instruction."""

    def __init__(self, run_beats: Signal) -> None:
        address = _LAYOUT["address"].shape
        self.offset = Signal(address, reset_less=True)          # of the next burst
        self.run = Signal(address, reset_less=True)             # of the run's first byte
        self.row = Signal(address, reset_less=True)             # of the row's first byte
        self.left = Signal.like(run_beats, reset_less=True)     # beats of the run
        self.runs = Signal(_LAYOUT["items"].shape, reset_less=True)     # of the row
        self.rows = Signal(_LAYOUT["rows"].shape, reset_less=True)


class _Burst:
    """Registers of the burst whose beats are being made."""

    def __init__(self, beat_bits: int, limit: int) -> None:
        self.promised = Signal()        # it is begun, beats are left to be made
        self.lanes = Signal(beat_bits)  # its first byte within a beat
        self.beats = Signal(range(limit + 1), reset_less=True)      # left
        self.last_burst = Signal(reset_less=True)                   # of its instruction


class Store(ExecutionUnit):
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
    i, available, take, give, busy, progress, state, missing
        See `UnitSignature`. `busy`: an instruction has been started and its tokens have not been
        given. `progress`: a handshake takes place on AW, W or B.
    items : In(stream of arch.item_bits)
        A group in its lowest 8 * group_bytes bits or a raw chunk in its lowest 8 * raw_bytes.
    axi : Out(AXI4Signature.part("aw", "w", "b"))
    window_base, window_size : In(32)
        Base (a multiple of 4096) that is added to offsets, and bytes in the window.
    halt : In(1)
    quiet : Out(1)
        Nothing is on AW or W, promised, or outstanding.
    report : Out(REPORT)
        A burst outside the window, which is not begun, or a bus error; its first byte.
    """

    def __init__(self, *, arch: Arch) -> None:
        super().__init__(Opcode.STORE, arch=arch, own={
            "items": In(stream.Signature(arch.item_bits)),
            "axi": Out(AXI4Signature(32, arch.bus_bits).part("aw", "w", "b")),
            "window_base": In(32), "window_size": In(32),
            "halt": In(1), "quiet": Out(1), "report": Out(REPORT),
        })

    def elaborate(self, platform):
        m = Module()
        most = max(self._item_beats().values())
        item_beats = Signal(range(most + 1))
        run_beats = Signal(_LAYOUT["items"].width + most.bit_length())
        with m.Switch(self.i.payload.raw):
            for raw, count in self._item_beats().items():
                with m.Case(raw):
                    m.d.comb += [
                        item_beats.eq(count),
                        run_beats.eq(Mux(self.i.payload.burst,
                                         times(self.i.payload.items, count), count)),
                    ]

        started = Signal()      # an instruction is in work
        position = _Position(run_beats)
        burst = _Burst(self._beat_bits(), burst_limit(self.arch))
        m.submodules.bursts = bursts = fifo.SyncFIFO(width=_OUTSTANDING.size, depth=STORE_BURSTS)
        start = self._elaborate_start(m, started, position, run_beats)
        begin, outside = self._elaborate_bursts(m, started, position, run_beats, burst, bursts)
        make = self._elaborate_beats(m, started, burst, item_beats)
        answer = self._elaborate_responses(m, bursts)
        self._elaborate_state(m, started, burst, bursts, begin | make | start)
        self._elaborate_report(m, answer, outside, position.offset)
        return m

    def _item_bytes(self) -> dict[int, int]:
        """Bytes of an item by the instruction's field `raw`."""
        return {0: self.arch.group_bytes, 1: self.arch.raw_bytes}

    def _item_beats(self) -> dict[int, int]:
        """Beats of an item by the instruction's field `raw`."""
        return {raw: max(1, size // self.arch.beat_bytes)
                for raw, size in self._item_bytes().items()}

    def _beat_bits(self) -> int:
        """Bits of an address within a beat."""
        return (self.arch.beat_bytes - 1).bit_length()

    def _runs_in_row(self):
        return Mux(self.i.payload.burst, 1, self.i.payload.items)

    def _elaborate_start(self, m, started, position, run_beats):
        """Takes an instruction's tokens and first position; returns the signal of that cycle."""
        instruction = self.i.payload
        start = Signal()
        m.d.comb += [
            self.missing.eq(Mux(started, 0, instruction.wait & ~self.available)),
            start.eq(self.i.valid & ~started & (self.missing == 0) & ~self.halt),
            self.take.eq(Mux(start, instruction.wait, 0)),
        ]
        with m.If(start):
            m.d.sync += [
                started.eq(1),
                position.offset.eq(instruction.address),
                position.run.eq(instruction.address),
                position.row.eq(instruction.address),
                position.left.eq(run_beats),
                position.runs.eq(self._runs_in_row()),
                position.rows.eq(instruction.rows),
            ]
        return start

    def _elaborate_bursts(self, m, started, position, run_beats, burst, bursts):
        """Begins bursts on AW and goes on to the next position; returns the signal of a burst that
        begins, and of one that would but lies outside the window."""
        axi, instruction = self.axi, self.i.payload
        beat_bits, page_bits = self._beat_bits(), (PAGE_BYTES - 1).bit_length()
        limit = burst_limit(self.arch)
        limit_bits = (limit - 1).bit_length()
        offset, left = position.offset, position.left
        reach = Signal(range(limit + 1))
        run_ends = Signal()
        length = Signal(range(limit + 1))
        last_beat = Signal(len(offset) - beat_bits)
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
            ready.eq(started & ~burst.promised & self.items.valid & bursts.w_rdy & ~self.halt
                     & (~axi.awvalid | axi.awready)),
            begin.eq(ready & ~outside),
        ]
        next_row = position.row + instruction.row_stride
        next_run = position.run + instruction.item_stride
        ends = run_ends & (position.runs == 1) & (position.rows == 1)
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
                burst.lanes.eq(offset[:beat_bits]),
                burst.beats.eq(length),
                burst.promised.eq(1),
                burst.last_burst.eq(ends),
            ]
            with m.If(~run_ends):
                m.d.sync += [
                    offset[beat_bits:].eq((beat_offset[limit_bits:] + 1) << limit_bits),
                    left.eq(left - reach),
                ]
            with m.Elif(position.runs != 1):
                m.d.sync += [
                    offset.eq(next_run),
                    position.run.eq(next_run),
                    left.eq(run_beats),
                    position.runs.eq(position.runs - 1),
                ]
            with m.Else():
                m.d.sync += [
                    offset.eq(next_row),
                    position.run.eq(next_row),
                    position.row.eq(next_row),
                    left.eq(run_beats),
                    position.runs.eq(self._runs_in_row()),
                    position.rows.eq(position.rows - 1),
                ]
        return begin, ready & outside

    def _elaborate_beats(self, m, started, burst, item_beats):
        """Makes the beats of the burst that is begun, on W; returns the signal of a beat."""
        axi = self.axi
        beats = burst.beats
        free = ~axi.wvalid | axi.wready
        make = Signal()
        beat = Signal(range(max(self._item_beats().values())))      # of the item
        item_ends = beat == (item_beats - 1)
        m.d.comb += [
            make.eq(burst.promised & free & (self.items.valid | self.halt)),
            self.items.ready.eq(make & item_ends & ~self.halt),
            self.i.ready.eq(make & (beats == 1) & burst.last_burst),
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
                m.d.sync += burst.promised.eq(0)
                with m.If(burst.last_burst):
                    m.d.sync += started.eq(0)
            with m.Switch(self.i.payload.raw):
                for raw, size in self._item_bytes().items():
                    with m.Case(raw):
                        self._elaborate_beat(m, size, beat, burst.lanes)
            with m.If(self.halt):
                m.d.sync += axi.wstrb.eq(0)
        return make

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

    def _elaborate_responses(self, m, bursts):
        """Takes responses and gives the tokens of instructions that are answered whole; returns
        what is kept of the burst that is answered next."""
        answer = data.View(_OUTSTANDING, bursts.r_data)
        m.d.comb += [
            self.axi.bready.eq(1),
            bursts.r_en.eq(self.axi.bvalid),
        ]
        m.d.sync += self.give.eq(Mux(self.axi.bvalid, answer.signal, 0))
        return answer

    def _elaborate_state(self, m, started, burst, bursts, moves):
        """What the sequencer and the registers see; `moves`: something is begun or made."""
        axi = self.axi
        works = Signal()
        m.d.comb += [
            works.eq(started | bursts.r_rdy | (self.give != 0)),
            self.busy.eq(works),
            self.progress.eq((axi.awvalid & axi.awready) | (axi.wvalid & axi.wready) | axi.bvalid),
            self.quiet.eq(~axi.awvalid & ~axi.wvalid & ~burst.promised & ~bursts.r_rdy),
            self.state.eq(UnitState.IDLE),
        ]
        with m.If(moves):
            m.d.comb += self.state.eq(UnitState.RUNNING)
        with m.Elif(started & ~self.items.valid):
            m.d.comb += self.state.eq(UnitState.UNIT)
        with m.Elif(started | bursts.r_rdy):
            m.d.comb += self.state.eq(UnitState.MEMORY)
        with m.Elif(self.i.valid & (self.missing != 0) & ~works):
            m.d.comb += self.state.eq(UnitState.TOKENS)
        with m.Elif(works | self.i.valid):
            m.d.comb += self.state.eq(UnitState.RUNNING)

    def _elaborate_report(self, m, answer, outside, offset):
        """A bus error of the burst that is answered, or the one at `offset` outside the window."""
        # The unit's number is not set once for both: a constant of its own, as part of a signal
        # whose other parts change, is lost where Verilog simulators wait for a change.
        with m.If(self.axi.bvalid & (self.axi.bresp != 0)):
            m.d.comb += [
                self.report.valid.eq(1),
                self.report.unit.eq(Unit.STORE),
                self.report.code.eq(ErrorCode.BUS),
                self.report.layer.eq(answer.layer),
                self.report.address.eq(answer.offset),
            ]
        with m.Elif(outside):
            m.d.comb += [
                self.report.valid.eq(1),
                self.report.unit.eq(Unit.STORE),
                self.report.code.eq(ErrorCode.WINDOW),
                self.report.layer.eq(self.i.payload.layer),
                self.report.address.eq(offset),
            ]
