"""AXI4 and AXI4-Lite signatures, and the arbiter that shares the read channels."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.numbers import PAGE_BYTES

__all__ = ["AXI4Signature", "AXILiteSignature", "ReadArbiter", "ReadSignature", "times"]


def times(value: Value, count: int) -> Value:
    """`value` times the constant `count`, in adders (Yosys would spend a multiplier block)."""
    return sum((value << n for n in range(1, count.bit_length()) if count >> n & 1),
               value if count & 1 else Const(0))


class AXI4Signature(wiring.Signature):
    """AXI4 with INCR bursts and one-bit identifiers, seen from the master.

    Parameters
    ----------
    address_bits, data_bits : int
        Widths of the address and of a beat.
    """

    def __init__(self, address_bits: int, data_bits: int) -> None:
        self.address_bits = address_bits
        self.data_bits = data_bits
        super().__init__({
            "awid": Out(1), "awaddr": Out(address_bits), "awlen": Out(8), "awsize": Out(3),
            "awburst": Out(2), "awvalid": Out(1), "awready": In(1),
            "wdata": Out(data_bits), "wstrb": Out(data_bits // 8), "wlast": Out(1),
            "wvalid": Out(1), "wready": In(1),
            "bid": In(1), "bresp": In(2), "bvalid": In(1), "bready": Out(1),
            "arid": Out(1), "araddr": Out(address_bits), "arlen": Out(8), "arsize": Out(3),
            "arburst": Out(2), "arvalid": Out(1), "arready": In(1),
            "rid": In(1), "rdata": In(data_bits), "rresp": In(2), "rlast": In(1),
            "rvalid": In(1), "rready": Out(1),
        })

    def part(self, *channels: str) -> wiring.Signature:
        """The signals of some channels ("aw", "w", "b", "ar", "r") only, as a signature."""
        return wiring.Signature({name: member for name, member in self.members.items()
                                 if name.startswith(channels)})

    def __eq__(self, other):
        return (type(other) is type(self) and other.address_bits == self.address_bits
                and other.data_bits == self.data_bits)

    def __repr__(self):
        return f"AXI4Signature({self.address_bits}, {self.data_bits})"


class AXILiteSignature(wiring.Signature):
    """AXI4-Lite with 32-bit data, seen from the master.

    Parameters
    ----------
    address_bits : int
        Width of the address, in bytes.
    """

    def __init__(self, address_bits: int) -> None:
        self.address_bits = address_bits
        super().__init__({
            "awaddr": Out(address_bits), "awvalid": Out(1), "awready": In(1),
            "wdata": Out(32), "wstrb": Out(4), "wvalid": Out(1), "wready": In(1),
            "bresp": In(2), "bvalid": In(1), "bready": Out(1),
            "araddr": Out(address_bits), "arvalid": Out(1), "arready": In(1),
            "rdata": In(32), "rresp": In(2), "rvalid": In(1), "rready": Out(1),
        })

    def __eq__(self, other):
        return type(other) is type(self) and other.address_bits == self.address_bits

    def __repr__(self):
        return f"AXILiteSignature({self.address_bits})"


class ReadSignature(wiring.Signature):
    """What a client of `ReadArbiter` has: bursts to ask for, and the beats that come back.

    Parameters
    ----------
    data_bits : int
        Width of a beat.

    Members
    -------
    request : Out(stream)
        `offset` (bytes from the window's start; bits below a beat are ignored) and `beats`
        (1 to 256). A burst must not cross a 4 KiB page.
    refused : In(1)
        The request that is transferred in this cycle lies outside the window: it is dropped.
    beats : In(stream)
        `data`, `error` (RRESP was not OKAY) and `last` (of its burst), in the order of requests.
    """

    def __init__(self, data_bits: int) -> None:
        self.data_bits = data_bits
        super().__init__({
            "request": Out(stream.Signature(data.StructLayout({"offset": 32, "beats": 9}))),
            "refused": In(1),
            "beats": In(stream.Signature(
                data.StructLayout({"data": data_bits, "error": 1, "last": 1}))),
        })

    def __eq__(self, other):
        return type(other) is type(self) and other.data_bits == self.data_bits

    def __repr__(self):
        return f"ReadSignature({self.data_bits})"


class ReadArbiter(wiring.Component):
    """Shares the AXI read channels between instruction fetch (ID 0) and load (ID 1).

    A request that is transferred in cycle t is on the AR channel from cycle t + 1; a new one is
    taken in every cycle in which the AR channel is free or accepts. Fetch goes first. Beats go to
    the client that their ID names in the cycle in which they come.

    While `halt` is high no request is taken, and beats are accepted and dropped.

    Parameters
    ----------
    arch : Arch
        Its bus width is used.

    Members
    -------
    fetch, load : In(ReadSignature)
    axi : Out(AXI4Signature.part("ar", "r"))
    window_base, window_size : In(32)
        Base (multiple of 4096) that is added to offsets, and bytes in the window.
    halt : In(1)
    progress : Out(1)
        A handshake takes place on AR or R.
    quiet : Out(1)
        No burst is on the AR channel or outstanding.
    """

    #: Bursts that may be outstanding: 4 of load, 4 fetched instructions in two parts each.
    OUTSTANDING = 12

    def __init__(self, *, arch: Arch) -> None:
        self.arch = arch
        client = In(ReadSignature(arch.bus_bits))
        super().__init__({
            "fetch": client, "load": client,
            "axi": Out(AXI4Signature(32, arch.bus_bits).part("ar", "r")),
            "window_base": In(32), "window_size": In(32), "halt": In(1),
            "progress": Out(1), "quiet": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        axi = self.axi
        beat_bits = (self.arch.beat_bytes - 1).bit_length()
        page_bits = (PAGE_BYTES - 1).bit_length()

        chosen = Signal.like(self.fetch.request.payload)
        free = Signal()
        m.d.comb += [
            axi.arsize.eq(beat_bits),
            axi.arburst.eq(1),
            free.eq((~axi.arvalid | axi.arready) & ~self.halt),
            chosen.eq(Mux(self.fetch.request.valid, self.fetch.request.payload,
                          self.load.request.payload)),
            self.fetch.request.ready.eq(free),
            self.load.request.ready.eq(free & ~self.fetch.request.valid),
        ]

        # Within a page the last beat's offset needs no long adder, and as base is a whole number
        # of pages neither does the address.
        offset = chosen.offset
        length = Signal(8)
        last = Signal(32 - beat_bits)
        outside = Signal()
        m.d.comb += [
            length.eq(chosen.beats - 1),
            last.eq(Cat((offset[beat_bits:page_bits] + length)[:page_bits - beat_bits],
                        offset[page_bits:])),
            # its last byte is inside the window
            outside.eq(last >= self.window_size[beat_bits:]),
            self.fetch.refused.eq(self.fetch.request.valid & free & outside),
            self.load.refused.eq(self.load.request.valid & self.load.request.ready & outside),
        ]
        with m.If(axi.arready):
            m.d.sync += axi.arvalid.eq(0)
        with m.If(free):
            m.d.sync += [
                axi.arvalid.eq((self.fetch.request.valid | self.load.request.valid) & ~outside),
                axi.arid.eq(~self.fetch.request.valid),
                axi.araddr.eq(Cat(Const(0, beat_bits), offset[beat_bits:page_bits],
                                    offset[page_bits:] + self.window_base[page_bits:])),
                axi.arlen.eq(length),
            ]

        for client, chosen_id in ((self.fetch, 0), (self.load, 1)):
            m.d.comb += [
                client.beats.payload.data.eq(axi.rdata),
                client.beats.payload.error.eq(axi.rresp != 0),
                client.beats.payload.last.eq(axi.rlast),
                client.beats.valid.eq(axi.rvalid & (axi.rid == chosen_id) & ~self.halt),
            ]
        m.d.comb += axi.rready.eq(
            Mux(axi.rid, self.load.beats.ready, self.fetch.beats.ready) | self.halt)

        outstanding = Signal(range(self.OUTSTANDING + 1))
        asked = Signal()
        ended = Signal()
        m.d.comb += [
            asked.eq(axi.arvalid & axi.arready),
            ended.eq(axi.rvalid & axi.rready & axi.rlast),
            self.progress.eq(asked | (axi.rvalid & axi.rready)),
            self.quiet.eq(~axi.arvalid & (outstanding == 0)),
        ]
        with m.If(asked & ~ended):
            m.d.sync += outstanding.eq(outstanding + 1)
        with m.Elif(ended & ~asked):
            m.d.sync += outstanding.eq(outstanding - 1)
        return m
