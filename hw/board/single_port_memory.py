"""Memory with one address for reads and writes, such as the iCE40's SPRAM, with an AXI4 port."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In
from systolith.hw.core.axi import AXI4Signature

from .block_memory import beyond
from .bridge import WordSignature

__all__ = ["SinglePortMemory"]


class SinglePortMemory(wiring.Component):
    """Memory at addresses 0 to `size` - 1, shared by an AXI4 master and a host.

    One read burst and one write burst at a time. The first beat of a read is offered two cycles
    after its address was taken, then one a cycle; successive bursts follow without a gap. Write
    beats are taken one a cycle. A word that is read in the very cycle in which it is written may
    come as anything. Accesses outside answer SLVERR and change nothing. The host's accesses use
    the cycles that AXI leaves free, and reads wait in each cycle of a write.

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

    def __init__(self, *, size: int, data_bits: int) -> None:
        if size < 4096 or size % 4096:
            raise ValueError(f"size must be a multiple of 4096 bytes, not {size!r}")
        self.size = size
        self.data_bits = data_bits
        super().__init__({"axi": In(AXI4Signature(32, data_bits)), "words": In(WordSignature())})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi, request, response = self.axi, self.words.request, self.words.response
        beat_bits = (self.data_bits // 8 - 1).bit_length()
        depth = self.size >> beat_bits
        m.submodules.memory = memory = Memory(shape=self.data_bits, depth=depth, init=[],
                                              attrs={"no_rw_check": 1})
        read = memory.read_port()
        write = memory.write_port(granularity=8)

        words_per_beat = self.data_bits // 32
        host = request.payload
        host_index = host.address >> beat_bits
        host_outside = beyond(host.address, self.size)
        host_lane = Signal(range(words_per_beat))
        m.d.comb += host_lane.eq(host.address >> 2)
        answered = Signal()                      # the host's access was made in the cycle before
        host_read = Signal()
        host_write = Signal()

        # Reads: one stage, the memory's own; its output register waits with the beat in it.
        reading = Signal()
        read_error = Signal()
        read_id = Signal()
        read_index = Signal(range(depth))
        read_left = Signal(8)
        free = Signal()                          # of writes
        advance = free & (~axi.rvalid | axi.rready)
        host_wants = (request.valid & ~host.write & ~answered & ~reading & ~axi.rvalid & free)
        with m.If(axi.rready):
            m.d.sync += axi.rvalid.eq(0)
        m.d.comb += [
            axi.arready.eq(~reading | (advance & (read_left == 0))),
            read.en.eq(advance & (reading | host_read)),
            axi.rdata.eq(read.data),
            host_read.eq(host_wants),
        ]
        with m.If(advance):
            m.d.sync += [axi.rvalid.eq(reading), axi.rlast.eq(read_left == 0),
                         axi.rid.eq(read_id), axi.rresp.eq(Mux(read_error, self.SLVERR, 0)),
                         read_index.eq(read_index + 1), read_left.eq(read_left - 1)]
            with m.If(read_left == 0):
                m.d.sync += reading.eq(0)
        with m.If(axi.arvalid & axi.arready):
            m.d.sync += [reading.eq(1), read_id.eq(axi.arid), read_left.eq(axi.arlen),
                         read_index.eq(axi.araddr >> beat_bits),
                         read_error.eq(beyond(axi.araddr, self.size))]

        # Writes.
        writing = Signal()
        write_error = Signal()
        write_index = Signal(range(depth))
        m.d.comb += [
            axi.awready.eq(~writing & ~axi.bvalid),
            axi.wready.eq(writing),
            host_write.eq(request.valid & host.write & ~answered & ~writing),
        ]
        with m.If(axi.bready):
            m.d.sync += axi.bvalid.eq(0)
        with m.If(axi.awvalid & axi.awready):
            m.d.sync += [writing.eq(1), axi.bid.eq(axi.awid),
                         write_index.eq(axi.awaddr >> beat_bits),
                         write_error.eq(beyond(axi.awaddr, self.size))]
        with m.If(writing):
            m.d.comb += [write.data.eq(axi.wdata),
                         write.en.eq(Mux(axi.wvalid & ~write_error, axi.wstrb, 0))]
            with m.If(axi.wvalid):
                m.d.sync += write_index.eq(write_index + 1)
                with m.If(axi.wlast):
                    m.d.sync += [writing.eq(0), axi.bvalid.eq(1),
                                 axi.bresp.eq(Mux(write_error, self.SLVERR, 0))]
        with m.Else():
            m.d.comb += [write.data.eq(host.data.replicate(words_per_beat)),
                         write.en.eq(Mux(host_write & ~host_outside,
                                         0b1111 << (4 * host_lane), 0))]

        # One address: a write's, or else a read's.
        write_beat = writing & axi.wvalid
        address = Signal(range(depth))
        m.d.comb += [
            free.eq(~write_beat & ~host_write),
            address.eq(Mux(write_beat, write_index,
                           Mux(reading & ~host_write, read_index, host_index))),
            read.addr.eq(address), write.addr.eq(address),
        ]

        m.d.sync += answered.eq(host_read | host_write)
        m.d.comb += [
            response.valid.eq(answered), request.ready.eq(answered),
            response.payload.data.eq(read.data.word_select(host_lane, 32)),
            response.payload.error.eq(host_outside),
        ]
        return m
