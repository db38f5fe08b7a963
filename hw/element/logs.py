"""Logarithmic products: logarithms are added, a constant per remainder, a shift per octave.

The sum of two logarithms is q * root + r; the product is 2**(r / root), a constant, shifted left
by q places. Sums of products are exact in the units of the constants (Zhao et al., LNS-Madam,
2022).
"""

from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed
from systolith.hw.formats import Format

from .arithmetic import Arithmetic, Operands, tree_sum

__all__ = ["LnsArithmetic"]

#: Low bits of the quotient that choose the constant, already shifted, together with the remainder.
_FINE = 2


class LnsArithmetic(Arithmetic):
    """Two `Lns` formats of the same root and table.

    Codes travel with a bit that says that they are not zero. Products have a register before the
    shifts if there are three stages, and one after them if there are two.
    """

    fast_stages = 3
    most_stages = 3

    def __init__(self, activation: Format, weight: Format, lanes: int, terms: int,
                 **options: Any) -> None:
        super().__init__(activation, weight, lanes, terms, **options)
        self.activation_bits = lanes * (activation.width + 1)
        self.weight_bits = lanes * (weight.width + 1)

    def decode_activation(self, m: Module, codes: Value) -> Value:
        return _decode(self.activation, self.lanes, codes)

    def decode_weight(self, m: Module, codes: Value) -> Value:
        return _decode(self.weight, self.lanes, codes)

    def accumulate(self, m: Module, operands: Operands, psum: Value) -> Value:
        a, w = (Value.cast(value) for value in (operands.a(0), operands.w(0)))
        products = [self._product(m, operands, a.word_select(lane, len(a) // self.lanes),
                                  w.word_select(lane, len(w) // self.lanes), lane)
                    for lane in range(self.lanes)]
        return psum + tree_sum(products)

    def _product(self, m, operands, a, w, lane):
        """The signed product of two decoded codes, in the last pipeline stage."""
        fmt = self.activation
        root_bits = fmt.root.bit_length() - 1
        log = Signal((fmt.largest_log + self.weight.largest_log).bit_length(), name=f"log_{lane}")
        m.d.comb += log.eq(a[:-2] + w[:-2])
        fields = Cat(log, a[-2] ^ w[-2], a[-1] & w[-1])
        if self.stages > 2:
            fields = operands.register(fields, f"fields_{lane}")
        log, negative, nonzero = fields[:-2], fields[-2], fields[-1]

        # A LUT of six inputs for each bit with a remainder of three bits, then one for each bit.
        fine_bits, step = root_bits + _FINE, 1 << _FINE
        # Constants with few fraction bits may be rounded up to 2.
        width = max(fmt.table).bit_length() + step - 1
        table = Array(Const(fmt.table[n % fmt.root] << n // fmt.root, width)
                      for n in range(1 << fine_bits))
        fine = Signal(width, name=f"fine_{lane}")
        m.d.comb += fine.eq(Mux(nonzero, table[log[:fine_bits]], 0))
        coarse = log[fine_bits:]
        magnitude = Signal(fmt.product_bound(self.weight).bit_length(), name=f"magnitude_{lane}")
        m.d.comb += magnitude.eq(Cat(
            Cat(fine[place - step * n] & (coarse == n) for n in range(1 << len(coarse))
                if 0 <= place - step * n < len(fine)).any()
            for place in range(len(magnitude))))
        if self.stages > 1:
            both = operands.register(Cat(magnitude, negative), f"product_{lane}")
            magnitude, negative = both[:-1], both[-1]
        # -x is ~x + 1: one carry chain, the sign being its carry, instead of two.
        product = Signal(signed(len(magnitude) + 1), name=f"flipped_{lane}")
        m.d.comb += product.eq(Cat(magnitude ^ negative.replicate(len(magnitude)), negative))
        return product + negative


def _decode(fmt, lanes, codes):
    """The lanes' codes, each with one more bit above it that says that the number is not zero."""
    codes = [Value.cast(codes).word_select(lane, fmt.width) for lane in range(lanes)]
    return Cat(Cat(code, code[:-1].any()) for code in codes)
