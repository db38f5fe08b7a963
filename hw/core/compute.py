"""The ARRAY unit: fills weights, streams pixels, accumulates.

    weight memory --> WeightFeeder --\
                                      array --> accumulators
    activation memory --> pixels ----/

The feeder works up to one pass ahead of the pixels, across instructions, so that passes follow
each other without a gap. Latencies are counted from the cycle s in which a pixel is decided on:
its address is out in s + 1, its word enters the array in s + 2.
"""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.registers import UnitState
from systolith.hw.spec.timing import REVISIT, array_latency, column_delay

from .accumulator import AccumulatorColumn
from .array import SystolicArray
from .blocks import place
from .feeder import WeightFeeder
from .result_address import ResultAddress
from .streamer import PixelStreamer
from .unit import ExecutionUnit

__all__ = ["Compute"]

_LAYOUT = isa.layout(isa.Opcode.ARRAY)
_LOAD, _POST = 1 << isa.Unit.LOAD, 1 << isa.Unit.POST


class _Flow:
    """Signals that say which instruction is worked on and what happens in this cycle."""

    def __init__(self) -> None:
        self.fed = Signal()         # the feeder has taken the waiting instruction
        self.running = Signal()     # the streamer has an instruction's pixels
        self.feed = Signal()        # the feeder takes the waiting instruction
        self.begin = Signal()       # the streamer takes it
        self.slot = Signal()        # a pixel is decided on
        self.finish = Signal()      # and is its instruction's last one


