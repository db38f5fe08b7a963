"""Store: writes results to external memory."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Opcode, Unit
from systolith.hw.spec.registers import REPORT, ErrorCode, UnitState
from systolith.hw.spec.timing import STORE_BURSTS, burst_limit
from systolith.hw.spec.widths import offset_bits, where_bits

from .axi import AXI4Signature, times
from .burst_queue import BurstQueue
from .bursts import Bursts, Outside
from .unit import ExecutionUnit

__all__ = ["Store"]

_LAYOUT = isa.layout(Opcode.STORE)


class _Burst:
    """Registers of the burst whose beats are being made, and of the one that is begun after it."""

    def __init__(self, lanes: int, more: int, last: int) -> None:
        self.promised = Signal()                # it is begun, beats are left to be made
        self.lanes = Signal(lanes, reset_less=True)     # its first byte within a beat, in items
        self.raw = Signal(reset_less=True)
        self.last = Signal(last, reset_less=True)       # the last beat of its items, if not raw
        self.more = Signal(more, reset_less=True)       # beats after the next one
        self.ends = Signal()                    # its last beat is made in this cycle
        self.waits = Signal()                   # the next one of the same run is begun, too
        self.more_then = Signal.like(self.more)         # of that one


class Store(ExecutionUnit):
    """Executes STORE instructions on the items that post-processing sends.

    A run is what bursts may span: with `burst` all items of a row, otherwise one item, or its first
    `item_beats` beats. A front half makes runs, which `Bursts` cuts; a back half begins bursts on
    AW and makes their beats. The front works ahead, into the next instruction. Up to `STORE_BURSTS`
    bursts are outstanding.

    Timing of the front: the first run of an instruction that is at `i` from cycle v on is ready
    from v + 1; the next ones two cycles after the one before was handed to `Bursts`. An instruction
    is started (tokens taken) with its first run: in the first cycle in which the run is ready,
    tokens are available and `Bursts` accepts. With its last run it is popped from `i`.
    A burst is taken from `Bursts` in the cycle after it was begun.

    Timing of the back: a burst is begun in the first cycle in which `Bursts` offers it, an item is
    at `items`, the one before has made its beats and AW is free, and fewer than `STORE_BURSTS` are
    outstanding (a response in cycle t makes room from t + 1). One that goes on with a run does not
    wait for beats and item while the burst before has beats to make, if no other one waits. Begun
    in cycle b, it is on AW from b + 1, and its beats are made from b + 1 on, after those of the
    burst before, one in every cycle in which there is an item and the W channel is free or accepts;
    a beat made in cycle t is on W from t + 1. An item is taken in the cycle in which the last beat
    that is written of it is made. When the last response comes in cycle t, `give` is high in cycle
    t + 1; responses are accepted at once, but in no two cycles that follow each other.

    A burst outside the window is not begun. It is reported when those before it are answered, and
    no further one is begun.

    While `halt` is high nothing is begun, and the beats of a burst that was begun are sent without
    strobes and without items. It ends with a reset.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    i, available, take, give, busy, progress, state, missing
        See `UnitSignature`. `busy`: an instruction has been started and its tokens have not been
        given. `progress`: a handshake took place on AW, W or B in the cycle before.
    items : In(stream of arch.item_bits)
        A group in its lowest 8 * group_bytes bits or a raw chunk in its lowest 8 * raw_bytes.
    axi : Out(AXI4Signature.part("aw", "w", "b"))
    window_base, window_size : In(32)
        Base (a multiple of 4096) that is added to offsets, and bytes in the window.
    halt : In(1)
    quiet : Out(1)
        Nothing is on AW or W, promised, or outstanding.
    report : Out(REPORT)
        In the cycle after: a burst outside the window, a bus error (the address is the burst's
        first byte), or a response that nothing waits for or that has another identifier.
    """

    def __init__(self, *, arch: Arch) -> None:
        super().__init__(Opcode.STORE, arch=arch, own={
            "items": In(stream.Signature(arch.item_bits)),
            "axi": Out(AXI4Signature(32, arch.bus_bits).part("aw", "w", "b")),
            "window_base": In(32), "window_size": In(32),
            "halt": In(1), "quiet": Out(1), "report": Out(REPORT),
        })
        #: What goes along with a run. `lanes`: the item's place in the beat, where it is smaller;
        #: `last`: the last beat of its items, where they are groups.
        self._tag = data.StructLayout({
            "lanes": self._beat_bits() - self._unit_bits(), "raw": 1, "final": 1,
            "last": range(arch.group_beats),
            "layer": where_bits(arch, _LAYOUT["layer"].width),
            "signal": _LAYOUT["signal"].shape})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        run_bits = len(self.i.payload.items) + max(self._item_beats().values()).bit_length()
        m.submodules.bursts = bursts = Bursts(arch=self.arch, run_bits=run_bits, tag=self._tag)
        #: What is kept of a burst until its response comes; `signal` in an instruction's last only.
        entry = data.StructLayout({
            "refused": 1, "signal": _LAYOUT["signal"].shape, "layer": self._tag["layer"].shape,
            "offset": where_bits(self.arch, len(bursts.o.payload.offset))})
        m.submodules.outstanding = queue = BurstQueue(width=entry.size, depth=STORE_BURSTS)
        answer = data.View(entry, queue.oldest)

        started, missing = self._elaborate_front(m, bursts.run)
        burst = _Burst(len(bursts.o.payload.tag.lanes), (burst_limit(self.arch) - 1).bit_length(),
                       len(bursts.o.payload.tag.last))
        begin = self._elaborate_bursts(m, bursts.o, burst, queue, data.View(entry, queue.new))
        make = self._elaborate_beats(m, burst)
        self._elaborate_responses(m, queue, answer)
        front = Signal()
        m.d.comb += front.eq(started | bursts.busy)
        self._elaborate_state(m, front, bursts.o.valid, burst, queue,
                              (begin & ~burst.promised) | make, missing)
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

    def _unit_bits(self) -> int:
        """Lowest bits of addresses that are always 0: within a beat, and within an item."""
        return (min(self.arch.beat_bytes, *self._item_bytes().values()) - 1).bit_length()

    def _elaborate_front(self, m, run):
        """Starts instructions and makes their runs; returns the signal that there are more runs to
        come of one that is started, and the units whose tokens are missing."""
        instruction = self.i.payload
        unit_bits, lane_bits = self._unit_bits(), len(run.payload.tag.lanes)
        beats = Signal.like(run.payload.beats)
        last = Signal.like(run.payload.tag.last)
        part = instruction.item_beats.any() if len(instruction.item_beats) else Const(0)
        m.d.comb += last.eq(Mux(part, instruction.item_beats - 1, self.arch.group_beats - 1))
        with m.Switch(instruction.raw):
            for raw, count in self._item_beats().items():
                written = count if raw else Mux(part, instruction.item_beats, count)
                with m.Case(raw):
                    m.d.comb += beats.eq(Mux(instruction.burst, times(instruction.items, count),
                                             written))

        # the run that is ready, or was the last one; addresses as far as they can be other than 0
        ready = Signal()
        place_bits = offset_bits(self.arch) - unit_bits
        offset = Signal(place_bits, reset_less=True)
        row = Signal(place_bits, reset_less=True)           # of the row's first run
        length = Signal.like(beats, reset_less=True)
        wait = Signal.like(instruction.wait, reset_less=True)
        row_ends = Signal()
        last_row = Signal()
        # of the run to be made ready: its number in the row, and that of its row, from 1 up
        number = Signal(_LAYOUT["items"].shape, init=1)
        row_number = Signal(_LAYOUT["rows"].shape, init=1)

        started = Signal()
        missing = Signal.like(self.missing)
        accept = Signal()
        final = Signal()
        m.d.comb += [
            final.eq(row_ends & last_row),
            missing.eq(Mux(ready, wait & ~self.available, 0)),
            run.valid.eq(ready & ((wait & ~self.available) == 0)),
            accept.eq(run.valid & run.ready),
            self.take.eq(Mux(accept, wait, 0)),
            self.i.ready.eq(accept & final),
            run.payload.offset.eq(offset[lane_bits:]),
            run.payload.beats.eq(length),
            run.payload.tag.lanes.eq(offset[:lane_bits]),
            run.payload.tag.raw.eq(instruction.raw),
            run.payload.tag.last.eq(last),
            run.payload.tag.layer.eq(instruction.layer),
            run.payload.tag.signal.eq(instruction.signal),
            run.payload.tag.final.eq(final),
        ]
        # What the next run begins at is added up of registers, from the run's second cycle on.
        following, origin, by = (Signal(place_bits, name=name, reset_less=True)
                                 for name in ("following", "origin", "by"))
        stride = Mux(row_ends, instruction.row_stride, instruction.item_stride)
        m.d.sync += [origin.eq(Mux(row_ends, row, offset)), by.eq(stride[unit_bits:])]
        m.d.comb += following.eq(origin + by)
        with m.If(ready & row_ends):        # whether it is accepted is known late
            m.d.sync += number.eq(1)
        with m.If(ready & final):
            m.d.sync += row_number.eq(1)
        with m.If(accept):
            m.d.sync += [ready.eq(0), started.eq(~final)]
        with m.Elif(self.i.valid & ~ready):
            m.d.sync += [
                ready.eq(1), length.eq(beats), wait.eq(Mux(started, 0, instruction.wait)),
                offset.eq(Mux(started, following, instruction.address[unit_bits:])),
                row_ends.eq(instruction.burst | (number == instruction.items)),
                number.eq(number + 1),
            ]
            with m.If(~started | row_ends):
                m.d.sync += [
                    row.eq(Mux(started, following, instruction.address[unit_bits:])),
                    last_row.eq(row_number == instruction.rows),
                    row_number.eq(row_number + 1),
                ]
        return started, missing

    def _elaborate_bursts(self, m, offered, burst, queue, new):
        """Begins bursts on AW; returns the signal of that cycle. `new`: what is kept of it."""
        axi, tag = self.axi, offered.payload.tag
        m.submodules.window_check = check = Outside(arch=self.arch)
        closed = Signal()           # one was outside
        begin = Signal()
        m.d.comb += [
            check.offset.eq(offered.payload.offset), check.last.eq(offered.payload.last),
            check.window_base.eq(self.window_base), check.window_size.eq(self.window_size),
            # An address whose data depends on other units is sent when the data is there, or it
            # might keep a simple slave from serving them; a run's later bursts follow the first.
            begin.eq(offered.valid & ~queue.full & ~burst.waits & ~axi.awvalid & ~closed
                     & ~self.halt & Mux(burst.promised, ~offered.payload.first, self.items.valid)),
            axi.awsize.eq(self._beat_bits()),
            axi.awburst.eq(1),
            queue.write.eq(begin),
            new.refused.eq(check.outside),
            new.signal.eq(Mux(offered.payload.ends & tag.final, tag.signal, 0)),
            new.layer.eq(tag.layer),
            new.offset.eq(offered.payload.offset),
        ]
        # A cycle later, because much follows from it in the front half. In that cycle nothing is
        # begun: AW is in use, or all is shut.
        m.d.sync += offered.ready.eq(begin)
        with m.If(axi.awready):
            m.d.sync += axi.awvalid.eq(0)
        with m.If(~axi.awvalid):
            m.d.sync += [axi.awaddr.eq(check.address), axi.awlen.eq(check.length)]
        with m.If(begin):
            m.d.sync += [axi.awvalid.eq(~check.outside), closed.eq(check.outside)]
        goes = begin & ~check.outside
        with m.If(~burst.promised):         # in a run's later bursts they are as in its first
            m.d.sync += [burst.lanes.eq(tag.lanes), burst.raw.eq(tag.raw), burst.last.eq(tag.last)]
        with m.If(~burst.waits):
            m.d.sync += burst.more_then.eq(check.length)
        with m.If(~burst.promised | burst.ends):
            m.d.sync += [burst.more.eq(Mux(burst.waits, burst.more_then, check.length)),
                         burst.promised.eq(burst.waits | goes), burst.waits.eq(0)]
        with m.Elif(goes):
            m.d.sync += burst.waits.eq(1)
        return begin

    def _elaborate_beats(self, m, burst):
        """Makes the beats of the burst that is begun, on W; returns the signal of a beat."""
        axi = self.axi
        item_beats = self._item_beats()
        free = ~axi.wvalid | axi.wready
        make = Signal()
        last = Signal()
        beat = Signal(range(max(item_beats.values())))      # of the item
        item_ends = beat == Mux(burst.raw, item_beats[1] - 1, burst.last)
        m.d.comb += [
            make.eq(burst.promised & free & (self.items.valid | self.halt)),
            last.eq(burst.more == 0),
            burst.ends.eq(make & last),
            self.items.ready.eq(burst.promised & free & item_ends & ~self.halt),
        ]
        with m.If(axi.wready):
            m.d.sync += axi.wvalid.eq(0)
        with m.If(make):
            m.d.sync += [
                axi.wvalid.eq(1),
                beat.eq(Mux(item_ends, 0, beat + 1)),
            ]
        with m.If(make & ~last):
            m.d.sync += burst.more.eq(burst.more - 1)
        with m.If(free):
            m.d.sync += axi.wlast.eq(last)
            with m.Switch(burst.raw):
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
            item_bits = (size - 1).bit_length()
            m.d.sync += [
                self.axi.wdata.eq(self.items.payload[:8 * size].replicate(
                    arch.beat_bytes // size)),
                self.axi.wstrb.eq(((1 << size) - 1) << Cat(
                    Const(0, item_bits), lanes[item_bits - self._unit_bits():])),
            ]

    def _elaborate_responses(self, m, queue, answer):
        """Takes responses, gives the tokens of instructions that are answered whole, and reports
        what went wrong."""
        axi = self.axi
        refused = Signal()
        answered = Signal()
        m.d.comb += [
            # one that nothing waits for, too
            axi.bready.eq(queue.some | ~queue.held),
            refused.eq(queue.some & answer.refused),
            queue.read.eq(queue.some & (axi.bvalid | answer.refused)),
            answered.eq(axi.bvalid & axi.bready),
        ]
        # The unit's number is assigned with the rest: a constant of its own, as part of a signal
        # whose other parts change, is lost where Verilog simulators wait for a change.
        m.d.sync += [
            self.give.eq(Mux(axi.bvalid & queue.some, answer.signal, 0)),
            self.report.valid.eq(refused | (answered & ((axi.bresp != 0) | (axi.bid != 0)
                                                         | ~queue.some))),
            self.report.unit.eq(Unit.STORE),
            self.report.code.eq(Mux(~queue.some | (axi.bvalid & (answer.refused | (axi.bid != 0))),
                                    ErrorCode.PROTOCOL,
                                    Mux(answer.refused, ErrorCode.WINDOW, ErrorCode.BUS))),
            self.report.layer.eq(answer.layer),
            self.report.address.eq(Cat(Const(0, self._beat_bits()), answer.offset)),
        ]

    def _elaborate_state(self, m, front, offered, burst, queue, moves, missing):
        """What the sequencer and the registers see. `front`: the front half has runs or bursts of
        a started instruction; `offered`: one can be begun; `moves`: one is, or a beat is made."""
        axi = self.axi
        works = Signal()
        m.d.comb += [
            works.eq(front | burst.promised | queue.held | (self.give != 0)),
            self.busy.eq(works),
            self.quiet.eq(~axi.awvalid & ~axi.wvalid & ~burst.promised & ~queue.held),
        ]
        m.d.sync += self.progress.eq((axi.awvalid & axi.awready) | (axi.wvalid & axi.wready)
                                     | (axi.bvalid & axi.bready))
        self.say(m, (moves, UnitState.RUNNING),
                 ((front | burst.promised) & ~self.items.valid, UnitState.UNIT),
                 (burst.promised | offered | (queue.held & ~front), UnitState.MEMORY),
                 ((missing != 0) & ~works, UnitState.TOKENS),
                 (works | self.i.valid, UnitState.RUNNING))
        m.d.sync += self.missing.eq(missing)
