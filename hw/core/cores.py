"""Several cores that share one bus, and nothing else."""

from collections.abc import Mapping
from types import MappingProxyType

from amaranth.hdl import Cat, ClockSignal, Instance, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.widths import register_bits

from .axi import AXI4Signature, AXILiteSignature
from .register_windows import RegisterWindows
from .shared_bus import SharedBus

__all__ = ["ONE", "Cores"]

#: The Verilog module of each core.
ONE = "systolith_one_core"


class Cores(wiring.Component):
    """`arch.cores` cores side by side, each an instance of the module `ONE`, with the ports of one:
    an AXI4 master, AXI4-Lite registers and an interrupt.

    Each has registers of its own, core k from byte k << CORE_BITS on, and its own window of
    external memory: its WINDOW_BASE says where. So nothing is shared but the bus.

    Parameters
    ----------
    arch : Arch
        With two or more cores.

    Members
    -------
    m_axi : Out(AXI4Signature(32, arch.bus_bits))
    s_axi : In(AXILiteSignature(register_bits(arch)))
    irq : Out(1)
        High while any core is done or has stopped on an error.
    trace : Out
        Those of all cores, side by side, core 0 in the lowest bits.
    """
    blocks: Mapping = MappingProxyType({})

    def __init__(self, *, arch: Arch) -> None:
        self.arch = arch
        layer = isa.layout(isa.Opcode.POST)["layer"].width
        super().__init__({
            "m_axi": Out(AXI4Signature(32, arch.bus_bits)),
            "s_axi": In(AXILiteSignature(register_bits(arch))),
            "irq": Out(1),
            "trace": Out(wiring.Signature({
                name: Out(arch.cores * bits) for name, bits in (
                    ("valid", 1), ("layer", layer), ("raw", 1), ("item", arch.item_bits))})),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cores = self.arch.cores
        m.submodules.shared_bus = bus = SharedBus(cores=cores, data_bits=self.arch.bus_bits)
        m.submodules.registers = registers = RegisterWindows(cores=cores)
        wiring.connect(m, bus.axi, wiring.flipped(self.m_axi))
        wiring.connect(m, wiring.flipped(self.s_axi), registers.bus)
        interrupts = Signal(cores)
        parts: dict[str, list[Signal]] = {path[0]: [] for path, *_ in
                                          self.trace.signature.flatten(self.trace)}
        for core in range(cores):
            ports = {"i_clk": ClockSignal(), "i_rst": ResetSignal()}
            # what comes in at the bus's side of a core's port goes out of the core
            for name, interface, leaves in (("m_axi", bus.cores[core], In),
                                            ("s_axi", registers.cores[core], In)):
                for path, member, value in interface.signature.flatten(interface):
                    ports[f"{'o' if member.flow == leaves else 'i'}_{name}_{path[0]}"] = value
            ports["o_irq"] = irq = Signal(name=f"irq_{core}")
            m.d.comb += interrupts[core].eq(irq)
            for name, signals in parts.items():
                bits = len(getattr(self.trace, name)) // cores
                signals.append(Signal(bits, name=f"{name}_{core}"))
                ports[f"o_trace_{name}"] = signals[-1]
            m.submodules[f"core_{core}"] = Instance(ONE, **ports)
        m.d.comb += [self.irq.eq(interrupts.any()),
                     *(getattr(self.trace, name).eq(Cat(signals))
                       for name, signals in parts.items())]
        return m
