"""The ARRAY unit: fills weights, streams pixels, accumulates.

    weight memory --> WeightFeeder --\
                                      array --> accumulators
    activation memory --> pixels ----/

The feeder works up to one pass ahead of the pixels, across instructions, so that passes follow
each other without a gap. Latencies are counted from the cycle s in which a pixel is decided on:
its address is out in s + 1, its word enters the array in s + 2.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec import isa
from systolith.hw.spec.registers import UnitState
from systolith.hw.spec.timing import REVISIT, array_latency, column_delay

from .accumulator import AccumulatorColumn
from .array import SystolicArray
from .blocks import place
from .result_address import ResultAddress
from .streamer import PixelStreamer

__all__ = ["Compute", "WeightFeeder"]

_LAYOUT = isa.layout(isa.Opcode.ARRAY)
_LOAD, _POST = 1 << isa.Unit.LOAD, 1 << isa.Unit.POST


class WeightFeeder(wiring.Component):
    """Fills the array's weights, one filling per pass, in program order.

    A filling takes `rows` cycles from the one in which it is swapped in, which is at least
    `REVISIT` cycles after the previous one was: a pass's first sum must be in the accumulators when
    the next pass adds to it. So the shortest pass takes `timing.shortest_pass`.

    Members
    -------
    start : In(1)
        Take `instruction` (only when `idle`); its first filling begins in the next cycle at the
        earliest.
    idle : Out(1)
        No fillings are left to do, counting the cycle of the last word as done.
    loaded : Out(1)
        A filling can be swapped in.
    filling : Out(1)
        Words of a filling are still to be decided on, its first one not counted.
    swap : In(1)
        A filling is swapped in by the pixel of this cycle; only when `loaded`.
    address : Out(20)
        Weight word, one cycle after it was decided on.
    """

    def __init__(self, *, arch):
        self.arch = arch
        super().__init__({
            "start": In(1), "instruction": In(_LAYOUT), "idle": Out(1),
            "loaded": Out(1), "filling": Out(1), "swap": In(1),
            "address": Out(20),
        })

    def elaborate(self, platform):
        m = Module()
        rows = self.arch.rows
        loops = ("blocks", "kernel_x", "kernel_y")
        counts = {n: Signal(_LAYOUT[n].shape, name=n, reset_less=True) for n in loops}
        left = {n: Signal(_LAYOUT[n].shape, name=f"{n}_left", reset_less=True) for n in loops}
        active, filling = Signal(), Signal()
        step = Signal(range(rows))
        hold = Signal(range(REVISIT))
        address = Signal(20, reset_less=True)

        end, last = Signal(), Signal()
        m.d.comb += [
            end.eq((self.swap | filling) & (step == rows - 1)),
            last.eq(Cat(left[n] == 0 for n in loops).all()),
            self.idle.eq(~active | (end & last)),
            self.loaded.eq(active & ~filling & (hold == 0)), self.filling.eq(filling),
        ]
        with m.If(self.swap):
            m.d.sync += hold.eq(REVISIT - 1)
        with m.Elif(hold != 0):
            m.d.sync += hold.eq(hold - 1)
        with m.If(self.swap | filling):
            m.d.sync += [filling.eq(~end), step.eq(Mux(end, 0, step + 1)), address.eq(address + 1)]
            with m.If(end):
                with m.If(last):
                    m.d.sync += active.eq(0)
                with m.Elif(left["blocks"] != 0):
                    m.d.sync += left["blocks"].eq(left["blocks"] - 1)
                with m.Elif(left["kernel_x"] != 0):
                    m.d.sync += [left["kernel_x"].eq(left["kernel_x"] - 1),
                                 left["blocks"].eq(counts["blocks"] - 1)]
                with m.Else():
                    m.d.sync += [left["kernel_y"].eq(left["kernel_y"] - 1),
                                 left["kernel_x"].eq(counts["kernel_x"] - 1),
                                 left["blocks"].eq(counts["blocks"] - 1)]

        # Path of a word: address register, memory, then the array's edge.
        m.d.sync += self.address.eq(address)

        with m.If(self.start):
            m.d.sync += [active.eq(1), address.eq(self.instruction.weight_base)]
            for name in loops:
                m.d.sync += [counts[name].eq(self.instruction[name]),
                             left[name].eq(self.instruction[name] - 1)]
        return m


class Compute(wiring.Component):
    """The ARRAY unit with its accumulators.

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
    i : In(stream of ARRAY instructions)
    available, take, give : tokens, see `systolith.hw.core.tokens`
    activation_address : Out, activation_data : In
        The activation memory's read port; data one cycle after the address.
    weight_address : Out, weight_data : In
        The weight memory's read port.
    read_address : In, read_data : Out(ArrayLayout(accumulators, columns))
        The accumulators' second read port, all columns at once; data one cycle later.
    busy, state, missing, progress, started
        For the sequencer; `started` pulses with each pass's first pixel.
    """

    def __init__(self, *, arch):
        self.arch = arch
        self.array = SystolicArray(arch=arch)
        self.feeder = WeightFeeder(arch=arch)
        self.column = AccumulatorColumn(arch=arch)
        super().__init__({
            "i": In(stream.Signature(_LAYOUT)),
            "available": In(4), "take": Out(4), "give": Out(4),
            "activation_address": Out(range(arch.activation_depth)),
            "activation_data": In(arch.activation_bits),
            "weight_address": Out(range(arch.weight_depth)),
            "weight_data": In(arch.weight_bits),
            "read_address": In(range(arch.accumulator_depth)),
            "read_data": Out(data.ArrayLayout(signed(arch.accumulator_bits), arch.columns)),
            "busy": Out(1), "state": Out(4), "missing": Out(4), "progress": Out(1),
            "started": Out(1),
        })

    @property
    def latency(self):
        """Cycles from the decision on a pixel to the write of its last column's sum."""
        return array_latency(self.arch, self.array.pe.arithmetic.stages)

    @property
    def _to_column(self):
        """Cycles from the decision on a pixel to column 0's accumulator control."""
        return 2 + self.array.latency - 1

    @property
    def blocks(self):
        return {**self.array.blocks, "systolith_accumulator": self.column}

    def elaborate(self, platform):
        m = Module()
        arch = self.arch
        m.submodules.array = array = self.array
        m.submodules.feeder = feeder = self.feeder
        m.submodules.pixels = pixels = PixelStreamer()

        # Which instruction: the feeder takes the waiting one first, the pixels pop it.
        instruction = self.i.payload
        missing = Signal(4)
        fed, running = Signal(), Signal()
        feed, begin = Signal(), Signal()
        slot, finish = Signal(), Signal()
        m.d.comb += [
            missing.eq(instruction.wait & ~self.available),
            feed.eq(self.i.valid & ~fed & feeder.idle & ~missing[isa.Unit.LOAD]),
            begin.eq(self.i.valid & fed & ~(missing & ~_LOAD).any() & (~running | finish)),
            self.i.ready.eq(begin),
            self.take.eq(Mux(feed, instruction.wait & _LOAD, 0)
                         | Mux(begin, instruction.wait & ~_LOAD, 0)),
            feeder.start.eq(feed), feeder.instruction.eq(instruction),
            pixels.start.eq(begin), pixels.instruction.eq(instruction),
        ]
        with m.If(feed | begin):
            m.d.sync += fed.eq(feed)
        with m.If(begin | finish):
            m.d.sync += running.eq(begin)

        # Which pixel. `settle` counts the cycles in which earlier sums are still on their way.
        fields = pixels.fields
        settle = Signal(range(REVISIT))
        adds, can_swap = Signal(), Signal()
        m.d.comb += [
            adds.eq(pixels.first_pass & fields.accumulate),
            can_swap.eq(running & pixels.first_pixel & feeder.loaded & ~(adds & (settle != 0))),
            slot.eq(can_swap | (running & ~pixels.first_pixel)),
            feeder.swap.eq(can_swap),
            pixels.step.eq(slot),
            finish.eq(slot & pixels.last_pixel & pixels.last_pass),
            self.started.eq(feeder.swap),
        ]
        with m.If(slot):
            m.d.sync += settle.eq(REVISIT - 1)
        with m.Elif(settle != 0):
            m.d.sync += settle.eq(settle - 1)
        if arch.depthwise:
            # From the top: the bus first brings all weights, then pixels.
            from_above, filled = Signal(), Signal()
            m.d.comb += from_above.eq(fields.starts != 0)
            with m.If(from_above):
                m.d.comb += [
                    feeder.swap.eq(can_swap & ~filled),
                    slot.eq(running & (~pixels.first_pixel | (filled & ~feeder.filling)))]
            with m.If(feeder.swap | slot):
                m.d.sync += filled.eq(feeder.swap & from_above)
        m.submodules.results = results = ResultAddress(arch=arch)
        m.d.comb += [
            results.start.eq(begin), results.instruction.eq(instruction), results.step.eq(slot),
            results.fields.eq(fields), results.last_tap.eq(pixels.last_tap),
            results.last_column.eq(pixels.last_column), results.last_pixel.eq(pixels.last_pixel),
        ]

        # Pixel: decision -> address -> word -> array.
        entering = Signal(data.StructLayout({"swap": 1, "inside": 1, "from_above": 1,
                                             "pad_code": arch.activation.width}))
        at_memory, at_array = Signal.like(entering), Signal.like(entering)
        m.d.comb += [entering.swap.eq(feeder.swap), entering.inside.eq(pixels.inside),
                     entering.pad_code.eq(fields.pad_code)]
        m.d.sync += [at_memory.eq(entering), at_array.eq(at_memory)]
        m.d.comb += [
            self.activation_address.eq(pixels.address), array.swap.eq(at_array.swap),
            array.activations.eq(Mux(at_array.inside, self.activation_data,
                                     at_array.pad_code.replicate(arch.vector))),
            array.weights.eq(self.weight_data), self.weight_address.eq(feeder.address),
        ]
        if arch.depthwise:
            m.d.comb += [entering.from_above.eq(slot & from_above),
                         array.from_above.eq(at_array.from_above)]

        # Sums: the control goes along, to column 0 and from column to column.
        double = {"double": 1} if arch.bit_planes else {}
        control = Signal(data.StructLayout({
            "enable": 1, "first": 1, "valid": 1, "address": range(arch.accumulator_depth),
            **double}))
        m.d.comb += [control.enable.eq(slot & results.begins), control.address.eq(results.address),
                     control.valid.eq(pixels.inside | fields.pad_valid | (fields.starts != 0)),
                     control.first.eq(pixels.first_pass & ~fields.accumulate)]
        if double:
            m.d.comb += control.double.eq(pixels.first_pass & fields.double)
        for stage in range(self._to_column):
            delayed = Signal.like(control, name=f"control_{stage}", reset_less=True)
            m.d.sync += delayed.eq(control)
            control = delayed
        names = ("enable", "first", "valid", "address", *double)
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

        # Tokens travel along with the pixels that they wait for.
        early = fields.signal & Mux(fields.early, _POST, 0)
        giving = Signal(data.StructLayout({"tokens": 4, "done": 1}))
        m.d.comb += [
            giving.tokens.eq(
                Mux(feeder.swap & pixels.last_pass, early, 0)
                | Mux(finish, fields.signal & ~early, 0)),
            giving.done.eq(finish),
        ]
        for stage in range(self.latency):
            delayed = Signal.like(giving, name=f"giving_{stage}")
            m.d.sync += delayed.eq(giving)
            giving = delayed
        in_flight = Signal(range(self.latency + 2))
        m.d.comb += self.give.eq(giving.tokens)
        m.d.sync += in_flight.eq(in_flight + begin - giving.done)

        m.d.comb += [
            self.busy.eq(self.i.valid | (in_flight != 0)),
            self.progress.eq(slot | feed | begin | (self.give != 0)),
        ]
        with m.If(running | (in_flight != 0)):
            m.d.comb += self.state.eq(UnitState.RUNNING)
        with m.Elif(self.i.valid):
            m.d.comb += [self.missing.eq(missing & Mux(fed, ~_LOAD, -1)),
                         self.state.eq(Mux(self.missing != 0, UnitState.TOKENS,
                                           UnitState.RUNNING))]
        return m
