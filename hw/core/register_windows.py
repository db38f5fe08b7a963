"""One AXI4-Lite port for the registers of several cores."""

from functools import reduce
from operator import or_

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec.registers import CORE_BITS

from .axi import AXILiteSignature

__all__ = ["RegisterWindows"]

#: The answer where no core is.
_DECERR = 3


class RegisterWindows(wiring.Component):
    """Hands register accesses to the core that the upper bits of the address name.

    One read and one write at a time. All that leaves is a register, so that an access takes some
    cycles longer than a core alone. Where no core has an address, the answer is DECERR.

    Parameters
    ----------
    cores : int

    Members
    -------
    bus : In(AXILiteSignature(CORE_BITS + bits of a core's number))
    cores[core] : Out(AXILiteSignature(CORE_BITS))
    """

    def __init__(self, *, cores: int) -> None:
        self.bits = CORE_BITS + (cores - 1).bit_length()
        super().__init__({"bus": In(AXILiteSignature(self.bits)),
                          "cores": Out(AXILiteSignature(CORE_BITS)).array(cores)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bus = self.bus
        wanted = bus.awvalid & bus.wvalid
        accepted, waits = self._elaborate_way(m, "write", wanted, bus.awaddr, ("aw", "w"), "b")
        data = Signal(32)
        strobe = Signal(4)
        m.d.comb += [bus.awready.eq(accepted), bus.wready.eq(accepted)]
        with m.If(~waits):
            m.d.sync += [data.eq(bus.wdata), strobe.eq(bus.wstrb)]
        for core in self.cores:
            m.d.comb += [core.wdata.eq(data), core.wstrb.eq(strobe)]
        accepted, _ = self._elaborate_way(m, "read", bus.arvalid, bus.araddr, ("ar",), "r")
        m.d.comb += bus.arready.eq(accepted)
        return m

    def _elaborate_way(self, m, name, wanted, address, asks, answer):
        """Reads, or writes: the channels `asks` to a core, and the `answer` from it. Returns (the
        access is accepted in this cycle, one is under way)."""
        accepted, waits = Signal(name=f"{name}_accepted"), Signal(name=f"{name}_waits")
        place = Signal(self.bits, name=f"{name}_place")
        number = place[CORE_BITS:]
        nobody = number >= len(self.cores)
        valid = getattr(self.bus, f"{answer}valid")
        results = [field for field in ("data", "resp") if hasattr(self.bus, answer + field)]
        m.d.sync += accepted.eq(wanted & ~waits & ~accepted & ~valid)
        with m.If(~waits):
            m.d.sync += place.eq(address)
        with m.If(accepted):
            m.d.sync += waits.eq(1)
        for channel in asks:
            asking = Signal(name=f"{channel}_asking")
            readies = []
            for core, port in enumerate(self.cores):
                mine = number == core
                m.d.comb += getattr(port, f"{channel}valid").eq(asking & mine)
                if channel != "w":
                    m.d.comb += getattr(port, f"{channel}addr").eq(place[:CORE_BITS])
                readies.append(getattr(port, f"{channel}ready") & mine)
            with m.If(reduce(or_, readies) | nobody):
                m.d.sync += asking.eq(0)
            with m.If(accepted):
                m.d.sync += asking.eq(1)
        came = []
        with m.If(getattr(self.bus, f"{answer}ready")):
            m.d.sync += valid.eq(0)
        for core, port in enumerate(self.cores):
            here = waits & (number == core)
            m.d.comb += getattr(port, f"{answer}ready").eq(here)
            came.append(here & getattr(port, f"{answer}valid"))
            with m.If(came[-1]):
                m.d.sync += [getattr(self.bus, answer + field).eq(getattr(port, answer + field))
                             for field in results]
        lost = waits & nobody
        with m.If(lost):
            m.d.sync += [getattr(self.bus, answer + field).eq(_DECERR if field == "resp" else 0)
                         for field in results]
        with m.If(reduce(or_, came) | lost):
            m.d.sync += [waits.eq(0), valid.eq(1)]
        return accepted, waits
