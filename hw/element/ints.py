"""Integer products: rows of a Booth multiplier fused with the running sum, or DSP blocks."""

from collections.abc import Sequence
from dataclasses import replace

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from systolith.hw.formats import Format
from systolith.hw.spec.structures import Structure

from .arithmetic import Arithmetic, Operands
from .booth import booth_row, digit_ranges, digits, recode, row_offset, row_width
from .dsp import DspProducts
from .popcount import count_ones
from .row_sum import add_pairs, add_to_sum, chain, ripple

__all__ = ["IntArithmetic"]


class IntArithmetic(Arithmetic):
    """Signed or unsigned integers of 1 to 16 bits each, and ternary ones.

    With `signs`, where codes are signs, they travel as they are instead of decoded. Instead of a
    product, twice the count of equal signs of the lane is added: the sum of their products and as
    many as there are signs.

    With `halves`, codes can be two numbers of half the bits, as the highest bit at the edges says:
    then 2**half times the lower half of an activation times the upper one of the weight, and the
    upper one times the lower one, is added.
    """

    def __init__(self, activation: Format, weight: Format, lanes: int, terms: int, *,
                 structure: Structure = Structure.LUT4, stages: int | None = None,
                 columns: int = 1, signs: bool = False, halves: bool = False) -> None:
        self.signs, self.halves = signs, halves
        self._products = (
            DspProducts(activation, weight, lanes, columns, Structure(structure), halves)
            if Structure(structure).is_dsp else
            _BoothProducts(activation, weight, lanes, Structure(structure), halves))
        self.across = self._products.across
        self.fast_stages = self._products.fast_stages
        self.most_stages = self._products.most_stages
        super().__init__(activation, weight, lanes, terms, structure=structure, stages=stages,
                         columns=columns)
        self.activation_bits = self._products.activation_bits
        self.weight_bits = self._products.weight_bits
        if halves:
            self.activation_bits += 1
        if signs:
            bits = lanes * activation.width
            self.activation_bits = max(self.activation_bits, bits) + 1
            self.weight_bits = max(self.weight_bits, bits)

    def decode_activation(self, m: Module, codes: Value) -> Value:
        if self.halves:
            return Cat(self._products.decode_activation(codes[:-1], codes[-1]), codes[-1])
        if not self.signs:
            return self._products.decode_activation(codes)
        codes, signs = codes[:-1], codes[-1]
        decoded = Mux(signs, codes, self._products.decode_activation(codes))
        return Cat(_wide(decoded, self.activation_bits - 1), signs)

    def decode_weight(self, m: Module, codes: Value) -> Value:
        return self.decode_weights(m, [codes])[0]

    def decode_weights(self, m: Module, codes: Sequence[Value]) -> list[Value]:
        if self.halves:
            return self._products.decode_weights([column[:-1] for column in codes],
                                                 [column[-1] for column in codes])
        if not self.signs:
            return self._products.decode_weights(codes)
        decoded = self._products.decode_weights([column[:-1] for column in codes])
        return [_wide(Mux(column[-1], column[:-1], other), self.weight_bits)
                for column, other in zip(codes, decoded, strict=True)]

    def accumulate(self, m: Module, operands: Operands, psum: Value) -> Value:
        return self.accumulate_columns(m, [operands], [psum])[0]

    def accumulate_columns(self, m: Module, operands: Sequence[Operands],
                           psums: Sequence[Value]) -> list[Value]:
        signs = operands[0].a(0)[-1] if self.signs or self.halves else None
        counts = [self._counts(m, column, signs) for column in operands] if self.signs else None
        return self._products.accumulate(m, operands, psums, self.stages, signs, counts)

    def _counts(self, m, operands, signs):
        """For each lane, how many signs of the operands are equal; 0 where they are no signs."""
        width, counts = self.activation.width, []
        for lane in range(self.lanes):
            a, w = (value.word_select(lane, width) for value in (operands.a(0), operands.w(0)))
            equal = Signal(width, name=f"{operands.prefix}equal{lane}")
            m.d.comb += equal.eq(~(a ^ w))
            count = count_ones(m, list(equal))
            counts.append(count & signs.replicate(len(count)))
        return counts

    def head(self, rows: int, signs: bool = False) -> int:
        half = 1 << (self.psum_bits - 1)
        more = rows * (self._products.offset + signs * self.lanes * self.activation.width)
        return (half - more) % (2 * half) - half


def _wide(value, bits):
    """The bits of a value, and zeros up to so many."""
    return Cat(value, Const(0, bits - len(value)))


