"""AXI4 and AXI4-Lite signatures, and that of a reader."""

from amaranth.hdl import Const, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.numbers import PAGE_BYTES
from systolith.hw.spec.widths import offset_bits

__all__ = ["AXI4Signature", "AXILiteSignature", "ReadSignature", "times"]


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
    """What the sequencer has of `ReadArbiter`: bursts to ask for, and the beats that come back.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    request : Out(stream)
        `offset` of the first beat from the window's start, in beats, and `last`, the last one's
        place in the 4 KiB page, which is also the first one's.
    refused : In(1)
        In the cycle after a transfer: the request lies outside the window, and is dropped.
    beats : In(stream)
        `data`, `error` (RRESP was not OKAY) and `last` (of its burst), in the order of requests.
    """

    def __init__(self, arch: Arch) -> None:
        self.arch = arch
        beat_bits = (arch.beat_bytes - 1).bit_length()
        super().__init__({
            "request": Out(stream.Signature(data.StructLayout({
                "offset": offset_bits(arch) - beat_bits,
                "last": (PAGE_BYTES - 1).bit_length() - beat_bits}))),
            "refused": In(1),
            "beats": In(stream.Signature(
                data.StructLayout({"data": arch.bus_bits, "error": 1, "last": 1}))),
        })

    def __eq__(self, other):
        return type(other) is type(self) and other.arch == self.arch

    def __repr__(self):
        return f"ReadSignature({self.arch.name!r})"
