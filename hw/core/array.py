"""The systolic array: edges, skew, and a grid of one emitted processing element.

              weight word ---> [decode] ---> column c delayed by c, then to all of its rows
                                   |   |   |
                                   v   v   v
    activation word -> [decode] -> PE  PE  PE      row r delayed by r
                                -> PE  PE  PE
                                   |   |   |
                                   v   v   v   sums, column c delayed by c

Nothing stalls in here: whatever enters takes its way. There is no reset either; what counts is
counted outside, in `systolith.hw.core.compute`.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.element.block_scale import BlockScaleCell, scaled_number
from systolith.hw.element.element import ProcessingElement, arithmetic_of
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.near import near_rows
from systolith.hw.spec.timing import ARRAY_EDGE, column_delay, scale_stages

from .blocks import place

__all__ = ["SystolicArray"]

#: Rows that can hold a bit plane each.
_PLANES = 8


def _delayed(m, value, cycles, name):
    """`value`, `cycles` later, through registers without reset."""
    for stage in range(cycles):
        register = Signal(value.shape(), name=f"{name}_{stage}", reset_less=True)
        m.d.sync += register.eq(value)
        value = register
    return value


class _NearEdges:
    """What enters each row of an array with near rows: with a word that meets these alone, what
    would enter the row that is as far from the first one as this one from the first near row.

    Parameters
    ----------
    m : Module
        Takes the registers.
    flags : Value
        `SystolicArray.near`.
    near : tuple of int
        How many near rows each flag stands for.
    rows : int
    """

    def __init__(self, m: Module, flags: Value, near: tuple[int, ...], rows: int) -> None:
        self.m, self.near, self.rows = m, near, rows
        self.flags = [flags]                # and those of so many cycles before
        for stage in range(max(near) - 1):
            self.flags.append(_delayed(m, self.flags[-1], 1, f"near_{stage}"))
        self.before: list[Value] = []       # what enters each row a cycle later

    def enter(self, edge: Value, row: int) -> Value:
        """What enters a row, of which `edge` enters the first one; the rows come in order."""
        edge = _delayed(self.m, edge, ARRAY_EDGE + row - 1, f"row{row}_skew")
        self.before.append(edge)
        for number, near in enumerate(self.near):
            if (other := row - (self.rows - near)) >= 0:
                edge = Mux(self.flags[other][number], self.before[other], edge)
        return _delayed(self.m, edge, 1, f"row{row}_edge")


class SystolicArray(wiring.Component):
    """`rows` x `columns` processing elements with decoders and skew at the edges.

    A word that enters in cycle t meets the first row in t + ARRAY_EDGE; the sum of its products and
    those of the other rows leaves column c in cycle t + latency + timing.column_delay(c).

    Rows of weights come in their order, one a cycle from the cycle of `swap` on, by one bus for
    each column. So the word of a row is on the bus exactly when the swap passes the row, and
    elements need no second buffer for their weights.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    activations : In(arch.activation_bits)
        The codes of one pixel's channels, row 0's lanes first.
    swap : In(arch.fill)
        1: in this row of the array this word is the first to meet the weights that come from now
        on; 0: the row's weights stay.
    weights : In(arch.weight_bits)
        Weight codes of one array row, column 0's lanes first; or, after the last row, the word of
        each column's scale in the lowest bits of its weights.
    weights_below : In(arch.weight_bits), above_below : In(1)
        `weights` and `from_above` for the lower rows, from `arch.upper_rows` on, on chips with
        arch.two_fillings: their words come on a bus of their own.
    from_above : In(1)
        The activation word does not go into the rows but down the columns, to all rows at once,
        where the column takes its own channel: a sum that enters the first row with this word
        meets the word of r steps later in row r. The bus carries no weights then. Only with
        arch.depthwise.
    signs : In(1)
        The bits of the activation word are signs, or its codes are halves; and where it is swapped
        in with new weights, those of the weights are. Only with arch.parts.
    side : In(2)
        N > 0: the rows are 2**N parts, and part n sees the word of n cycles before. Only with
        arch.side_taps.
    planes : In(1)
        The first eight rows weigh 128, 64, ... 1 for this word. Only with arch.plane_rows.
    near : In(len(near_rows(arch)))
        Bit n: the word meets near rows alone, the last near_rows(arch)[n] ones, and its sums come
        out as many cycles earlier as it skips rows; not within so many cycles after a word that
        skips fewer. `swap`, and `weights` from a swap with such a word on, are those of near rows,
        the first one's first. Only in arrays that have near rows.
    sums : Out(ArrayLayout(signed(arch.scaled_bits), columns))
        Exact sums, times the scales of blocks, in units of 2**arch.sum_exponent, column c delayed
        by `column_delay` cycles. With weights in blocks, what `ScaledNumber` makes them of.
    """

    def __init__(self, *, arch: Arch) -> None:
        self.arch = arch
        self.pe = ProcessingElement(arithmetic_of(arch), shadow=False,
                                    from_above=arch.depthwise)
        out = scaled_number(arch)
        self.scale = None if out is None else BlockScaleCell(out)
        flags = {name: In(1) for name, there in (
            ("from_above", arch.depthwise), ("signs", arch.parts)) if there}
        if arch.side_taps:
            flags["side"] = In(2)
        if arch.plane_rows:
            flags["planes"] = In(1)
        if near_rows(arch):
            flags["near"] = In(len(near_rows(arch)))
        if arch.two_fillings:
            flags["weights_below"] = In(arch.weight_bits)
            if arch.depthwise:
                flags["above_below"] = In(1)
        super().__init__({
            "activations": In(arch.activation_bits),
            "swap": In(arch.fill),
            "weights": In(arch.weight_bits), **flags,
            "sums": Out(data.ArrayLayout(
                out.shape if out else signed(arch.scaled_bits), arch.columns)),
        })

    @property
    def latency(self) -> int:
        """Cycles from an activation word to its sum at column 0."""
        return ARRAY_EDGE + self.arch.rows + self.pe.arithmetic.stages + scale_stages(self.arch)

    @property
    def blocks(self) -> dict[str, wiring.Component]:
        """Verilog modules that must be emitted along: name -> block."""
        return {"systolith_pe": self.pe} | (
            {"systolith_scale": self.scale} if self.scale else {})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        arch, arithmetic = self.arch, self.pe.arithmetic
        width = arithmetic.columns              # of a processing element
        row_bits = arch.lanes * arch.activation.width
        column_bits = arch.lanes * arch.weight.width

        # What travels down: the bus of weights, or of activations, and partial sums, by column.
        psums: list[Value] = []
        near = near_rows(arch)
        words = [self.weights, *([self._weights_below(m, near)] if arch.two_fillings else [])]
        codes = [[word.word_select(column, column_bits) for column in range(arch.columns)]
                 for word in words]
        signs: Value = Const(0, 0)
        heads: list[Value] = []
        if arch.parts:
            # The rows of a filling follow the word with which it is swapped in.
            held = Signal()
            with m.If(self.swap):
                m.d.sync += held.eq(self.signs)
            filling, signs = Mux(self.swap, self.signs, held), self.signs
            codes = [[Cat(word, part) for word in of] for of, part in zip(
                codes, (filling, _delayed(m, filling, arch.upper_rows, "filling_below")),
                strict=False)]
            if arch.packed_signs:
                heads = self._heads(m, self.signs, arithmetic.head(arch.rows),
                                    arithmetic.head(arch.rows, True))
        doubles: list[Value] = []
        if arch.plane_rows:
            # What elements count too much is doubled with the sums, seven times.
            heads = self._heads(m, self.planes, arithmetic.head(arch.rows),
                                -(arch.weighed_terms // 256))
            doubles = self._doubles(m)
        from_above = [self.from_above, *([self.above_below] if arch.two_fillings else [])] if (
            self.pe.from_above) else [Const(0, 1)] * len(words)
        all_buses = [self._buses(m, of, flag, len(signs), "_below" * part)
                     for part, (of, flag) in enumerate(zip(codes, from_above, strict=True))]
        psums = heads or [Const(arithmetic.head(arch.rows), arithmetic.psum_bits)
                          for _ in range(arch.columns)]

        # What travels right.
        edges = _NearEdges(m, self.near, near, arch.rows) if near else None
        for row in range(arch.rows):
            buses = all_buses[arch.two_fillings and row >= arch.upper_rows]
            decoded = arithmetic.decode_activation(
                m, Cat(self.activations.word_select(row, row_bits), signs))
            if arch.side_taps:
                decoded = self._beside(m, decoded, row)
            edge = Cat(decoded, self.swap[row])
            if edges:
                edge = edges.enter(edge, row)
                if arch.rows - row in near:
                    psums = self._entering(m, psums, near.index(arch.rows - row))
            else:
                edge = _delayed(m, edge, ARRAY_EDGE + row, f"row{row}_skew")
            right = {"a": edge[:arithmetic.activation_bits], "swap": edge[-1]}
            if doubles and 0 < row < _PLANES:
                psums = [self._doubled(m, psum, doubles[row + column_delay(arch, column)],
                                       f"weighed_{row}_{column}")
                         for column, psum in enumerate(psums)]
            for first in range(0, arch.columns, width):
                at = f"{row}_{first}"
                mine = slice(first, first + width)
                out = {name: Signal(len(value), name=f"{name}_{at}")
                       for name, value in right.items()}
                psum = Signal(width * arithmetic.psum_bits, name=f"psum_{at}")
                m.submodules[f"pe_{at}"] = place(
                    self.pe, "systolith_pe",
                    **{f"{name}_in": value for name, value in right.items()},
                    **{f"{name}_out": value for name, value in out.items()},
                    **{name: Cat(bus[name] for bus in buses[mine]) for name in buses[0]},
                    psum_in=Cat(psums[mine]), psum_out=psum)
                right = out
                psums[mine] = [psum.word_select(n, arithmetic.psum_bits)
                               for n in range(width)]
        for column in range(arch.columns):
            total = arithmetic.total(psums[column].as_signed(), arch.rows)
            if self.scale:
                total = self._scaled(m, self.scale, column, total)
            m.d.comb += self.sums[column].eq(total)
        return m

    def _weights_below(self, m, near):
        """The words on the lower rows' bus: those of the first one, where for near rows."""
        if not near:
            return self.weights_below
        held, now = Signal(name="near_filling_held"), Signal(name="near_filling")
        m.d.comb += now.eq(Mux(self.swap[0], self.near.any(), held))
        m.d.sync += held.eq(now)
        return Mux(now, self.weights, self.weights_below)

    def _entering(self, m, psums, number):
        """What enters the first of the near rows: the head of a column of so many rows, with a word
        that meets these alone, or the partial sum from above."""
        arithmetic, rows = self.pe.arithmetic, near_rows(self.arch)[number]
        head = Const(arithmetic.head(rows), signed(arithmetic.psum_bits))
        flags = self._by_column(m, self.near[number], f"near_{rows}")
        found = []
        for column, (flag, psum) in enumerate(zip(flags, psums, strict=True)):
            entering = Signal(len(psum), name=f"entering_{rows}_{column}")
            m.d.comb += entering.eq(Mux(flag, head, psum))
            found.append(entering)
        return found

    def _buses(self, m, codes, flag, signs, name):
        """For each column what travels down to its rows on a bus of weights, or of activations
        where `flag` says so: ports of an element."""
        arch, arithmetic, buses = self.arch, self.pe.arithmetic, []
        width, row_bits = arithmetic.columns, arch.lanes * arch.activation.width
        decoded = [bus for first in range(0, arch.columns, width) for bus in
                   arithmetic.decode_weights(m, codes[first:first + width])]
        for column, bus in enumerate(decoded):
            if self.pe.from_above:
                above = arithmetic.decode_activation(
                    m, Cat(self.activations.word_select(column, row_bits), Const(0, signs)))
                bus = Cat(flag, Mux(flag, above, bus))
            bus = _delayed(m, bus, ARRAY_EDGE + column_delay(arch, column),
                           f"column{column}_skew{name}")
            buses.append({"above_in": bus[0], "w_in": bus[1:]} if self.pe.from_above
                         else {"w_in": bus})
        return buses

    def _beside(self, m, word, row):
        """The word that a row sees where `side` says that it may be an earlier one."""
        part = row * 4 // self.arch.rows
        now = Signal(len(word), name=f"row{row}_now")
        m.d.comb += now.eq(word)
        words = [now]
        for number in range(part):
            words.append(_delayed(m, words[-1], 1, f"row{row}_before_{number}"))
        return Mux(self.side[1], words[part], Mux(self.side[0], words[part // 2], now))

    def _scaled(self, m, scale, column, total):
        """A column's sum times its block's scale, whose code is on the bus as the word of a row
        after the last one."""
        arch = self.arch
        late = ARRAY_EDGE + column_delay(arch, column) + self.pe.arithmetic.stages - 1
        code = _delayed(m, self.weights.word_select(
            column, arch.lanes * arch.weight.width)[:len(scale.code)], late,
            f"column{column}_scale")
        # The swap is a column later in each; what has been delayed for one goes on to the next.
        if column == 0:
            self._swap, self._delay = self.swap[arch.rows], 0
        self._swap = _delayed(m, self._swap, late + arch.rows - self._delay,
                              f"column{column}_swap")
        self._delay = late + arch.rows
        number = Signal(signed(arch.psum_bits), name=f"sum_{column}")
        product = Signal(scale.out.shape, name=f"scaled_{column}")
        m.d.comb += number.eq(total)
        m.submodules[f"scale_{column}"] = place(
            scale, "systolith_scale", swap=self._swap, code=code, sum=number, o=product)
        return product

    def _heads(self, m, flag, numbers, others):
        """For each column the partial sum that enters its first row, with the word that it is
        for: one of two, by a flag of the word."""
        arithmetic = self.pe.arithmetic
        numbers, others = (Const(value, signed(arithmetic.psum_bits))
                           for value in (numbers, others))
        return [Mux(flag, others, numbers) for flag in self._by_column(m, flag, "head_signs")]

    def _by_column(self, m, flag, name):
        """For each column a flag of a word when its partial sum enters the first row."""
        arch, flags = self.arch, []
        flag = _delayed(m, flag, ARRAY_EDGE + self.pe.arithmetic.stages, name)
        for column in range(arch.columns):
            if column and column_delay(arch, column) > column_delay(arch, column - 1):
                flag = _delayed(m, flag, 1, f"{name}_column{column}")
            flags.append(flag)
        return flags

    def _doubles(self, m):
        """Whether the partial sum that enters row r of column c is doubled, at the index r plus
        the column's delay."""
        arch = self.arch
        value = _delayed(m, self.planes, ARRAY_EDGE + self.pe.arithmetic.stages, "weighed")
        found = [value]
        for number in range(_PLANES - 1 + column_delay(arch, arch.columns - 1)):
            found.append(_delayed(m, found[-1], 1, f"weighed_later_{number}"))
        return found

    def _doubled(self, m, psum, doubles, name):
        found = Signal(len(psum), name=name)
        m.d.comb += found.eq(Mux(doubles, psum << 1, psum))
        return found
