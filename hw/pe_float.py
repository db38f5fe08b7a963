"""Short floating-point products in an exact fixed-point window.

A code is decoded to `significand * 2**exponent` with a sign. Products are significand times
significand, shifted left by the sum of the exponents: integers, of which sums are exact.
"""

from amaranth.hdl import Cat, Mux, Signal, Value
from amaranth.lib import data

from .arithmetic import Arithmetic, tree_sum
from .formats import term_bound

__all__ = ["FloatArithmetic"]


class FloatArithmetic(Arithmetic):
    """Signed floats with subnormals, of any exponent and mantissa width, 0 mantissa bits too.

    Decoded operands have sign, significand with its hidden bit, and the number of places by
    which the significand stands left of the format's lowest bit. NaN and infinity codes must not
    come in: they are taken for the numbers that their fields would be elsewhere.
    """

    def __init__(self, activation, weight, lanes, terms, **options):
        for fmt in (activation, weight):
            if not fmt.signed:
                raise ValueError(f"operands of the array must be signed, not {fmt}")
        super().__init__(activation, weight, lanes, terms, **options)
        self._activations = data.ArrayLayout(_operand(activation), lanes)
        self._weights = data.ArrayLayout(_operand(weight), lanes)
        self.activation_bits = self._activations.size
        self.weight_bits = self._weights.size

    def decode_activation(self, m, codes):
        return _decode(self.activation, self.lanes, codes)

    def decode_weight(self, m, codes):
        return _decode(self.weight, self.lanes, codes)

    def accumulate(self, m, operands, psum):
        a, w = operands.a(0), operands.w(0)
        a = data.View(self._activations, Cat(a))
        w = data.View(self._weights, Cat(w))
        bits = term_bound(self.activation, self.weight).bit_length()
        products = []
        for lane in range(self.lanes):
            magnitude = Signal(bits, name=f"magnitude_{lane}")
            negative = Signal(name=f"negative_{lane}")
            m.d.comb += [
                magnitude.eq((a[lane].significand * w[lane].significand)
                             << (a[lane].shift + w[lane].shift)),
                negative.eq(a[lane].sign ^ w[lane].sign),
            ]
            # -x is ~x + 1: one carry chain, the sign being its carry, instead of two.
            flipped = Mux(negative, ~magnitude, magnitude)
            products.append(Cat(flipped, negative).as_signed() + negative)
        return psum + tree_sum(products)


def _operand(fmt):
    """Layout of a decoded operand: image = (-1)**sign * significand << shift."""
    largest_shift = max((fmt.max_code >> fmt.man) - 1, 0)
    return data.StructLayout({
        "significand": fmt.man + 1, "shift": largest_shift.bit_length(), "sign": 1})


def _decode(fmt, lanes, codes):
    """Decoded operands of `lanes` codes."""
    operands = []
    for lane in range(lanes):
        code = Value.cast(codes).word_select(lane, fmt.width)
        fraction = code[:fmt.man]
        field = code[fmt.man:fmt.man + fmt.exp]
        normal = field.any()
        shift_bits = _operand(fmt)["shift"].width
        shift = Mux(normal, field - 1, 0)[:shift_bits]
        operands.append(Cat(fraction, normal, shift, code[-1]))
    return Cat(operands)