class _BoothProducts:
    """Dot products as rows of bits; the operand that gives fewer rows is recoded.

    In one stage every row is added to the partial sum. In more of them the rows are first added
    to each other in pairs, and the partial sum passes the last stage only.

    Attributes
    ----------
    activation_bits, weight_bits : int
        Widths of the decoded codes of all lanes.
    fast_stages, most_stages : int
    offset : int
        How much more than the dot product an element adds.
    across : bool
        See `Arithmetic`.
    """

    across = False

    def __init__(self, activation: Format, weight: Format, lanes: int,
                 structure: Structure, halves: bool = False) -> None:
        self._halves = halves
        self._activation, self._weight, self._lanes = activation, weight, lanes
        self._swapped = _row_bits(activation, weight) < _row_bits(weight, activation)
        self._multiplier, self._multiplicand = ((activation, weight) if self._swapped else
                                                (weight, activation))
        self._ranges = digit_ranges(*self._multiplier.image_range)
        self.offset = lanes * sum(row_offset(self._multiplicand, ends) << 2 * k
                                  for k, ends in enumerate(self._ranges))
        # Two bits of a digit and two of the other operand are what a LUT of four inputs takes.
        # So written, halves would not be numbers of their own.
        self._recoded = structure is Structure.LUT4 and len(self._ranges) > 1 and not halves
        self._adder = ripple if structure is Structure.GATES else chain
        self._a_bits = activation.width + (self._recoded and self._swapped)
        self._w_bits = weight.width + (self._recoded and not self._swapped)
        self.activation_bits, self.weight_bits = lanes * self._a_bits, lanes * self._w_bits
        # Adders that follow each other: those of pairs, and the partial sum's.
        self._levels = (lanes * len(self._ranges) - 1).bit_length() + 1
        # With the choice of the rows' bits as one step more, stages of up to two steps are fast.
        self.most_stages = self._levels + 1
        self.fast_stages = -(-self.most_stages // 2)

    def decode_activation(self, codes: Value, halves: Value | None = None) -> Value:
        return self._decode(codes, self._activation, self._recoded and self._swapped)

    def decode_weights(self, codes: Sequence[Value],
                       halves: Sequence[Value] = ()) -> list[Value]:
        return [self._decode(column, self._weight, self._recoded and not self._swapped)
                for column in codes]

    def _decode(self, codes, fmt, recoded):
        if not recoded:
            return Value.cast(codes)
        return Cat(recode(codes.word_select(lane, fmt.width), len(self._ranges))
                   for lane in range(self._lanes))

    def _rows(self, m, operands, signs, counts):
        """Rows of all lanes, by their lowest bits. Where there are signs the multiplier is 0, which
        leaves the lowest rows' bits 0 but for the highest: the counts take their place."""
        a, w = operands.a(0), operands.w(0)
        rows = []
        for lane in range(self._lanes):
            multiplicand = a.word_select(lane, self._a_bits)
            multiplier = w.word_select(lane, self._w_bits)
            if self._swapped:
                multiplicand, multiplier = multiplier, multiplicand
            if counts is not None:
                multiplier = multiplier & ~signs.replicate(len(multiplier))
            found = digits(multiplier, self._multiplier.signed, len(self._ranges), self._recoded)
            for k, digit in enumerate(found):
                factor = multiplicand
                if self._halves:
                    digit, factor = self._half(k, digit, multiplicand, signs)
                row = booth_row(
                    m, digit, self._ranges[k], self._multiplicand, factor, 2 * k,
                    f"row{k}" if self._lanes == 1 else f"lane{lane}_row{k}")
                if counts is not None and not k:
                    bits = Cat(row.bits) | Cat(Const(0, 1), counts[lane])
                    row = replace(row, bits=tuple(bits))
                rows.append(row)
        return sorted(rows, key=lambda row: row.low)

    def _half(self, k, digit, multiplicand, halves):
        """Digit `k` and the multiplicand of its row. In `halves`, digits of the lower half multiply
        the upper one, where it stands, and those of the upper half the lower one."""
        half = len(multiplicand) // 2
        low, high = multiplicand[:half], multiplicand[half:]
        if 2 * k < half:
            return digit, Cat(low & ~halves.replicate(half), high)
        if 2 * k == half:
            digit = *digit[:2], digit[2] & ~halves
        return digit, Cat(low, Mux(halves, low[-1].replicate(half), high))

    def accumulate(self, m: Module, operands: Sequence[Operands], psums: Sequence[Value],
                   stages: int, signs: Value | None, counts: Sequence[Sequence[Value]] | None
                   ) -> list[Value]:
        """`Arithmetic.accumulate_columns`. `signs`: whether the operands are signs, or halves;
        `counts`: of equal ones, for each column and lane; None where they never are."""
        return [self._accumulate(m, where, psum, stages, signs, counts and counts[column])
                for column, (where, psum) in enumerate(zip(operands, psums, strict=True))]

    def _accumulate(self, m, operands, psum, stages, signs, counts):
        rows = self._rows(m, operands, signs, counts)
        if stages == 1:
            return add_to_sum(m, psum, rows, self._adder, "sum")
        steps = self.most_stages
        for step in range(1, steps):
            if step * stages // steps > (step - 1) * stages // steps:
                rows = [_registered(operands, row, f"step{step}_{n}")
                        for n, row in enumerate(rows)]
            if step < self._levels:
                rows = add_pairs(m, rows, self._adder, f"step{step}_sum")
        return add_to_sum(m, psum, rows, self._adder, "sum")


def _registered(operands, row, name):
    bits = operands.register(Cat(row.bits), name)
    carry = row.carry
    if carry is not None:
        carry = operands.register(carry, f"{name}_carry")
    return replace(row, bits=tuple(bits), carry=carry)


def _row_bits(multiplier, multiplicand):
    """Bits that are added, carries included, of a product in digits of `multiplier`."""
    return sum(row_width(multiplicand, ends) + (ends[0] < 0)
               for ends in digit_ranges(*multiplier.image_range))
