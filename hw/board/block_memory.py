"""Block RAM with an AXI4 port, in place of external memory on a board that has none."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from systolith.hw.core.axi import AXI4Signature

from .bridge import WordSignature

__all__ = ["BlockMemory", "beyond"]


def beyond(address: Value, size: int) -> Value:
    """Whether an address is not below `size`; where that is a power of two, without a carry
    chain."""
    bits = size.bit_length() - 1
    return address[bits:].any() if size == 1 << bits else address >= size


class _Bank(wiring.Component):
    """Some byte lanes of the memory, with registers of their own before and after it: block RAM is
    spread over the whole part, and its output is late in the cycle.

    A word that is asked for in cycle t is at `data` in cycle t + `LATENCY`. A word that is read in
    the very cycle in which it is written may come as anything.

    Parameters
    ----------
    depth : int
        Words.
    lanes : int
        Bytes of a word.

    Members
    -------
    read_index, write_index : In
    write_enable : In(lanes)
        One bit for each byte.
    new : In(8 * lanes)
    data : Out(8 * lanes)
    """

    #: Cycles from an index to its word.
    LATENCY = 3

    def __init__(self, *, depth: int, lanes: int) -> None:
        self.depth = depth
        super().__init__({
            "read_index": In(range(depth)), "write_index": In(range(depth)),
            "write_enable": In(lanes), "new": In(8 * lanes), "data": Out(8 * lanes)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=len(self.data), depth=self.depth, init=[],
                                              attrs={"no_rw_check": 1})
        read = memory.read_port()
        write = memory.write_port(granularity=8)
        # without a reset, the last of them can be the one that block RAM has inside
        for port, value in ((read.addr, self.read_index), (write.addr, self.write_index),
                            (write.data, self.new), (write.en, self.write_enable),
                            (self.data, read.data)):
            register = Signal.like(value, name="register", reset_less=True)
            m.d.sync += register.eq(value)
            m.d.comb += port.eq(register)
        return m


class BlockMemory(wiring.Component):
    """Memory at addresses 0 to `size` - 1, shared by an AXI4 master and a host.

    One read burst and one write burst at a time. The first beat of a read is offered
    `READ_LATENCY` cycles after its address was taken, then one a cycle; successive bursts
    follow without a gap. Write beats are taken one a cycle. A word that is read in
    the very cycle in which it is written may come as anything. Accesses outside answer SLVERR and
    change nothing. The host's accesses use the cycles that AXI leaves free.

    Nothing goes from the port to the memory, or back, without a register: beats that are read wait
    in a queue, and one is read only where there is room for it.

    Parameters
    ----------
    size : int
        Bytes, a multiple of 4096.
    data_bits : int
        Width of a beat: 32, 64 or 128.

    Members
    -------
    axi : In(AXI4Signature(32, data_bits))
        INCR bursts of whole beats that do not cross a multiple of 4096.
    words : In(WordSignature)
    """

    #: Response code of an access outside the memory.
    SLVERR = 2
    #: Cycles from an address's transfer to the offer of its first beat.
    READ_LATENCY = 2 + _Bank.LATENCY
    #: Beats in the queue; more than the cycles from a beat's read to when it has left the queue.
    QUEUE = 8
    #: Bytes of a bank.
    LANES = 2

    def __init__(self, *, size: int, data_bits: int) -> None:
        if size < 4096 or size % 4096:
            raise ValueError(f"size must be a multiple of 4096 bytes, not {size!r}")
        self.size = size
        self.data_bits = data_bits
        super().__init__({"axi": In(AXI4Signature(32, data_bits)), "words": In(WordSignature())})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beat_bytes = self.data_bits // 8
        depth = self.size // beat_bytes
        banks = [_Bank(depth=depth, lanes=self.LANES) for _ in range(beat_bytes // self.LANES)]
        for number, bank in enumerate(banks):
            m.submodules[f"bank_{number}"] = bank
        host = self._elaborate_host(m)
        self._elaborate_reads(m, banks, host)
        self._elaborate_writes(m, banks, host)
        return m

    def _index(self, address):
        """The beat that has a byte address."""
        return address[(self.data_bits // 8 - 1).bit_length():]

    def _elaborate_host(self, m):
        """States of the host's access, as a `_Host`."""
        request, response = self.words.request, self.words.response
        host = _Host(self.data_bits)
        lane = request.payload.address[2:][:len(host.lane)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [host.lane.eq(lane),
                             host.outside.eq(beyond(request.payload.address, self.size))]
                with m.If(request.valid):
                    with m.If(request.payload.write):
                        m.next = "WRITE"
                    with m.Else():
                        m.next = "READ"
            with m.State("WRITE"):
                m.d.comb += host.writes.eq(1)
                with m.If(host.taken):
                    m.next = "DONE"
            with m.State("READ"):
                m.d.comb += host.reads.eq(1)
                with m.If(host.taken):
                    m.next = "WAIT"
            with m.State("WAIT"):
                m.d.sync += response.payload.data.eq(host.beat.word_select(host.lane, 32))
                with m.If(host.arrives):
                    m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += [response.valid.eq(1), request.ready.eq(1)]
                m.next = "IDLE"
        m.d.comb += response.payload.error.eq(host.outside)
        return host

    def _elaborate_reads(self, m, banks, host):
        axi = self.axi
        reading = Signal()
        last = Signal(reset_less=True)
        error = Signal(reset_less=True)
        identifier = Signal(reset_less=True)
        index = Signal.like(banks[0].read_index, reset_less=True)
        left = Signal(8, reset_less=True)
        # room in the queue for what is read and has not left it
        # (as many ones: the next beat sees at once whether there is some)
        room = Signal(self.QUEUE, init=(1 << self.QUEUE) - 1)
        entry = data.StructLayout({"data": self.data_bits, "error": 1, "id": 1, "last": 1})
        m.submodules.queue = queue = Memory(shape=entry, depth=self.QUEUE, init=[])
        into = queue.write_port()
        out = queue.read_port(domain="comb")
        held = Signal(self.QUEUE)           # as many ones as there are beats in it

        issue = Signal()
        taken = Signal()
        m.d.comb += [
            issue.eq(reading & room[0]),
            axi.arready.eq(~reading | (room[0] & last)),
            axi.rvalid.eq(held[0]),
            taken.eq(held[0] & axi.rready),
        ]
        with m.If(issue):
            m.d.sync += [index.eq(index + 1), left.eq(left - 1), last.eq(left == 1)]
        with m.If(axi.arready):
            m.d.sync += [reading.eq(axi.arvalid), index.eq(self._index(axi.araddr)),
                         left.eq(axi.arlen), last.eq(axi.arlen == 0), identifier.eq(axi.arid),
                         error.eq(beyond(axi.araddr, self.size))]
        with m.If(issue ^ taken):
            m.d.sync += room.eq(Mux(taken, Cat(Const(1, 1), room), room >> 1))

        # Beats on their way through the banks: of AXI, or else of the host.
        way = [(issue, host.reads & ~reading, Cat(error, identifier, last))]
        for step in range(_Bank.LATENCY):
            later = [Signal(len(value), name=f"{name}_{step}", reset_less=name == "tag")
                     for name, value in zip(("beat", "word", "tag"), way[-1], strict=True)]
            m.d.sync += [new.eq(value) for new, value in zip(later, way[-1], strict=True)]
            way.append(tuple(later))
        beat, word, tag = way[-1]
        for bank in banks:
            m.d.comb += bank.read_index.eq(
                Mux(reading, index, self._index(self.words.request.payload.address)))
        m.d.comb += [
            host.beat.eq(Cat(bank.data for bank in banks)), host.arrives.eq(word),
            into.en.eq(beat), into.data.eq(Cat(host.beat, tag)),
        ]
        m.d.sync += [into.addr.eq(into.addr + beat), out.addr.eq(out.addr + taken)]
        with m.If(beat ^ taken):
            m.d.sync += held.eq(Mux(taken, held >> 1, Cat(Const(1, 1), held)))
        with m.If(host.reads):
            m.d.comb += host.taken.eq(~reading)
        m.d.comb += [axi.rdata.eq(out.data.data), axi.rid.eq(out.data.id),
                     axi.rlast.eq(out.data.last),
                     axi.rresp.eq(Mux(out.data.error, self.SLVERR, 0))]

    def _elaborate_writes(self, m, banks, host):
        axi, asked = self.axi, self.words.request.payload
        writing = Signal()
        error = Signal(reset_less=True)
        index = Signal.like(banks[0].write_index, reset_less=True)
        new = Signal(self.data_bits)
        enable = Signal(self.data_bits // 8)
        m.d.comb += [axi.awready.eq(~writing & ~axi.bvalid), axi.wready.eq(writing)]
        with m.If(axi.bready):
            m.d.sync += axi.bvalid.eq(0)
        with m.If(axi.awready):
            m.d.sync += [writing.eq(axi.awvalid), axi.bid.eq(axi.awid),
                         index.eq(self._index(axi.awaddr)), error.eq(beyond(axi.awaddr, self.size))]
        with m.If(writing):
            m.d.comb += [new.eq(axi.wdata),
                         enable.eq(Mux(axi.wvalid & ~error, axi.wstrb, 0))]
            with m.If(axi.wvalid):
                m.d.sync += index.eq(index + 1)
                with m.If(axi.wlast):
                    m.d.sync += [writing.eq(0), axi.bvalid.eq(1),
                                 axi.bresp.eq(Mux(error, self.SLVERR, 0))]
        with m.Else():
            m.d.comb += [new.eq(asked.data.replicate(self.data_bits // 32)),
                         enable.eq(Mux(host.writes & ~host.outside, 0b1111 << (4 * host.lane), 0))]
        with m.If(host.writes):
            m.d.comb += host.taken.eq(~writing)
        for number, bank in enumerate(banks):
            m.d.comb += [
                bank.write_index.eq(Mux(writing, index, self._index(asked.address))),
                bank.new.eq(new.word_select(number, 8 * self.LANES)),
                bank.write_enable.eq(enable.word_select(number, self.LANES)),
            ]


class _Host:
    """Signals of the host's access; its request stays as it is until it is answered."""

    def __init__(self, data_bits: int) -> None:
        # it wants to, in this cycle
        self.reads = Signal()
        self.writes = Signal()
        self.taken = Signal()                           # it does
        self.lane = Signal(range(data_bits // 32), reset_less=True)     # of the beat's words
        self.outside = Signal(reset_less=True)
        self.arrives = Signal()                         # what it has read is in `beat`
        self.beat = Signal(data_bits)
