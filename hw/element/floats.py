"""Products of short floats, powers of two and integers, exact in a fixed-point window.

    signs -------------------------------- [^] --------------+
    significands -> [product] -> [shift] -> ... -> [last shift, ^, + psum]
    shifts -------> [   +   ] ------^---------------^

A product is significand times significand, shifted left by the sum of the two shifts: an integer,
of which sums are exact. The bits of that sum steer multiplexers, low ones first. The last step of
the shift, the conditional complement and the addition share LUTs: an adder's bit on xc7 has five
inputs to spare if the partial sum is the adder's first operand.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from systolith.hw.formats import Format, sum_bits, term_bound
from systolith.hw.spec.structures import Structure

from .arithmetic import Arithmetic, Operands
from .dsp import SignificandProducts
from .significand import Factor

__all__ = ["FloatArithmetic"]

#: Functions of so many bits are tables: one LUT6 for each bit of the result.
_TABLE = 6
#: Bits of a partial sum, above which the fast circuit adds in a stage of its own.
_WIDE = 32
#: Additions in one expression; Python's stack holds no more than some hundred.
_NESTED = 32


class FloatArithmetic(Arithmetic):
    """Floats of any exponent and mantissa width, powers of two, sums of them, and integers, each
    times each.

    Codes of NaN and infinity must not come in: they are taken for some numbers.

    Registers can stand after the products, after each step of the shift, and before the last
    addition.
    """

    def __init__(self, activation: Format, weight: Format, lanes: int, terms: int,
                 **options: Any) -> None:
        (left, self._left), (right, self._right) = activation.factors, weight.factors
        structure = Structure(options.get("structure", Structure.LUT4))
        luts = structure.is_lut
        whole = luts and left.magnitude_bits + right.magnitude_bits <= _TABLE
        bits = left.significand_bits, right.significand_bits
        # One factor of one bit is no multiplication: it lets the other pass, as late as possible,
        # and a two's complement one needs no sign beside it.
        self._gate = min(bits) == 1 and not whole
        self._look_up = whole or (luts and sum(bits) <= _TABLE)
        # Rows of a product choose among multiples of the activation, its triple included.
        self._rows = luts and not self._look_up and not self._gate
        self._a = Factor(left, whole=whole, twos_complement=self._gate, triple=self._rows)
        self._w = Factor(right, whole=whole, twos_complement=self._gate)
        self._signed = self._a.twos_complement or self._w.twos_complement

        # Else products are plain multiplications, which DSP blocks may share.
        self._plain = not (self._look_up or self._gate or self._rows)
        self._products = SignificandProducts(
            [factor.layout["significand"].width for factor in (self._a, self._w)],
            options.get("columns", 1), structure)
        self.across = self._plain and self._products.across

        self._activations = data.ArrayLayout(self._a.layout, lanes * self._left)
        self._weights = data.ArrayLayout(self._w.layout, lanes * self._right)
        self.activation_bits = self._activations.size
        self.weight_bits = self._weights.size

        self._unit = min((factor.unit for factor in (self._a, self._w) if factor.largest_shift),
                         default=1)
        self._places = (max(self._a.magnitudes) * max(self._w.magnitudes)).bit_length()
        self._steps = self._plan(sum(factor.largest_shift * factor.unit // self._unit
                                     for factor in (self._a, self._w)).bit_length())
        # Gates are fewest where a number gets its sign before it is shifted, but for the narrowest.
        self._signs_first = structure is Structure.GATES and not self._signed and (
            sum(self._steps) > 4 or (self._places > 4 and not self._gate))
        cuts = list(dict.fromkeys([len(self._steps) - 1, 0, len(self._steps),
                                   *range(len(self._steps))]))
        self.most_stages = len(cuts) + 1
        # Wide sums carry too long to share a stage with the last step of the shift; in gates they
        # carry so long by themselves that it makes no difference.
        wide = structure is not Structure.GATES and sum_bits(activation, weight, terms) > _WIDE
        self.fast_stages = min(4 if wide else 3, self.most_stages)
        super().__init__(activation, weight, lanes, terms, **options)
        self._cuts = cuts[:self.stages - 1]

    @staticmethod
    def _plan(bits):
        """Bits of the shift that each step takes, low ones first; the last one's share LUTs with
        the adder, each bit of which then chooses between two or three."""
        last = min(bits, 1 + (bits > 3) + (bits > 5))
        return [2] * ((bits - last) // 2) + [1] * ((bits - last) % 2) + [last]

    def decode_activation(self, m: Module, codes: Value) -> Value:
        return _decode(self._a, self._left * self.lanes, codes)

    def decode_weight(self, m: Module, codes: Value) -> Value:
        return _decode(self._w, self._right * self.lanes, codes)

    def accumulate(self, m: Module, operands: Operands, psum: Value) -> Value:
        return self.accumulate_columns(m, [operands], [psum])[0]

    def accumulate_columns(self, m: Module, operands: Sequence[Operands],
                           psums: Sequence[Value]) -> list[Value]:
        a = data.View(self._activations, Cat(operands[0].a(0)))
        w = [data.View(self._weights, Cat(column.w(0))) for column in operands]
        products: Sequence[list[Value] | None] = [None] * len(operands)
        if self._plain:
            # Sums of powers have significands of one bit: no multiplications.
            lanes = range(self.lanes)
            products = self._products.multiply(
                [a[lane].significand for lane in lanes],
                [[column[lane].significand for lane in lanes] for column in w],
                lambda column, name, *factors: self._multiply(m, operands[column], name, *factors))
        return [self._accumulate(m, *column, a) for column in
                zip(operands, psums, w, products, strict=True)]

    def _multiply(self, m, operands, name, a, w):
        product = Signal(len(a) + len(w), name=f"{operands.prefix}multiplied_{name}")
        m.d.comb += product.eq(a * w)
        # As one register, which the block has.
        return operands.register(product, f"held_{name}") if 0 in self._cuts else product

    def _accumulate(self, m, operands, psum, w, products, a):
        terms = [self._term(m, operands, a[lane * self._left + i], w[lane * self._right + j],
                            f"{lane}_{i}_{j}", products and products[lane])
                 for lane in range(self.lanes)
                 for i in range(self._left) for j in range(self._right)]
        if self.stages > 1:
            # The partial sum comes last, so that its way is short.
            fill = terms[0][0][-1].replicate(self.psum_bits - len(terms[0][0]))
            total = _add_all(m, Cat(terms[0][0], fill), terms[1:], f"{operands.prefix}terms")
            terms = [(total, terms[0][1])]
        return _add_all(m, psum, terms, f"{operands.prefix}sum")

    def _term(self, m, operands, a, w, name, product):
        """One product as (bits, carry): complemented where it is negative, to which the carry
        then adds 1. `product` is that of the significands where it stands outside, as of the first
        register; else None."""
        def net(value, label, **options):
            signal = Signal(value.shape(), name=f"{operands.prefix}{label}_{name}", **options)
            m.d.comb += signal.eq(value)
            return signal

        def cut(level, **values):
            if level not in self._cuts:
                return [*values.values()]
            return [operands.register(value, f"{part}_{name}_level{level}")
                    for part, value in values.items()]

        word = product
        if word is None:
            word, = cut(0, word=net(self._product(m, a, w, name), "product"))
        gate = net(self._gating(a, w), "gate")
        negative = net(a.sign.any() ^ w.sign.any(), "negative")
        shift = net(self._sum_of_shifts(a, w), "shift")
        gate, negative, shift = cut(0, gate=gate, negative=negative, shift=shift)

        signs_first = self._signs_first
        if signs_first:
            word = net(self._with_sign(word, gate, negative), "signed")
            gate = Const(0, 0)
        reach = self._unit
        for level, bits in enumerate(self._steps[:-1], 1):
            width = len(word) + ((1 << bits) - 1) * reach
            if signs_first:
                word = _shift_in_gates(m, word, shift[:bits], reach,
                                       f"{operands.prefix}word{level}_{name}")
            else:
                word = net(_choose(_one_hot(shift[:bits]), word, reach, width), f"word{level}")
            word, gate, negative, shift = cut(level, word=word, gate=gate, negative=negative,
                                              shift=shift[bits:])
            reach <<= bits

        places = _one_hot(shift)
        if len(places) > 4 and self.structure is Structure.LUT6:
            # Nets of their own, or the mapper would have each adder's bit decode them again.
            places = [net(place, f"place{k}", attrs={"keep": 1}) for k, place in enumerate(places)]
        width = term_bound(self.activation, self.weight).bit_length()
        if signs_first:
            term = net(_choose_in_gates(places, word, reach, width + 1).as_unsigned(), "term")
            return cut(len(self._steps), term=term, negative=negative)
        magnitude = _choose(places, word, reach, width + self._signed).as_unsigned()
        if self._gate:
            magnitude &= gate.replicate(len(magnitude))
        if not self._signed:
            magnitude = Cat(magnitude, Const(0, 1))
        term = net(magnitude ^ negative.replicate(len(magnitude)), "term")
        return cut(len(self._steps), term=term, negative=negative)

    def _with_sign(self, word, gate, negative):
        """A product of magnitudes, complemented where it is negative: signed, one bit wider."""
        bits = [bit & gate for bit in word] if self._gate else word
        return Cat(bit ^ negative for bit in [*bits, Const(0, 1)]).as_signed()

    def _product(self, m, a, w, name):
        """The significands' product, where one of them is no mere gate, from LUTs."""
        if self._gate:
            return w.significand if len(a.significand) == 1 else a.significand
        if self._look_up:
            return _table([left * right for right in _padded(self._w) for left in _padded(self._a)],
                          Cat(a.significand, w.significand))
        # In radix 4: 0, a, 2a or 3a for each two bits of w. A row's bits have five inputs, which
        # leaves one for the sum of the rows before.
        done, total = [], None
        for low in range(0, len(w.significand), 2):
            digit = w.significand[low:low + 2]
            multiples = [None, a.significand, a.significand << 1, a.triple][:1 << len(digit)]
            row = Signal(len(a.triple), name=f"row{low}_{name}")
            m.d.comb += row.eq(reduce(lambda x, y: x | y, (
                multiple & (digit == k).replicate(len(a.triple))
                for k, multiple in enumerate(multiples) if k)))
            total = row if total is None else (total + row)[:len(a.triple)]
            if low + 2 < len(w.significand):
                done.append(total[:2])
                total = total[2:]
        return Cat(*done, total)[:self._places]

    def _gating(self, a, w):
        """The significand that has a single bit, so that a product needs no more than gates; none
        where products are not built so."""
        if not self._gate:
            return Const(0, 0)
        return a.significand if len(a.significand) == 1 else w.significand

    def _sum_of_shifts(self, a, w):
        """Places by which a product is shifted left, counted from the lowest place, `_unit`."""
        shifts = [Cat(Const(0, factor.unit - self._unit), fields.shift)
                  for factor, fields in ((self._a, a), (self._w, w)) if factor.largest_shift]
        return reduce(lambda x, y: x + y, shifts)[:sum(self._steps)] if shifts else Const(0, 0)