class Compute(ExecutionUnit):
    """Executes ARRAY instructions: the array, what feeds it, and its accumulators.

    Timing: an instruction's tokens from LOAD are taken when its first filling starts, the other
    ones when its pixels start, at the earliest in the cycle of the last pixel before it; its
    first pixel is decided on in the next cycle, if its filling can be swapped in. A pass of n
    pixels takes max(n, timing.shortest_pass) cycles; a pass that adds to sums of an earlier
    instruction waits until 3 cycles after that one's last pixel. The sum of a pixel decided on in
    cycle s is written in s + latency in the last column, and earlier in the others; tokens are
    given in that cycle, for the instruction's last pixel, or (early) the first pixel of its last
    pass. Where activations come from the top, pixels start `rows` cycles after the swap.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    i, available, take, give, busy, progress, state, missing
        See `UnitSignature`. `busy`: an instruction waits at `i` or has sums that are not written.
    activation_address : Out, activation_data : In
        The activation memory's read port; data one cycle after the address.
    weight_address : Out, weight_data : In
        The weight memory's read port.
    read_address : In, read_data : Out(ArrayLayout(accumulators, columns))
        The accumulators' second read port, all columns at once; data one cycle later.
    started : Out(1)
        A filling of weights is swapped in: a pass starts.
    """

    def __init__(self, *, arch: Arch) -> None:
        self.array = SystolicArray(arch=arch)
        self.feeder = WeightFeeder(arch=arch)
        self.column = AccumulatorColumn(arch=arch)
        super().__init__(isa.Opcode.ARRAY, arch=arch, own={
            "activation_address": Out(range(arch.activation_depth)),
            "activation_data": In(arch.activation_bits),
            "weight_address": Out(range(arch.weight_depth)),
            "weight_data": In(arch.weight_bits),
            "read_address": In(range(arch.accumulator_depth)),
            "read_data": Out(data.ArrayLayout(signed(arch.accumulator_bits), arch.columns)),
            "started": Out(1),
        })

    @property
    def latency(self) -> int:
        """Cycles from the decision on a pixel to the write of its last column's sum."""
        return array_latency(self.arch, self.array.pe.arithmetic.stages)

    @property
    def _to_column(self) -> int:
        """Cycles from the decision on a pixel to column 0's accumulator control."""
        return 2 + self.array.latency - 1

    @property
    def blocks(self) -> dict[str, wiring.Component]:
        """Verilog modules to be emitted along: name -> block."""
        return {**self.array.blocks, "systolith_accumulator": self.column}

    def elaborate(self, platform):
        m = Module()
        arch = self.arch
        m.submodules.array = self.array
        m.submodules.feeder = self.feeder
        m.submodules.pixels = pixels = PixelStreamer()
        flow = _Flow()
        missing = self._elaborate_issue(m, flow, pixels)
        from_above = self._elaborate_steps(m, flow, pixels)
        m.submodules.results = results = ResultAddress(arch=arch)
        m.d.comb += [
            results.start.eq(flow.begin), results.instruction.eq(self.i.payload),
            results.step.eq(flow.slot), results.fields.eq(pixels.fields),
            results.last_tap.eq(pixels.last_tap), results.last_column.eq(pixels.last_column),
            results.last_pixel.eq(pixels.last_pixel),
        ]
        self._elaborate_pixels(m, flow, pixels, from_above)
        self._elaborate_sums(m, self._delayed_control(m, flow, pixels, results))
        in_flight = self._elaborate_tokens(m, flow, pixels)
        self._elaborate_state(m, flow, missing, in_flight)
        return m

    def _elaborate_issue(self, m, flow, pixels):
        """Which instruction: the feeder takes the waiting one first, the pixels pop it. Returns
        the units whose tokens are missing."""
        instruction, feeder = self.i.payload, self.feeder
        missing = Signal(4)
        m.d.comb += [
            missing.eq(instruction.wait & ~self.available),
            flow.feed.eq(self.i.valid & ~flow.fed & feeder.idle & ~missing[isa.Unit.LOAD]),
            flow.begin.eq(self.i.valid & flow.fed & ~(missing & ~_LOAD).any()
                          & (~flow.running | flow.finish)),
            self.i.ready.eq(flow.begin),
            self.take.eq(Mux(flow.feed, instruction.wait & _LOAD, 0)
                         | Mux(flow.begin, instruction.wait & ~_LOAD, 0)),
            feeder.start.eq(flow.feed), feeder.instruction.eq(instruction),
            pixels.start.eq(flow.begin), pixels.instruction.eq(instruction),
        ]
        with m.If(flow.feed | flow.begin):
            m.d.sync += flow.fed.eq(flow.feed)
        with m.If(flow.begin | flow.finish):
            m.d.sync += flow.running.eq(flow.begin)
        return missing

    def _elaborate_steps(self, m, flow, pixels):
        """Whether a pixel is decided on, and whether it swaps weights in. Returns the signal that
        activations come from the top, or None on chips where they never do."""
        feeder, fields = self.feeder, pixels.fields
        settle = Signal(range(REVISIT))   # earlier sums are still on their way
        adds = Signal()
        can_swap = Signal()
        m.d.comb += [
            adds.eq(pixels.first_pass & fields.accumulate),
            can_swap.eq(flow.running & pixels.first_pixel & feeder.loaded
                        & ~(adds & (settle != 0))),
            flow.slot.eq(can_swap | (flow.running & ~pixels.first_pixel)),
            feeder.swap.eq(can_swap),
            pixels.step.eq(flow.slot),
            flow.finish.eq(flow.slot & pixels.last_pixel & pixels.last_pass),
            self.started.eq(feeder.swap),
        ]
        with m.If(flow.slot):
            m.d.sync += settle.eq(REVISIT - 1)
        with m.Elif(settle != 0):
            m.d.sync += settle.eq(settle - 1)
        if not self.arch.depthwise:
            return None
        # From the top: the bus first brings all weights, then pixels.
        from_above = Signal()
        filled = Signal()
        m.d.comb += from_above.eq(fields.starts != 0)
        with m.If(from_above):
            m.d.comb += [
                feeder.swap.eq(can_swap & ~filled),
                flow.slot.eq(flow.running
                             & (~pixels.first_pixel | (filled & ~feeder.filling)))]
        with m.If(feeder.swap | flow.slot):
            m.d.sync += filled.eq(feeder.swap & from_above)
        return from_above

    def _elaborate_pixels(self, m, flow, pixels, from_above):
        """A pixel's way: decision, address, word, array."""
        arch, array = self.arch, self.array
        entering = Signal(data.StructLayout({"swap": 1, "inside": 1, "from_above": 1,
                                             "pad_code": arch.activation.width}))
        at_memory, at_array = Signal.like(entering), Signal.like(entering)
        m.d.comb += [entering.swap.eq(self.feeder.swap), entering.inside.eq(pixels.inside),
                     entering.pad_code.eq(pixels.fields.pad_code)]
        m.d.sync += [at_memory.eq(entering), at_array.eq(at_memory)]
        m.d.comb += [
            self.activation_address.eq(pixels.address), array.swap.eq(at_array.swap),
            array.activations.eq(Mux(at_array.inside, self.activation_data,
                                     at_array.pad_code.replicate(arch.vector))),
            array.weights.eq(self.weight_data), self.weight_address.eq(self.feeder.address),
        ]
        if from_above is not None:
            m.d.comb += [entering.from_above.eq(flow.slot & from_above),
                         array.from_above.eq(at_array.from_above)]

    def _delayed_control(self, m, flow, pixels, results):
        """What column 0's accumulator does with a pixel's sum, when the sum is about to arrive."""
        arch, fields = self.arch, pixels.fields
        control = Signal(data.StructLayout({
            "enable": 1, "first": 1, "valid": 1, "address": range(arch.accumulator_depth),
            **({"double": 1} if arch.bit_planes else {})}))
        m.d.comb += [control.enable.eq(flow.slot & results.begins),
                     control.address.eq(results.address),
                     control.valid.eq(pixels.inside | fields.pad_valid | (fields.starts != 0)),
                     control.first.eq(pixels.first_pass & ~fields.accumulate)]
        if arch.bit_planes:
            m.d.comb += control.double.eq(pixels.first_pass & fields.double)
        for stage in range(self._to_column):
            delayed = Signal.like(control, name=f"control_{stage}", reset_less=True)
            m.d.sync += delayed.eq(control)
            control = delayed
        return control

    def _elaborate_sums(self, m, control):
        """The accumulators; each passes its control on to the next column."""
        arch, array = self.arch, self.array
        names = [name for name, _ in control.shape()]
        controls = {name: control[name] for name in names}
        for column in range(arch.columns):
            out = {name: Signal.like(control[name], name=f"{name}_{column}") for name in names}
            m.submodules[f"accumulator_{column}"] = place(
                self.column, "systolith_accumulator", **controls,
                **{f"{name}_out": value for name, value in out.items()},
                sum=array.sums[column], read_address=self.read_address,
                read_data=self.read_data[column])
            if column_delay(arch, column + 1) > column_delay(arch, column):
                controls = out

    def _elaborate_tokens(self, m, flow, pixels):
        """Tokens travel along with the pixels that they wait for. Returns the number of
        instructions whose sums are not all written."""
        fields = pixels.fields
        early = fields.signal & Mux(fields.early, _POST, 0)
        giving = Signal(data.StructLayout({"tokens": 4, "done": 1}))
        m.d.comb += [
            giving.tokens.eq(
                Mux(self.feeder.swap & pixels.last_pass, early, 0)
                | Mux(flow.finish, fields.signal & ~early, 0)),
            giving.done.eq(flow.finish),
        ]
        for stage in range(self.latency):
            delayed = Signal.like(giving, name=f"giving_{stage}")
            m.d.sync += delayed.eq(giving)
            giving = delayed
        in_flight = Signal(range(self.latency + 2))
        m.d.comb += self.give.eq(giving.tokens)
        m.d.sync += in_flight.eq(in_flight + flow.begin - giving.done)
        return in_flight

    def _elaborate_state(self, m, flow, missing, in_flight):
        """What the sequencer and the registers see."""
        m.d.comb += [
            self.busy.eq(self.i.valid | (in_flight != 0)),
            self.progress.eq(flow.slot | flow.feed | flow.begin | (self.give != 0)),
        ]
        with m.If(flow.running | (in_flight != 0)):
            m.d.comb += self.state.eq(UnitState.RUNNING)
        with m.Elif(self.i.valid):
            m.d.comb += [self.missing.eq(missing & Mux(flow.fed, ~_LOAD, -1)),
                         self.state.eq(Mux(self.missing != 0, UnitState.TOKENS,
                                           UnitState.RUNNING))]
