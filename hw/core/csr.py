"""The component that serves the registers of `systolith.hw.spec.registers` to the host."""

from functools import reduce
from operator import or_

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
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
    ErrorCode,
    UnitState,
    address,
    counter,
)
from systolith.hw.spec.widths import has_window_base, offset_bits

from .axi import AXILiteSignature
from .counters import Counters

__all__ = ["Csr"]


class Csr(wiring.Component):
    """AXI4-Lite slave with the registers of `REGISTERS`, and the counters.

    No output of the bus depends on one of its inputs in the same cycle. A write is accepted in the
    cycle after the one in which address and data are both valid and no response is waiting; byte
    strobes are ignored. `start` is high in the cycle after the accepted write. A read answers three
    cycles after its address, that of a unit's counter a few cycles later: when the counter comes by
    (see `Counters`). Reserved offsets read as 0. WINDOW_BASE, WINDOW_SIZE and PROGRAM cannot be
    written while the core is busy.

    Soft reset: `stop` goes high in the cycle after the write and stays until `quiet` is high; in
    the cycle after, its last, `reset` is high. This component must not be reset by it. A start that
    is written meanwhile, or with the reset, follows in the cycle after; until then STATUS says busy
    and `irq` is low. Where `report` says meanwhile that the reset does not end (`ErrorCode.RESET`),
    the start is dropped. The counters keep their values until the next start.

    CYCLES counts the cycles in which `busy` is high, a cycle later; the counters of units, where
    the chip has them, those of these in which the unit was in the state, two cycles later, and
    WAITING is a cycle old, so that a state may be a long way of logic.

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
        Nothing more will come on the memory bus, and nothing will begin.
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

    def elaborate(self, platform: object) -> Module:
        m = Module()
        wanted = Signal()           # a start that waits for the soft reset
        # What the units say, a cycle later.
        busy = Signal()
        state, missing = ([Signal(4, name=f"{name}_{unit.name.lower()}") for unit in Unit]
                          for name in ("state", "missing"))
        m.d.sync += busy.eq(self.busy)
        for unit in Unit:
            m.d.sync += [state[unit].eq(self.state[unit]), missing[unit].eq(self.missing[unit])]

        cycles = self._elaborate_cycles(m, busy)
        content = {
            "ID": ID, "VERSION": VERSION,
            "IDENTITY_LOW": identity(self.arch) & 0xFFFFFFFF,
            "IDENTITY_HIGH": identity(self.arch) >> 32,
            "STATUS": Cat(self.busy | self.start | wanted, self.done, self.report.valid, self.stop,
                          self.report.code, self.report.unit, Const(not self.arch.diagnosis, 5),
                          self.report.layer),
            # never undefined: an instruction that is not there has undefined fields
            "WAITING": Cat(*(Cat(state[unit], Mux(state[unit] == UnitState.TOKENS, missing[unit],
                                                  0)) for unit in Unit)),
            "ERROR_ADDRESS": self.report.address,
            "WINDOW_BASE": self.window_base, "WINDOW_SIZE": self.window_size,
            "PROGRAM": self.program, "WATCHDOG": self.watchdog,
            "CYCLES": cycles, "COUNTERS": int(self.arch.counters),
        }
        passing = None
        if self.arch.counters:
            content |= self._elaborate_compute(m, busy, cycles)
            passing = self._elaborate_counters(m, busy, state)
        self._elaborate_read(m, content, passing)
        self._elaborate_write(m, wanted)
        m.d.sync += self.reset.eq(self.stop & self.quiet & ~self.reset)
        m.d.comb += self.irq.eq((self.done | self.report.valid) & ~self.start & ~wanted)
        return m

    def _elaborate_cycles(self, m, busy):
        """CYCLES, a cycle later, as is `busy`."""
        cycles = Signal(32)
        with m.If(self.start):
            m.d.sync += cycles.eq(0)
        with m.Elif(busy):
            m.d.sync += cycles.eq(cycles + 1)
        return cycles

    def _elaborate_compute(self, m, busy, cycles):
        """CYCLES at the first pass and at the last result: {name of the register: its value}."""
        first = Signal(32)
        last = Signal(32)
        first_seen = Signal()
        passed = Signal()
        written = Signal()
        m.d.sync += [passed.eq(self.compute_start), written.eq(self.result_written)]
        with m.If(self.start):
            m.d.sync += [first.eq(0), first_seen.eq(0), last.eq(0)]
        with m.Else():
            with m.If(busy & passed & ~first_seen):
                m.d.sync += [first.eq(cycles), first_seen.eq(1)]
            with m.If(busy & written):
                m.d.sync += last.eq(cycles)
        return {"COMPUTE_FIRST": first, "COMPUTE_LAST": last}

    def _elaborate_counters(self, m, busy, state):
        """Counters of the units' states; returns (number of a register, its value), which change
        in every cycle, and the numbers of all."""
        names = [(unit, name) for unit, states in COUNTED.items() for name in states]
        m.submodules.counters = counters = Counters(len(names))
        seen = Signal(len(names))
        m.d.sync += seen.eq(Cat(busy & (state[unit] == name) for unit, name in names))
        m.d.comb += [counters.clear.eq(self.start), counters.events.eq(seen)]
        numbers = [address(counter(*name)) >> 2 for name in names]
        number = Signal(6)
        value = Signal.like(counters.value)
        m.d.sync += [number.eq(Array(numbers)[counters.place]), value.eq(counters.value)]
        return number, value, numbers

    def _elaborate_read(self, m, content, passing):
        """Reads in two steps: all but the register that is asked for become 0; all are one, or
        a counter is."""
        bus = self.bus
        number = Signal(6)
        # the two steps
        asked = Signal()
        chosen = Signal()
        m.d.comb += bus.arready.eq(~bus.rvalid & ~asked & ~chosen)
        m.d.sync += asked.eq(bus.arready & bus.arvalid)
        with m.If(bus.arready):
            m.d.sync += number.eq(bus.araddr[2:])
        parts = (self._elaborate_copies if self.arch.counters else self._elaborate_groups)(
            m, number, content)

        with m.If(bus.rready):
            m.d.sync += bus.rvalid.eq(0)
        with m.If(asked):
            m.d.sync += chosen.eq(1)
        with m.If(chosen):
            m.d.sync += [chosen.eq(0), bus.rvalid.eq(1), bus.rdata.eq(reduce(or_, parts))]
            if passing is not None:
                place, value, numbers = passing
                here = place == number
                m.d.sync += bus.rdata.eq(reduce(or_, parts) | (value & here.replicate(32)))
                with m.Switch(number):
                    with m.Case(*numbers):
                        m.d.sync += [chosen.eq(~here), bus.rvalid.eq(here)]

    def _elaborate_copies(self, m, number, content):
        """A register's content, or 0, of each: that takes flip-flops, and no LUT but for the
        resets. Those that never change share one."""
        copies = []
        constants = {name: value for name, value in content.items() if isinstance(value, int)}
        for name, value in ({"CONSTANT": 0} | content).items():
            if name in constants:
                continue
            copies.append(copy := Signal(32, name=f"read_{name.lower()}"))
            with m.Switch(number):
                for other, word in constants.items() if name == "CONSTANT" else [(name, value)]:
                    with m.Case(address(other) >> 2):
                        m.d.sync += copy.eq(word)
                with m.Default():
                    m.d.sync += copy.eq(0)
        return copies

    def _elaborate_groups(self, m, number, content):
        """One register of each group of eight, or 0."""
        groups = []
        for first in range(0, len(content), 8):
            groups.append(word := Signal(32, name=f"group_{first}"))
            with m.Switch(number):
                for register in REGISTERS:
                    if register.name in content and register.offset >> 5 == first >> 3:
                        with m.Case(register.offset >> 2):
                            m.d.sync += word.eq(content[register.name])
                with m.Default():
                    m.d.sync += word.eq(0)
        return groups

    def _elaborate_write(self, m, wanted):
        bus = self.bus
        accepted = Signal()
        m.d.comb += [bus.awready.eq(accepted), bus.wready.eq(accepted)]
        m.d.sync += accepted.eq(bus.awvalid & bus.wvalid & ~bus.bvalid & ~accepted)
        with m.If(bus.bready):
            m.d.sync += bus.bvalid.eq(0)
        with m.If(accepted):
            m.d.sync += bus.bvalid.eq(1)

        number = bus.awaddr[2:]
        begin = Signal()
        cease = Signal()
        control = accepted & (number == address("CONTROL") >> 2)
        m.d.comb += [begin.eq(control & bus.wdata[0]), cease.eq(control & bus.wdata[1])]
        m.d.sync += self.start.eq(0)
        with m.If(cease):
            m.d.sync += [self.stop.eq(1), wanted.eq(begin)]
        with m.Elif(self.reset):
            m.d.sync += [self.stop.eq(0), wanted.eq(0), self.start.eq(begin | wanted)]
        with m.Elif(self.stop):
            vain = self.report.valid & (self.report.code == ErrorCode.RESET)
            m.d.sync += wanted.eq((begin | wanted) & ~vain)
        with m.Else():
            m.d.sync += self.start.eq(begin & ~self.busy & ~self.start & ~self.report.valid)

        for name in ("WINDOW_BASE", "WINDOW_SIZE", "PROGRAM", "WATCHDOG"):
            register = getattr(self, name.lower())
            low = {"WINDOW_BASE": 12, "PROGRAM": 6}.get(name, 0)
            free = 1 if name == "WATCHDOG" else ~(self.busy | self.start | wanted)
            high = {"WATCHDOG": self.arch.watchdog_bits, "WINDOW_SIZE": offset_bits(self.arch)}.get(
                name, self.arch.address_bits)
            if name != "WINDOW_BASE" or has_window_base(self.arch):
                with m.If(accepted & (number == address(name) >> 2) & free):
                    m.d.sync += register[low:high].eq(bus.wdata[low:high])
