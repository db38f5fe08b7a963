"""The ARRAY unit: fills weights, streams pixels, accumulates.

    weight memory --> WeightFeeder --\
                                      array --> accumulators
    activation memory --> pixels ----/

Passes follow each other without a gap, across instructions, too. Latencies are counted from the
cycle s in which a pixel is decided on: its coordinates are there in s + 1, its address is out in
s + 2, its word enters the array in s + `timing.word_latency`.
"""

from functools import reduce
from operator import and_, or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.narrow import parts_of
from systolith.hw.spec.near import columns_behind, near_columns, near_rows
from systolith.hw.spec.registers import UnitState
from systolith.hw.spec.timing import (
    REVISIT,
    array_latency,
    column_delay,
    pool_stages,
    shortest_pass,
    word_latency,
)

from .accumulator import AccumulatorColumn
from .array import SystolicArray
from .blocks import place
from .feeder import WeightFeeder
from .near_passes import NearPasses, ShortDelay
from .result_address import ResultAddress
from .streamer import PixelStreamer
from .unit import ExecutionUnit, keep

__all__ = ["Compute"]

_POST = 1 << isa.Unit.POST


def _extended(code, width, sign=True):
    """A number with or without a sign, in as many bits."""
    left = width - len(code)
    return Cat(code, code[-1].replicate(left) if sign else Const(0, left))


class _Flow:
    """What is known of the instruction whose pixels are decided on, and of the cycle before."""

    def __init__(self, arch: Arch) -> None:
        self.begun = Signal()       # it has begun in the cycle before
        self.fields: dict[str, Value] = {}      # "accumulate", "double", "signs", "side"
        # its activations come from the top; tokens of its last pass's first pixel, of its last one
        self.above: Value
        self.early: Value
        self.late: Value
        self.gone = Signal()        # the word of its last pixel enters the array
        # two cycles after its first weights were swapped in: rows that its passes fill
        self.height = Signal(range(arch.fill + 1), reset_less=True)
        self.idle = Signal(name="rows_idle", reset_less=True)   # rows beyond, before its first pass
        self.near = NearPasses(arch)


