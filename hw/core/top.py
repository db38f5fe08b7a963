"""The core: every unit and memory, wired together, and nothing else."""

from functools import reduce
from itertools import product
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Unit
from systolith.hw.spec.memories import MEMORIES, Space
from systolith.hw.spec.near import near_columns

from .arbiter import ReadArbiter
from .axi import AXI4Signature, AXILiteSignature
from .compute import Compute
from .csr import Csr
from .load import Load
from .post import Post
from .sequencer import Sequencer
from .store import Store
from .tokens import TokenCounters
from .unit import ExecutionUnit

__all__ = ["Core"]


class Core(wiring.Component):
    """One accelerator: an AXI4 master with AXI4-Lite registers.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    m_axi : Out(AXI4Signature(32, arch.bus_bits))
        External memory; the registers' window bounds what is touched.
    s_axi : In(AXILiteSignature(8))
        The registers of `systolith.hw.spec.registers`.
    irq : Out(1)
        High while the core is done or has stopped on an error.
    trace : Out
        Every result as post-processing writes it: valid, layer, raw, item. Leave it unconnected
        where nobody listens.
    """

    def __init__(self, *, arch: Arch) -> None:
        self.arch = arch
        self.compute = Compute(arch=arch)
        self.post = Post(arch=arch)
        super().__init__({
            "m_axi": Out(AXI4Signature(32, arch.bus_bits)),
            "s_axi": In(AXILiteSignature(8)),
            "irq": Out(1),
            "trace": Out(wiring.Signature({
                "valid": Out(1), "layer": Out(isa.layout(isa.Opcode.POST)["layer"].shape),
                "raw": Out(1), "item": Out(arch.item_bits)})),
        })

    @property
    def blocks(self) -> dict[str, wiring.Component]:
        """Verilog modules to be emitted along: name -> block."""
        return {**self.compute.blocks, **self.post.blocks}

    def elaborate(self, platform: object) -> Module:
        m = Module()
        arch = self.arch
        m.submodules.csr = csr = Csr(arch=arch)
        reset = ResetInserter(csr.reset)
        load = Load(arch=arch)
        store = Store(arch=arch)
        sequencer = Sequencer(arch=arch)
        near = len(near_columns(arch))
        tokens = TokenCounters(arch.token_bits, near)
        arbiter = ReadArbiter(arch=arch)
        m.submodules.sequencer = reset(sequencer)
        m.submodules.tokens = reset(tokens)
        m.submodules.arbiter = reset(arbiter)
        units: dict[Unit, ExecutionUnit] = {
            Unit.LOAD: load, Unit.ARRAY: self.compute, Unit.POST: self.post, Unit.STORE: store}
        for unit, component in units.items():
            m.submodules[unit.name.lower()] = reset(component)

        for unit, component in units.items():
            wiring.connect(m, sequencer.o[unit], component.i)
            m.d.comb += [
                component.available.eq(tokens.available[unit]),
                tokens.take[unit].eq(component.take),
                tokens.give[unit].eq(component.give),
                sequencer.unit_busy[unit].eq(component.busy),
                csr.state[unit].eq(component.state),
                csr.missing[unit].eq(component.missing),
            ]
        if near:
            m.d.comb += [tokens.give_near.eq(self.compute.give_near),
                         self.post.available_near.eq(tokens.available_near),
                         self.post.come_near.eq(tokens.come_near)]
        m.d.comb += [
            # In the cycle before it halts, a burst can still begin. Where the memory has broken a
            # rule, more than was counted may come: until it has been silent for long.
            csr.quiet.eq(sequencer.halt & arbiter.quiet & store.quiet
                         & (~arbiter.suspect | sequencer.expired)),
            *(own.eq(report) for own, report in
              zip(sequencer.reports, (arbiter.report, store.report), strict=True)),
            *(halt.eq(sequencer.halt) for halt in (store.halt, arbiter.halt)),
        ]
        progress = Signal(len(units) + 1)       # a cycle later: the watchdog does not mind
        m.d.sync += progress.eq(Cat(arbiter.progress, *(unit.progress for unit in units.values())))
        self._elaborate_control(m, csr, sequencer, tokens, progress, arbiter.quiet & store.quiet)
        m.d.comb += [csr.compute_start.eq(self.compute.started),
                     csr.result_written.eq(self.post.written)]
        self._elaborate_bus(m, csr, sequencer, arbiter, load, store)
        self._elaborate_memories(m, load)

        # Results to the store unit, and to whoever listens.
        post = self.post
        wiring.connect(m, post.items, store.items)
        m.d.comb += [self.trace.valid.eq(post.trace_valid), self.trace.layer.eq(post.trace_layer),
                     self.trace.raw.eq(post.trace_raw), self.trace.item.eq(post.trace_item)]
        return m

    def _elaborate_control(self, m, csr, sequencer, tokens, progress, quiet):
        """The host's commands to the sequencer, and its state to the host."""
        m.d.comb += [
            sequencer.start.eq(csr.start), sequencer.stop.eq(csr.stop),
            sequencer.program.eq(csr.program), sequencer.watchdog.eq(csr.watchdog),
            sequencer.progress.eq(progress.any()),
            sequencer.quiet.eq(quiet), sequencer.overflow.eq(tokens.overflow),
            tokens.clear.eq(csr.start),
            *([self.compute.clear.eq(csr.start)] if self.arch.two_fillings else ()),
            csr.busy.eq(sequencer.busy), csr.done.eq(sequencer.done),
            csr.report.eq(sequencer.report),
            self.irq.eq(csr.irq),
        ]
        wiring.connect(m, wiring.flipped(self.s_axi), csr.bus)

    def _elaborate_bus(self, m, csr, sequencer, arbiter, load, store):
        """External memory: the arbiter reads for sequencer and load, the store unit writes."""
        m.d.comb += [
            arbiter.window_base.eq(csr.window_base), arbiter.window_size.eq(csr.window_size),
            store.window_base.eq(csr.window_base), store.window_size.eq(csr.window_size),
        ]
        wiring.connect(m, sequencer.read, arbiter.fetch)
        wiring.connect(m, load.read, arbiter.load)
        for bus in (arbiter.axi, store.axi):
            for path, member, value in bus.signature.flatten(bus):
                outside = getattr(self.m_axi, path[0])
                m.d.comb += outside.eq(value) if member.flow == Out else value.eq(outside)

    def _elaborate_memories(self, m, load):
        """The memories on the chip, who reads them and who writes them."""
        arch, compute, post = self.arch, self.compute, self.post
        # Tokens keep a word from being read while it is written; synthesis need not care for it.
        unchecked = {"no_rw_check": 1}

        def memory_of(space):
            row = MEMORIES[space]
            return Memory(shape=row.bits(arch), depth=row.depth(arch), init=[], attrs=unchecked)
        activations = self._elaborate_activations(m, unchecked)
        parameters = memory_of(Space.PARAMETER)
        m.submodules.parameters = parameters
        if arch.two_fillings:
            weights = [Memory(shape=arch.weight_bits, depth=-(-arch.weight_depth // 2), init=[],
                              attrs=unchecked) for _ in range(2)]
            m.submodules.weights, m.submodules.weights_odd = weights
        else:
            weights = [memory_of(Space.WEIGHT)]
            m.submodules.weights = weights[0]
        reads = [(weights[0], compute.weight_address, compute.weight_data)] if (
            len(weights) == 1) else [
            (memory, compute.weight_address[odd],
             compute.weight_data.word_select(odd, arch.weight_bits))
            for odd, memory in enumerate(weights)]
        for memory, address, word in (
                *reads,
                (parameters, post.parameter_address, post.parameter_data)):
            port = memory.read_port()
            m.d.comb += [port.addr.eq(address), word.eq(port.data)]
        m.d.comb += [compute.read_address.eq(post.read_address),
                     post.read_data.eq(compute.read_data)]

        # Load writes all; the ports of activations and operands it shares with post-processing.
        new = load.o.payload
        parts = len(activations)
        shared = [(activations[part], Space.ACTIVATION, post.write_enable, post.write_address, part)
                  for part in range(parts)]
        # LOAD's word waits while post-processing writes; whether it does, a register says.
        same = Const(1) if parts == 1 else post.upcoming_odd == load.upcoming_odd
        waits = [post.writes & load.upcoming[Space.ACTIVATION] & same]
        if post.operand_lane is not None:
            operands = memory_of(Space.OPERAND)
            m.submodules.operands = operands
            port = operands.read_port()
            m.d.comb += [port.addr.eq(post.operand_address), post.operand_data.eq(port.data)]
            shared.append(([operands], Space.OPERAND, post.copy_enable, post.copy_address, 0))
            waits.append(post.copies & load.upcoming[Space.OPERAND])
        for banks, space, enable, address, part in shared:
            name = space.name.lower() + "_odd" * part
            posting = Signal(name=f"posting_{name}")
            loading = new.memory[space]
            writes = enable != 0
            if len(enable) > 1:     # the same as a register
                writes = Signal(name=f"post_writes_{name}")
                m.d.sync += writes.eq(post.writes if space == Space.ACTIVATION else post.copies)
            if space != Space.ACTIVATION or parts == 1:
                m.d.comb += posting.eq(writes)
                at = Mux(posting, address, new.address)
            else:
                m.d.comb += posting.eq(writes & (address[0] == part))
                at = Mux(posting, address[1:], new.address[1:])
                loading &= new.address[0] == part
            self._write(m, banks, space, name, at,
                        Mux(posting, post.write_data, new.activation),
                        Mux(posting, enable, loading.replicate(len(enable))),
                        posting | loading if len(enable) > 1 else None)
        ready = Signal(init=1, name="load_ready")
        m.d.sync += ready.eq(~reduce(or_, waits))
        m.d.comb += load.o.ready.eq(ready)
        self._write(m, [parameters], Space.PARAMETER, "parameter", new.address, new.parameter,
                    new.memory[Space.PARAMETER])
        for odd, memory in enumerate(weights):
            mine = len(weights) == 1 or new.address[0] == odd
            self._write(m, [memory], Space.WEIGHT, "weight" + "_odd" * odd,
                        new.address[len(weights) - 1:], new.weight,
                        new.memory[Space.WEIGHT] & mine)

        if post.table_lane is not None:
            m.d.comb += [post.table_address.eq(new.address), post.table_data.eq(new.table),
                         post.table_enable.eq(new.memory[isa.Memory.TABLE])]
        if arch.weight_pools:
            m.d.comb += [compute.pool_address.eq(new.address), compute.pool_data.eq(new.pool),
                         compute.pool_enable.eq(new.memory[isa.Memory.POOL])]

    def _elaborate_activations(self, m, attrs):
        """The activation memory: for each parity of an address, or for both, its banks, each of
        which is read at an address of its own where there are several."""
        arch, compute = self.arch, self.compute
        width, parts = arch.activation_bits // arch.banks, 1 + arch.two_writes
        memories: list[list[Memory]] = [[] for _ in range(parts)]
        for part, bank in product(range(parts), range(arch.banks)):
            one = Memory(shape=width, depth=-(-arch.activation_depth // parts), init=[],
                         attrs=attrs)
            name = "activations" + f"_{bank}" * (arch.banks > 1) + "_odd" * part
            m.submodules[name] = one
            address = compute.activation_address
            address = address if arch.banks == 1 else address[bank]
            port = one.read_port()
            m.d.comb += [
                port.addr.eq(address[parts - 1:]),
                compute.activation_data.word_select(part * arch.banks + bank, width).eq(port.data)]
            memories[part].append(one)
        return memories

    def _write(self, m, banks, space, name, address, word, enable, some=None):
        """The write port of a memory of these banks, as many bits of whose words as `enable` has
        are written apart (`some`: any of it, where that is known earlier); `name` is for signals. A
        large memory is written a cycle later, from registers that stand near it: tokens for the
        word are given then at the earliest, and read later."""
        if MEMORIES[space].large(self.arch):
            at, what, now = (Signal(bits, name=f"{name}_{part}", reset_less=True)
                             for part, bits in (("at", range(banks[0].depth)),
                                                ("word", len(word)), ("enable", len(enable))))
            # (each memory's has an enable of its own, so that synthesis keeps them apart)
            with m.If(enable != 0 if some is None else some):
                m.d.sync += [at.eq(address), what.eq(word)]
            m.d.sync += now.eq(enable)
            address, word, enable = at, what, now
        each = len(enable) // len(banks)        # enables of a bank
        for number, bank in enumerate(banks):
            port = bank.write_port(granularity=None if each == 1 else len(word) // len(enable))
            m.d.comb += port.addr.eq(address)
            if len(banks) == 1:
                m.d.comb += [port.data.eq(word), port.en.eq(enable)]
            else:
                m.d.comb += [port.data.eq(word.word_select(number, len(port.data))),
                             port.en.eq(enable.word_select(number, each))]
