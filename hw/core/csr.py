"""The component that serves the registers of `systolith.hw.spec.registers` to the host."""

from amaranth.hdl import Array, Cat, Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity
from systolith.hw.spec.isa import Unit
from systolith.hw.spec.registers import (
    COUNTED,
    ID,
    REGISTERS,
    REPORT,
    VERSION,
    address,
    counter,
)

from .axi import AXILiteSignature
from .counters import Counters

__all__ = ["Csr"]


class Csr(wiring.Component):
    """AXI4-Lite slave with the registers of `REGISTERS`, and the counters.

    A write is accepted in the cycle in which address and data are both valid and no response is
    waiting; byte strobes are ignored. `start` is high in the cycle after the accepted write. A
    read answers in the cycle after its address, that of a unit's counter a few cycles later: when
    the counter comes by (see `Counters`). Reserved offsets read as 0. WINDOW_BASE,
    WINDOW_SIZE and PROGRAM cannot be written while the core is busy.

    Soft reset: `stop` goes high in the cycle after the write and stays until `quiet` is high; in
    that cycle `reset` is high. This component must not be reset by it. The counters keep their
    values until the next start.

    CYCLES counts the cycles in which `busy` is high; the counters of units, where the chip has
    them, those of these in which the unit was in the state. They count a cycle later, so that a
    state may be a long way of logic.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    bus : In(AXILiteSignature(8))
    start, stop, reset : Out(1)
        To the sequencer; to the top level.
    window_base, window_size, program, watchdog : Out(32)
    busy, done : In(1)
    report : In(REPORT)
        Held by the sequencer; `valid` is the error flag.
    quiet : In(1)
        No transaction is outstanding on the memory bus.
    state[unit], missing[unit] : In(4)
        A `UnitState`, and the units whose tokens are missing.
    compute_start, result_written : In(1)
        Pulses: an array pass starts; post-processing writes a result.
    irq : Out(1)
        The core is done, or has stopped on an error.
    """

    def __init__(self, *, arch: Arch) -> None:
        self.arch = arch
        super().__init__({
            "bus": In(AXILiteSignature(8)),
            "start": Out(1), "stop": Out(1), "reset": Out(1),
            "window_base": Out(32), "window_size": Out(32), "program": Out(32),
            "watchdog": Out(32),
            "busy": In(1), "done": In(1), "report": In(REPORT), "quiet": In(1),
            "state": In(4).array(4), "missing": In(4).array(4),
            "compute_start": In(1), "result_written": In(1),
            "irq": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        cycles = Signal(32)
        first = Signal(32)
        first_seen = Signal()
        last = Signal(32)
        content = {
            "ID": ID, "VERSION": VERSION,
            "IDENTITY_LOW": identity(self.arch) & 0xFFFFFFFF,
            "IDENTITY_HIGH": identity(self.arch) >> 32,
            "CONTROL": 0,
            "STATUS": Cat(self.busy, self.done, self.report.valid, Const(0, 1),
                          self.report.code, self.report.unit, Const(0, 5), self.report.layer),
            "WAITING": Cat(*(Cat(self.state[unit], self.missing[unit]) for unit in Unit)),
            "ERROR_ADDRESS": self.report.address,
            "WINDOW_BASE": self.window_base, "WINDOW_SIZE": self.window_size,
            "PROGRAM": self.program, "WATCHDOG": self.watchdog,
            "CYCLES": cycles, "COMPUTE_FIRST": first, "COMPUTE_LAST": last,
            "COUNTERS": int(self.arch.counters),
        }
        passing = self._elaborate_counters(m) if self.arch.counters else None
        self._elaborate_read(m, content, passing)
        self._elaborate_write(m)

        with m.If(self.start):
            m.d.sync += [cycles.eq(0), first.eq(0), first_seen.eq(0), last.eq(0)]
        with m.Elif(self.busy):
            m.d.sync += cycles.eq(cycles + 1)
            with m.If(self.compute_start & ~first_seen):
                m.d.sync += [first.eq(cycles), first_seen.eq(1)]
            with m.If(self.result_written):
                m.d.sync += last.eq(cycles)

        m.d.comb += [
            self.reset.eq(self.stop & self.quiet),
            self.irq.eq(self.done | self.report.valid),
        ]
        return m

    def _elaborate_counters(self, m):
        """Counters of the units' states; returns (number of a register, its value), which change
        in every cycle."""
        names = [(unit, state) for unit, states in COUNTED.items() for state in states]
        m.submodules.counters = counters = Counters(len(names))
        seen = Signal(len(names))
        m.d.sync += seen.eq(Cat(self.busy & (self.state[unit] == state) for unit, state in names))
        m.d.comb += [counters.clear.eq(self.start), counters.events.eq(seen)]
        numbers = Array(address(counter(*name)) >> 2 for name in names)
        return numbers[counters.place], counters.value

    def _elaborate_read(self, m, content, passing):
        bus = self.bus
        number = bus.araddr[2:]
        awaited = Signal()          # a counter that has not come by yet
        m.d.comb += bus.arready.eq(~bus.rvalid & ~awaited)
        with m.If(bus.rready):
            m.d.sync += bus.rvalid.eq(0)
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += bus.rvalid.eq(1)
            with m.Switch(number):
                for register in REGISTERS:
                    with m.Case(register.offset >> 2):
                        if register.name in content:
                            m.d.sync += bus.rdata.eq(content[register.name])
                        elif passing is None:
                            m.d.sync += bus.rdata.eq(0)
                        else:
                            m.d.sync += [bus.rvalid.eq(0), awaited.eq(1)]
                with m.Default():
                    m.d.sync += bus.rdata.eq(0)
        if passing is not None:
            wanted = Signal.like(number)
            place, value = passing
            with m.If(bus.arready):
                m.d.sync += wanted.eq(number)
            with m.If(awaited & (place == wanted)):
                m.d.sync += [awaited.eq(0), bus.rvalid.eq(1), bus.rdata.eq(value)]

    def _elaborate_write(self, m):
        bus = self.bus
        accepted = Signal()
        m.d.comb += [
            accepted.eq(bus.awvalid & bus.wvalid & ~bus.bvalid),
            bus.awready.eq(accepted),
            bus.wready.eq(accepted),
        ]
        with m.If(bus.bready):
            m.d.sync += bus.bvalid.eq(0)
        m.d.sync += self.start.eq(0)
        with m.If(self.reset):
            m.d.sync += self.stop.eq(0)
        with m.If(accepted):
            m.d.sync += bus.bvalid.eq(1)
            with m.Switch(bus.awaddr[2:]):
                with m.Case(address("CONTROL") >> 2):
                    stopping = self.stop | bus.wdata[1]
                    m.d.sync += [
                        self.start.eq(bus.wdata[0] & ~stopping & ~self.busy & ~self.start
                                      & ~self.report.valid),
                        self.stop.eq(stopping),
                    ]
                for name in ("WINDOW_BASE", "WINDOW_SIZE", "PROGRAM", "WATCHDOG"):
                    register = getattr(self, name.lower())
                    low = {"WINDOW_BASE": 12, "PROGRAM": 6}.get(name, 0)
                    with m.Case(address(name) >> 2):
                        with m.If(~(self.busy | self.start) | (name == "WATCHDOG")):
                            m.d.sync += register[low:].eq(bus.wdata[low:])
        return m