class Compute(ExecutionUnit):
    """Executes ARRAY instructions: the array, what feeds it, and its accumulators.

    Timing: an instruction begins one cycle after it is at `i` with all its tokens, at the earliest
    in the cycle of the last pixel before it; tokens are taken and `i` is popped in the next cycle.
    Its first pixel is decided on in that cycle, if its filling can be swapped in. A pass of n
    pixels takes max(n, timing.shortest_pass) cycles; a pass that adds to sums of an earlier
    instruction waits until `REVISIT` cycles after that one's last pixel. The sum of a pixel decided
    on in cycle s is written in s + latency + 1 in the last column, and earlier in the others.
    Tokens are given in the cycle before, since none of its takers can read the sum in the next
    cycle: for the instruction's last pixel, or (early) the first pixel of its last pass. On chips
    without prefetch `i` is popped when the last pixel's word enters the array. Where
    activations come from the top, pixels start `arch.upper_rows` cycles after the swap. In near
    rows, all that follows an instruction's words is earlier by the rows that it skips; `NearPasses`
    says when it may begin.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    i, available, take, give, busy, progress, state, missing
        See `UnitSignature`. `busy`: an instruction waits at `i` or has sums that are not written.
    activation_address : Out, activation_data : In
        The activation memory's read port; data one cycle after the address. On chips with banks,
        an address for each. On chips with arch.two_writes the data are two words: those at the
        address with its lowest bit 0, and 1.
    weight_address : Out, weight_data : In
        The weight memory's read port. On chips with arch.two_fillings two addresses, each without
        its lowest bit, in the memories of even and of odd words, and their words.
    read_address : In, read_data : Out(ArrayLayout(accumulators, columns))
        The accumulators' second read port, all columns at once; data one cycle later.
    started : Out(1)
        A filling of weights is swapped in: a pass starts.
    clear : In(1)
        A program starts. On chips with arch.two_fillings.
    give_near : Out(len(near_columns(arch)))
        POST's token as soon as the sums of so many columns are written, in each of these cases. On
        chips that have near columns.
    pool_enable, pool_address, pool_data : In
        The pool memory's write port, if the chip has pools.
    """

    def __init__(self, *, arch: Arch) -> None:
        self.array = SystolicArray(arch=arch)
        self.feeder = WeightFeeder(arch=arch)
        self.column = AccumulatorColumn(arch=arch)
        super().__init__(isa.Opcode.ARRAY, arch=arch, own={
            "activation_address": Out(range(arch.activation_depth) if arch.banks == 1 else
                                      data.ArrayLayout(range(arch.activation_depth), arch.banks)),
            "activation_data": In(arch.activation_bits << arch.two_writes),
            "weight_address": Out(range(arch.weight_depth) if not arch.two_fillings else
                                  data.ArrayLayout(range(-(-arch.weight_depth // 2)), 2)),
            "weight_data": In(arch.weight_bits << arch.two_fillings),
            "read_address": In(range(arch.accumulator_depth)),
            "read_data": Out(data.ArrayLayout(signed(arch.kept_bits), arch.columns)),
            "started": Out(1), **({"clear": In(1)} if arch.two_fillings else {}),
            **({"give_near": Out(len(near_columns(arch)))} if near_columns(arch) else {}),
            **({"pool_enable": In(1), "pool_address": In(range(arch.pool_depth)),
                "pool_data": In(arch.weight.width)} if arch.weight_pools else {}),
        })

    @property
    def latency(self) -> int:
        """Cycles from the decision on a pixel to its tokens, one before its last sum is written."""
        return array_latency(self.arch, self.array.pe.arithmetic.stages)

    @property
    def _to_column(self) -> int:
        """Cycles from the decision on a pixel to column 0's accumulator control."""
        return word_latency(self.arch) + self.array.latency - 2

    @property
    def blocks(self) -> dict[str, wiring.Component]:
        """Verilog modules to be emitted along: name -> block."""
        return {**self.array.blocks, "systolith_accumulator": self.column}

    def elaborate(self, platform: object) -> Module:
        m = Module()
        arch = self.arch
        m.submodules.array = self.array
        m.submodules.feeder = self.feeder
        m.submodules.pixels = pixels = PixelStreamer(arch=arch)
        flow = _Flow(arch)
        missing = self._elaborate_issue(m, flow, pixels)
        self._elaborate_steps(m, flow, pixels)
        m.submodules.results = results = ResultAddress(arch=arch)
        # Results are counted a cycle later than pixels.
        m.d.comb += [results.start.eq(flow.begun), results.instruction.eq(self.i.payload)]
        m.d.sync += [getattr(results, name).eq(value) for name, value in (
            ("step", pixels.step), ("last_tap", pixels.last_tap),
            ("last_column", pixels.last_column), ("last_pixel", pixels.last_pixel))]
        self._elaborate_pixels(m, flow, pixels)
        self._elaborate_sums(m, self._delayed_control(m, flow, pixels, results))
        in_flight = self._elaborate_tokens(m, flow, pixels)
        self._elaborate_state(m, flow, pixels, missing, in_flight)
        return m

    def _elaborate_issue(self, m, flow, pixels):
        """Which instruction. Returns the units whose tokens are missing."""
        instruction = self.i.payload
        missing = Signal(4)
        # what is known of the next instruction before it begins
        above = Signal(reset_less=True)
        early, late = (Signal(4, name=f"new_{name}", reset_less=True) for name in ("early", "late"))
        held = Signal()             # the instruction at `i` has begun
        m.d.comb += [
            missing.eq(instruction.wait & ~self.available),
            self.i.ready.eq(flow.begun if self.arch.prefetch else flow.gone),
            self.take.eq(Mux(flow.begun, instruction.wait, 0)),
            pixels.instruction.eq(instruction),
        ]
        early_units = Signal(4)
        m.d.comb += early_units.eq(Mux(instruction.early, _POST, 0))
        m.d.sync += [flow.begun.eq(pixels.begin), above.eq(instruction.starts != 0),
                     early.eq(instruction.signal & early_units),
                     late.eq(instruction.signal & ~early_units),
                     pixels.ready.eq(self.i.valid & (missing == 0) & ~pixels.begin & ~held)]
        if near_rows(self.arch):
            flow.near.elaborate(m, instruction, pixels, self.feeder.swap)
        if self.arch.prefetch:
            m.d.comb += held.eq(flow.begun)
        else:
            m.d.sync += held.eq(pixels.begin | (held & ~flow.gone))
        flow.fields = {name: keep(m, self.arch, pixels.begin, instruction[name], name)
                       for name in ("accumulate", "double", "signs",
                                    *(["side"] if self.arch.side_taps else []),
                                    *(["planes"] if self.arch.plane_rows else []))}
        flow.above, flow.early, flow.late = (
            keep(m, self.arch, pixels.begin, value, name)
            for name, value in (("above", above), ("early", early), ("late", late)))
        return missing

    def _elaborate_steps(self, m, flow, pixels):
        """When weights are swapped in, and with them a pass begins."""
        arch, feeder = self.arch, self.feeder
        settle = Signal(range(REVISIT))
        settled = Signal(init=1)        # in the next cycle no sums are still on their way
        adds = Signal(reset_less=True)  # to sums of an earlier instruction
        # by the first pass of an instruction that has begun in the cycle before, or another one
        may = Signal(2)
        can_swap = Signal()
        m.d.comb += [
            can_swap.eq(may.any()),
            pixels.enter.eq(may),
            feeder.swap.eq(can_swap & pixels.running & pixels.first_pixel),
            feeder.first.eq(pixels.first_pass),
            self.started.eq(feeder.swap),
        ]
        loaded = feeder.loaded & ~feeder.swap
        may_begin = loaded & (~self.i.payload.accumulate | (settled & ~pixels.step))
        may_go_on = loaded & (~adds | pixels.step | settled)
        if near_rows(arch):
            may_begin &= flow.near.passed[0]
            may_go_on &= flow.near.passed[1]
            m.d.comb += [feeder.near.eq(flow.near.rows.any()), feeder.near_least.eq(reduce(or_, (
                Mux(flag, rows - 1, 0) for flag, rows in zip(
                    flow.near.rows, near_rows(arch), strict=True))))]
        if arch.two_fillings:
            # Its first words must not be in the memory of those that go on in the lower rows.
            fresh = Signal()
            odd = Signal(reset_less=True)
            with m.If(pixels.begin):
                m.d.sync += [fresh.eq(1), odd.eq(self.i.payload.weight_base[0])]
            with m.Elif(feeder.swap):
                m.d.sync += fresh.eq(0)
            may_begin &= feeder.alone | (self.i.payload.weight_base[0] == feeder.turn)
            may_go_on &= feeder.alone | (Mux(fresh, odd, feeder.next_odd) == feeder.turn)
        m.d.sync += may.eq(Cat(may_begin & pixels.begin, may_go_on & ~pixels.begin))
        with m.If(pixels.begin):
            m.d.sync += adds.eq(self.i.payload.accumulate)
        with m.Elif(pixels.step):
            m.d.sync += adds.eq(0)
        with m.If(pixels.step):
            m.d.sync += [settle.eq(REVISIT - 1), settled.eq(0)]
        with m.Elif(settle != 0):
            m.d.sync += settle.eq(settle - 1)
            with m.If(settle == 2):
                m.d.sync += settled.eq(1)
        new, rows, unit = self.i.payload, arch.fill, arch.height_unit
        shortest = shortest_pass(arch) - 1
        whole = new.height == 0
        # from the top pixels wait for all rows, whichever have words
        above = new.starts != 0 if self.array.pe.from_above else Const(0)
        upper = arch.upper_rows             # that the shortest pass fills, or fewer
        filled = new.height * unit if arch.banks == 1 else self._filled(m, new)
        height = keep(m, arch, flow.begun, Mux(whole, rows, filled), "height")
        m.d.comb += [
            feeder.base.eq(keep(m, arch, flow.begun, new.weight_base, "weight_base")),
            feeder.more.eq(keep(m, arch, flow.begun,
                                Mux(whole, rows - 1, filled - 1)[:len(feeder.more)], "more")),
            feeder.least.eq(keep(m, arch, flow.begun, Mux(
                whole | above | (filled > upper if arch.two_fillings else 0), shortest, Mux(
                    filled < REVISIT, REVISIT, filled) - 1)[:len(feeder.least)], "least")),
        ]
        if arch.two_fillings:
            # Rows that the instruction before has left idle need no idle weights again.
            known = Signal(range(rows + 1), init=rows)  # rows that may not be idle, the first ones
            with m.If(self.clear):
                m.d.sync += known.eq(rows)
            with m.Elif(flow.begun):
                enough = Mux(whole, rows, filled) >= known
                m.d.sync += [flow.idle.eq(enough & flow.near.same if near_rows(arch) else enough),
                             known.eq(Mux(whole, rows, filled))]
            m.d.comb += feeder.idle.eq(flow.idle)
        if arch.code_widths:
            m.d.comb += feeder.narrow.eq(keep(m, arch, flow.begun, new.narrow, "narrow"))
        # Two cycles later than this, the instruction may be another one.
        swapped_first = Signal()
        m.d.sync += swapped_first.eq(feeder.swap & pixels.first_pass)
        with m.If(swapped_first):
            m.d.sync += flow.height.eq(height)
        if self.array.pe.from_above:
            # From the top: the bus first brings all weights, then pixels.
            filled = Signal()
            with m.If(flow.above):
                m.d.comb += [
                    pixels.enter.eq(filled & feeder.filled),
                    feeder.swap.eq(can_swap & pixels.running & pixels.first_pixel & ~filled)]
            with m.If(feeder.swap | pixels.step):
                m.d.sync += filled.eq(feeder.swap & flow.above)

    def _filled(self, m, new):
        """Rows that the passes of an instruction fill, on chips with banks: `height` for each of
        the steps that are one pass."""
        arch = self.arch
        steps = Signal(range(arch.banks + 1))
        m.d.comb += steps.eq(new.height)
        for number in range(4):                 # a power of two, times so many steps
            with m.If((new.side == 3) & (new.height == 1 << number)):
                m.d.comb += steps.eq((new.kernel_y[:3] * new.kernel_x[:3]) << number)
        return steps * arch.height_unit

    def _elaborate_pixels(self, m, flow, pixels):
        """A pixel's way: decision, coordinates, address, word, array."""
        arch, array, enters = self.arch, self.array, word_latency(self.arch)

        def later(value, cycles, name):
            for stage in range(cycles):
                register = Signal.like(value, name=f"{name}_{stage}")
                m.d.sync += register.eq(value)
                value = register
            return value
        pad_code = keep(m, arch, flow.begun, self.i.payload.pad_code[:arch.activation.width],
                        "pad_code")
        if arch.prefetch:           # else it stays until the last pixel's word is there
            pad_code = later(pad_code, enters - 1, "pad")
        # without a reset, they can be the registers that block RAM has inside
        word, weights = (Signal.like(read, name=name, reset_less=True) for name, read in (
            ("word", self.activation_data), ("weights", self.weight_data)))
        m.d.sync += [word.eq(self.activation_data), weights.eq(self.weight_data)]
        lag = pool_stages(arch)
        if arch.two_fillings:
            self._elaborate_two(m, flow, pixels, weights, later)
        else:
            own = weights if not arch.code_widths else self._row_of(m, weights, later)
            m.d.comb += [
                self.weight_address.eq(later(
                    self.feeder.address, enters - 4 - lag, "weight_address")),
                array.weights.eq(Mux(later(self.feeder.fetching, enters - 1, "fetching"), own,
                                     self._idle))]
        # Rows that passes fill, from the cycle in which the first word of the first pass enters; in
        # that one, all rows take weights.
        swap, first = (later(value, enters - 1, name) for value, name in (
            (self.feeder.swap, "swap"), (pixels.first_pass, "first")))
        used = Signal(arch.fill, reset_less=True)
        takes = Signal(arch.fill)
        mine = Cat(row < flow.height for row in range(arch.fill))
        with m.If(swap & first):
            m.d.sync += used.eq(mine)
        if arch.two_fillings:
            idle = later(flow.idle, enters - 2, "idle")
            new = Mux(first, mine | ~idle.replicate(arch.fill), used)
        else:
            new = used | first.replicate(arch.fill)
        if near_rows(arch):
            near = later(Mux(pixels.step, flow.near.rows, 0), enters - 1, "near")
            # of a filling for near rows, other rows take nothing
            new &= reduce(and_, (Mux(flag, (1 << rows) - 1, (1 << arch.fill) - 1)
                                 for flag, rows in zip(near, near_rows(arch), strict=True)))
            m.d.comb += array.near.eq(later(near, 1, "near_word"))
        m.d.sync += takes.eq(Mux(swap, new, 0))
        addresses = later(pixels.address, enters - (4 if arch.banks == 1 else 5),
                          "activation_address")
        each = arch.activation_bits // arch.banks
        words = [word.word_select(bank, each) for bank in range(arch.banks)]
        if arch.two_writes:
            words = [Mux(later(at[0], 2, f"odd_{bank}"), word.word_select(arch.banks + bank, each),
                         even) for bank, (at, even) in enumerate(zip(
                             [addresses] if arch.banks == 1 else addresses, words, strict=True))]
        inside = (later(pixels.inside, enters - 2, "inside") if arch.banks == 1 else
                  later(pixels.inside_banks, enters - 4, "inside"))
        activations = Cat(Mux(inside[bank], part, pad_code.replicate(arch.vector // arch.banks))
                          for bank, part in enumerate(words))
        if arch.activation.binary:
            activations = activations & Cat(bit.replicate(arch.lanes) for bit in used)
        m.d.comb += [
            self.activation_address.eq(addresses),
            array.swap.eq(takes),
            array.activations.eq(activations),
        ]
        if array.pe.from_above:
            m.d.comb += array.from_above.eq(later(pixels.step & flow.above, enters, "above"))
        if arch.parts:
            m.d.comb += array.signs.eq(later(flow.fields["signs"], enters, "signs"))
        if arch.plane_rows:
            m.d.comb += array.planes.eq(later(flow.fields["planes"], enters, "planes"))
        if arch.side_taps:
            m.d.comb += array.side.eq(later(flow.fields["side"], enters, "side"))

    @property
    def _idle(self):
        """A weight word that adds nothing to a sum."""
        arch = self.arch
        return sum(1 << n for n in range(arch.columns * arch.lanes)
                   if arch.weight.binary and n % arch.lanes % 2)

    def _elaborate_two(self, m, flow, pixels, weights, later):
        """The weights of the upper and of the lower rows, each from the memory of even or of odd
        words, which never both want the same one; `later` is that of `_elaborate_pixels`."""
        feeder, array, enters = self.feeder, self.array, word_latency(self.arch)
        size, wanted = self.arch.weight_bits, Signal.like(self.weight_address, name="wanted")
        for odd in range(2):
            m.d.comb += wanted[odd].eq(Mux(feeder.asks & (feeder.address[0] == odd),
                                           feeder.address[1:], feeder.below[1:]))
        m.d.comb += self.weight_address.eq(later(wanted, enters - 4, "weight_address"))
        for port, address, fetching, name in (
                (array.weights, feeder.address, feeder.fetching, "upper"),
                (array.weights_below, feeder.below, feeder.fetching_below, "lower")):
            own = Mux(later(address[0], enters - 2, f"{name}_odd"), weights[size:], weights[:size])
            m.d.comb += port.eq(Mux(later(fetching, enters - 1, f"{name}_fetching"), own,
                                    self._idle))
        if array.pe.from_above:
            unfilled = Signal(range(self.arch.fill))    # lower rows, and those before them
            with m.If(feeder.swap):
                m.d.sync += unfilled.eq(self.arch.fill - 1)
            with m.Elif(unfilled != 0):
                m.d.sync += unfilled.eq(unfilled - 1)
            m.d.comb += array.above_below.eq(later(
                pixels.step & flow.above & (unfilled == 0), enters, "above_below"))

    def _row_of(self, m, word, later):
        """The codes of a row of the array whose weights may be narrow, in the cycle in which `word`
        is the weight word that was read for it; `later` is that of `_elaborate_pixels`."""
        arch = self.arch
        parts, _ = parts_of(arch)
        before = Signal.like(word, reset_less=True)
        soon = later(self.feeder.part, word_latency(arch) - pool_stages(arch) - 2, "part")
        fresh = Signal()
        with m.Switch(soon):
            for number, part in enumerate(parts):
                with m.Case(number):
                    m.d.comb += fresh.eq(part.fresh)
        with m.If(fresh):
            m.d.sync += before.eq(word)
        chosen = Signal.like(soon, name="part_now")
        m.d.sync += chosen.eq(soon)
        own = Signal.like(word, name="row")
        width = arch.weight.width
        both = [Cat(before.word_select(n, width), word.word_select(n, width))
                for n in range(arch.columns * arch.lanes)]
        with m.Switch(chosen):
            for number, part in enumerate(parts):
                with m.Case(number):
                    m.d.comb += own.eq(Cat(
                        _extended(bits[part.first:part.first + part.width], width,
                                  sign=part.pool is None) for bits in both))
        return self._of_pool(m, own, chosen) if arch.weight_pools else own

    def _of_pool(self, m, own, chosen):
        """The weights of a row a cycle later: those of a pool in place of their numbers, which are
        the lowest bits of `own`. `chosen` is the row's part."""
        arch = self.arch
        numbers, found = (Signal.like(own, name=f"{name}_weights", reset_less=True)
                          for name in ("numbered", "pooled"))
        pool = Signal(range(max(2, len(arch.weight_pools))), reset_less=True)
        pooled = Signal(reset_less=True)
        most, width = max(arch.weight_pools), arch.weight.width
        m.d.sync += [numbers.eq(own), pooled.eq(0)]
        with m.Switch(chosen):
            for number, part in enumerate(parts_of(arch)[0]):
                if part.pool is not None:
                    with m.Case(number):
                        m.d.sync += [pooled.eq(1), pool.eq(part.pool >> most)]
        m.submodules.pool = memory = Memory(
            shape=width, depth=arch.pool_depth, init=[], attrs={"no_rw_check": 1})
        port = memory.write_port()
        m.d.comb += [port.en.eq(self.pool_enable), port.addr.eq(self.pool_address),
                     port.data.eq(self.pool_data)]
        for n in range(arch.columns * arch.lanes):
            read = memory.read_port(domain="comb")
            number = numbers.word_select(n, width)
            m.d.comb += [
                read.addr.eq(Cat(number[:most], pool)),
                found.word_select(n, width).eq(Mux(pooled, read.data, number))]
        return found

    def _delayed_control(self, m, flow, pixels, results):
        """What column 0's accumulator does with a pixel's sum, when the sum is about to arrive."""
        arch, new = self.arch, self.i.payload
        control = Signal(data.StructLayout({
            "enable": 1, "first": 1, "valid": 1, "address": range(arch.accumulator_depth),
            **({"double": 1} if arch.counts_more else {})}))
        def after(value):
            register = Signal.like(value, reset_less=True)
            m.d.sync += register.eq(value)
            return register
        # two cycles after the decision
        counts = keep(m, arch, flow.begun, new.pad_valid | (new.starts != 0), "counts")
        adds = after(flow.fields["accumulate"])
        m.d.comb += [control.enable.eq(after(after(pixels.step) & results.begins)),
                     control.address.eq(after(results.address)),
                     control.valid.eq(pixels.inside | after(counts)),
                     control.first.eq(after(after(pixels.first_pass) & ~adds))]
        if arch.counts_more:
            now = pixels.first_pass | Const(arch.wide_weights, 1)
            m.d.comb += control.double.eq(after(after(now & flow.fields["double"])))
        # sums of near rows come earlier
        rows = after(after(Mux(pixels.step, flow.near.rows, 0))) if near_rows(arch) else Const(0, 0)
        line = ShortDelay(arch, self._to_column - 1, rows, reset_less=True)
        for stage in range(2, self._to_column):
            control = line.stage(m, stage, control, "control")
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
        giving = Signal(data.StructLayout({"tokens": 4, "done": 1}))
        m.d.comb += [
            giving.tokens.eq(
                Mux(self.feeder.swap & pixels.last_pass, flow.early, 0)
                | Mux(pixels.finish, flow.late, 0)),
            giving.done.eq(pixels.finish),
        ]
        columns = near_columns(self.arch)
        # From the last number of stages on, tokens pass the columns.
        through = self.latency - (columns_behind(columns[0], self.arch) if columns else 0)
        line = ShortDelay(self.arch, through - 1, Mux(pixels.step, flow.near.rows, 0))
        for stage in range(self.latency):
            giving = line.stage(m, stage, giving, "giving")
            if stage == word_latency(self.arch) - 1:
                m.d.comb += flow.gone.eq(giving.done)
            for number, count in enumerate(columns):
                if stage == self.latency - 1 - columns_behind(count, self.arch):
                    m.d.comb += self.give_near[number].eq(giving.tokens[isa.Unit.POST])
        in_flight = Signal(range(self.latency + 2))
        m.d.comb += self.give.eq(giving.tokens)
        m.d.sync += in_flight.eq(in_flight + flow.begun - giving.done)
        return in_flight

    def _elaborate_state(self, m, flow, pixels, missing, in_flight):
        """What the sequencer and the registers see."""
        m.d.comb += [
            self.busy.eq(self.i.valid | (in_flight != 0)),
            self.progress.eq(pixels.step | flow.begun | (self.give != 0)),
        ]
        with m.If(pixels.running | (in_flight != 0)):
            m.d.comb += self.state.eq(UnitState.RUNNING)
        with m.Elif(self.i.valid):
            m.d.comb += [self.missing.eq(missing),
                         self.state.eq(Mux(self.missing != 0, UnitState.TOKENS,
                                           UnitState.RUNNING))]