def _decode(factor, count, codes):
    codes = Value.cast(codes)
    return Cat(factor.decode(codes.word_select(n, factor.fmt.width)) for n in range(count))


def _padded(factor):
    """Magnitudes by significand, 0 where there is no such one."""
    magnitudes = list(factor.magnitudes)
    return magnitudes + [0] * ((1 << factor.layout["significand"].width) - len(magnitudes))


def _table(values, address):
    """values[address], each bit a constant of its own that the address picks a bit of."""
    bits = max(values).bit_length()
    tables = [sum((value >> n & 1) << k for k, value in enumerate(values)) for n in range(bits)]
    return Cat(Const(table, len(values)).bit_select(address, 1) for table in tables)


def _one_hot(number):
    return [number == k for k in range(1 << len(number))]


def _choose(enables, word, reach, width):
    """`width` bits of `word` shifted by k * reach places, for the one k that is enabled. As AND and
    OR: mapped to LUTs, multiplexers in a tree take more."""
    fill = word[-1] if word.shape().signed else Const(0, 1)
    shifted = (Cat(Const(0, k * reach), word, fill.replicate(width))[:width]
               & enable.replicate(width) for k, enable in enumerate(enables))
    chosen = reduce(lambda x, y: x | y, shifted)
    return chosen.as_signed() if word.shape().signed else chosen


