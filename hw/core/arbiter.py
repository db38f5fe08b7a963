"""The arbiter that shares the AXI read channels between instruction fetch and LOAD."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Opcode, Unit
from systolith.hw.spec.legality import executes
from systolith.hw.spec.memories import loadable, memory_flags, word_bytes
from systolith.hw.spec.registers import REPORT, SEQUENCER, ErrorCode
from systolith.hw.spec.timing import FETCHES, LOAD_BURSTS
from systolith.hw.spec.widths import where_bits

from .axi import AXI4Signature, ReadSignature
from .burst_queue import BurstQueue
from .bursts import Outside, burst_layout, length_bits

__all__ = ["LoadSignature", "ReadArbiter", "burst_share", "load_tag"]


def load_tag(arch: Arch) -> data.StructLayout:
    """What LOAD says of a run: the `memory` that it fills (one bit for each), the run's first word
    `base` there, the `last_beat` of each word, the instruction's `layer` and `signal`, and whether
    it is the instruction's `final` run; on chips with windows whether it is a `short` one
    (`timing.SHORT_RUN`), their steps and `spare`, too, on those with taps side by side whether a
    word's beats are `repeats` beyond them."""
    load = isa.layout(Opcode.LOAD)
    words = max(row.depth(arch) for row in loadable(arch))
    beats = max(word_bytes(row.space, arch) for row in loadable(arch)) // arch.beat_bytes
    return data.StructLayout({
        "memory": memory_flags(arch), "base": (words - 1).bit_length(), "last_beat": range(beats),
        "layer": where_bits(arch, load["layer"].width), "signal": load["signal"].shape, "final": 1,
        **({"repeats": 1} if arch.side_taps else {}),
        **({"short": 1} if arch.load_windows else {}),
        **(dict.fromkeys(("step_even", "step_odd"), load["step_even"].shape)
           | {"spare": range(arch.beat_bytes)}
           if executes(arch, Opcode.LOAD, "step_even") else {})})


def burst_share(arch: Arch, tag: data.View) -> Value:
    """What a burst counts in `LOAD_BURSTS`, 1 or 2 (`timing.load_share`)."""
    return Mux(tag.short, 1, 2) if arch.load_windows else Const(2)


class LoadSignature(wiring.Signature):
    """What LOAD has of `ReadArbiter`: bursts to ask for, and the beats that come back.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    request : Out(stream of burst_layout)
    beats : In(stream)
        `data`, `burst` (what was asked for; without its `offset` and `last`), `starts` and `stops`
        (the burst's first and last beat), in the order of requests.
    """

    def __init__(self, arch: Arch) -> None:
        self.arch = arch
        burst = burst_layout(arch, load_tag(arch))
        super().__init__({
            "request": Out(stream.Signature(burst)),
            "beats": In(stream.Signature(data.StructLayout({
                "data": arch.bus_bits, "first": 1, "ends": 1, "tag": load_tag(arch),
                "starts": 1, "stops": 1}))),
        })

    def __eq__(self, other):
        return type(other) is type(self) and other.arch == self.arch

    def __repr__(self):
        return f"LoadSignature({self.arch.name!r})"