def _choose_in_gates(enables, word, reach, width):
    """The same of a signed word, with its sign also in the places below it: each bit has a gate for
    each enable under which it is one of the word's, and one for all others."""
    bits = []
    for n in range(width):
        at = [(n - k * reach, enable) for k, enable in enumerate(enables)]
        own = [word[place] & enable for place, enable in at if 0 <= place < len(word) - 1]
        others = [enable for place, enable in at if not 0 <= place < len(word) - 1]
        if others:
            own.append(reduce(lambda x, y: x | y, others) & word[-1])
        bits.append(reduce(lambda x, y: x | y, own))
    return Cat(bits).as_signed()


def _shift_in_gates(m, word, shift, reach, name):
    """Such a word shifted by shift * reach places, by a multiplexer for each bit of `shift`."""
    for n in range(len(shift)):
        sign = word[-1].replicate(reach << n)
        shifted = Signal(signed(len(word) + (reach << n)), name=f"{name}_{n}")
        m.d.comb += shifted.eq(Mux(shift[n], Cat(sign, word), Cat(word, sign)))
        word = shifted
    return word


def _add_all(m, total, terms, name):
    """`total` plus all terms, (bits, carry), one after the other."""
    for first in range(0, len(terms), _NESTED):
        if first:
            net = Signal(len(total), name=f"{name}_{first}")
            m.d.comb += net.eq(total)
            total = net
        for term in terms[first:first + _NESTED]:
            total = _add(total, *term)
    return total


def _add(total, bits, carry):
    """total + the signed `bits` + carry: the carry as a sum of lowest bits, which needs no LUT."""
    fill = bits[-1].replicate(len(total) - len(bits))
    return (Cat(carry, total) + Cat(carry, bits, fill))[1:len(total) + 1]