class ReadArbiter(wiring.Component):
    """Shares the AXI read channels between instruction fetch and LOAD, with one identifier: beats
    come in the order of the addresses.

    Timing: a burst is issued in the first cycle in which the AR channel is free; it is on it from
    the cycle after, and the next one can be issued two cycles after it at the earliest. Fetch goes
    first. LOAD's request is taken in the cycle after it was issued.

    What was issued waits in a queue until its last beat has come. Its first beat is accepted from
    four cycles after it was issued on, and from two after that of the burst before. How many
    beats it has is counted; RLAST is compared with it. Bursts outside the window are taken, but
    not issued. Fetch is told so in the next cycle; LOAD's is reported when what was before it has
    come, and no further one of it is taken.

    While `halt` is high no request is taken, and beats are accepted and dropped.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    fetch : In(ReadSignature)
    load : In(LoadSignature)
    axi : Out(AXI4Signature.part("ar", "r"))
    window_base, window_size : In(32)
        Base (multiple of 4096) that is added to offsets, and bytes in the window.
    halt : In(1)
    progress : Out(1)
        In the cycle before, a handshake took place on AR or R.
    quiet : Out(1)
        No burst is on the AR channel or outstanding.
    suspect : Out(1)
        The memory has broken a rule since the last reset, so that more may come than is
        outstanding.
    report : Out(REPORT)
        In the cycle after: a bus error or a burst outside the window of LOAD's, RLAST at the wrong
        beat, a beat that nothing has asked for, or one with another identifier. The address is the
        burst's first byte.
    """

    #: Bursts that may be outstanding: those of LOAD, and fetched instructions in two parts each.
    OUTSTANDING = 1 << (LOAD_BURSTS + 2 * FETCHES - 1).bit_length()

    def __init__(self, *, arch: Arch) -> None:
        self.arch = arch
        super().__init__({
            "fetch": In(ReadSignature(arch)), "load": In(LoadSignature(arch)),
            "axi": Out(AXI4Signature(32, arch.bus_bits).part("ar", "r")),
            "window_base": In(32), "window_size": In(32), "halt": In(1),
            "progress": Out(1), "quiet": Out(1), "suspect": Out(1), "report": Out(REPORT),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        arch, axi = self.arch, self.axi
        burst = burst_layout(arch, load_tag(arch))
        entry = data.StructLayout({
            "load": 1, "more": length_bits(arch),
            "offset": where_bits(arch, burst["offset"].width),
            "first": 1, "ends": 1, "tag": load_tag(arch)})
        m.submodules.outstanding = queue = BurstQueue(width=entry.size, depth=self.OUTSTANDING,
                                                      later=1)
        self._elaborate_issue(m, queue, entry)
        head = self._elaborate_head(m, queue, entry)
        kept, load, fetch = head.burst, self.load.beats, self.fetch.beats
        m.d.comb += [
            axi.rready.eq(head.empty | head.fetch | (head.load & (load.ready | self.halt))),
            head.taken.eq(axi.rvalid & axi.rready),
            load.valid.eq(axi.rvalid & head.load & ~self.halt),
            load.payload.data.eq(axi.rdata),
            load.payload.first.eq(kept.first), load.payload.ends.eq(kept.ends),
            load.payload.tag.eq(kept.tag),
            load.payload.starts.eq(head.starts), load.payload.stops.eq(head.last),
            fetch.valid.eq(axi.rvalid & head.fetch & ~self.halt),
            fetch.payload.data.eq(axi.rdata),
            fetch.payload.error.eq(axi.rresp != 0),
            fetch.payload.last.eq(head.last),
            self.quiet.eq(head.empty & ~axi.arvalid),
        ]
        m.d.sync += self.progress.eq((axi.arvalid & axi.arready) | head.taken)
        self._elaborate_report(m, head)
        return m

    def _elaborate_issue(self, m, queue, entry):
        """Puts bursts on AR and into the queue."""
        axi, fetch, load = self.axi, self.fetch.request, self.load.request
        beat_bits = (self.arch.beat_bytes - 1).bit_length()
        m.submodules.window_check = check = Outside(arch=self.arch)
        closed = Signal()           # a burst of LOAD's was outside
        free = Signal()
        issue = Signal()
        # In the cycle before one was issued, and it is on AR where it was not outside.
        issued = Signal()
        outside = Signal(reset_less=True)
        m.d.comb += [
            axi.arvalid.eq(issued & ~outside),
            free.eq(~axi.arvalid & ~self.halt),
            fetch.ready.eq(free), self.fetch.refused.eq(outside),
            issue.eq(free & (fetch.valid | (load.valid & ~closed & ~(load.ready & outside)))),
            check.offset.eq(Mux(fetch.valid, fetch.payload.offset, load.payload.offset)),
            check.last.eq(Mux(fetch.valid, fetch.payload.last, load.payload.last)),
            check.window_base.eq(self.window_base),
            check.window_size.eq(self.window_size),
        ]
        new = data.View(entry, queue.new)
        m.d.comb += [
            queue.write.eq(issue),
            new.load.eq(~fetch.valid),
            queue.late.eq(outside),
            new.more.eq(check.length),
            new.offset.eq(check.offset),
            new.first.eq(load.payload.first), new.ends.eq(load.payload.ends),
            new.tag.eq(load.payload.tag),
            axi.arid.eq(0), axi.arsize.eq(beat_bits), axi.arburst.eq(1),
        ]
        # A cycle later, because much follows from it in LOAD. In that cycle nothing is issued: AR
        # is in use, or LOAD is shut out.
        m.d.sync += load.ready.eq(issue & ~fetch.valid)
        with m.If(load.ready & outside):
            m.d.sync += closed.eq(1)
        # The comparison comes late: nothing but registers follows it.
        with m.If(free):
            m.d.sync += [issued.eq(issue), outside.eq(check.outside),
                         axi.araddr.eq(check.address), axi.arlen.eq(check.length)]
        with m.Elif(axi.arready):
            m.d.sync += issued.eq(0)

    def _elaborate_head(self, m, queue, entry):
        """Registers of the burst whose beats come; returns its `_Head`."""
        head = _Head(entry)
        kept, new = head.burst, data.View(entry, queue.oldest)
        m.d.comb += [
            head.over.eq(head.refused | (head.taken & head.last)),
            queue.read.eq(queue.some & (~head.valid | head.over)),
        ]
        m.d.sync += head.empty.eq(~queue.write & ~queue.held & (~head.valid | head.over))
        with m.If(~head.valid | head.over):
            m.d.sync += [
                head.valid.eq(queue.some), head.refused.eq(queue.some & queue.oldest_late),
                head.load.eq(queue.some & new.load & ~queue.oldest_late),
                head.fetch.eq(queue.some & ~new.load & ~queue.oldest_late),
                kept.eq(new), head.starts.eq(1), head.last.eq(new.more == 0),
            ]
        with m.Elif(head.taken):
            m.d.sync += [kept.more.eq(kept.more - 1), head.starts.eq(0),
                         head.last.eq(kept.more == 1)]
        return head

    def _elaborate_report(self, m, head):
        """What is wrong with a beat, or was with a burst, a cycle later, since beats come late."""
        kept, report = head.burst, self.report
        taken, failed, unasked, astray, refused, load = (Signal(name=name) for name in (
            "beat_taken", "beat_failed", "beat_unasked", "last_astray", "burst_refused",
            "burst_of_load"))
        offset = Signal.like(kept.offset, reset_less=True)
        layer = Signal.like(kept.tag.layer, reset_less=True)
        m.d.sync += [
            taken.eq(head.taken), failed.eq(head.load & (self.axi.rresp != 0)),
            unasked.eq(head.empty | (self.axi.rid != 0)), astray.eq(self.axi.rlast != head.last),
            refused.eq(head.refused & kept.load), load.eq(kept.load),
            offset.eq(kept.offset), layer.eq(kept.tag.layer),
        ]
        with m.If(taken & (unasked | astray)):
            m.d.sync += self.suspect.eq(1)
        m.d.comb += [
            report.valid.eq((taken & (unasked | astray | failed)) | refused),
            report.unit.eq(Mux(load, Unit.LOAD, SEQUENCER)),
            report.code.eq(Mux(refused, ErrorCode.WINDOW,
                               Mux(failed, ErrorCode.BUS,
                                   Mux(unasked, ErrorCode.PROTOCOL, ErrorCode.LAST)))),
            report.layer.eq(Mux(load, layer, 0)),
            report.address.eq(Cat(Const(0, (self.arch.beat_bytes - 1).bit_length()), offset)),
        ]


class _Head:
    """Registers of the burst whose beats come, and signals that say how it stands."""

    def __init__(self, entry: data.StructLayout) -> None:
        self.valid = Signal()
        # which kind it is
        self.refused = Signal()
        self.load = Signal()
        self.fetch = Signal()
        self.burst = Signal(entry, reset_less=True)         # `more`: beats after this one
        self.starts = Signal(reset_less=True)               # this beat is its first one
        self.last = Signal(reset_less=True)                 # this beat is its last one
        self.taken = Signal()                               # a beat is taken
        self.over = Signal()                                # the burst ends in this cycle
        self.empty = Signal(init=1)                         # nothing is outstanding
