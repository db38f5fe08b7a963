"""Integer products: the codes are the numbers."""

from amaranth.hdl import Cat, Value, signed, unsigned
from amaranth.lib import data

from .arithmetic import Arithmetic, tree_sum

__all__ = ["IntArithmetic"]


class IntArithmetic(Arithmetic):
    """Signed or unsigned integers of 1 to 16 bits each; both operands travel as they are stored."""

    def __init__(self, activation, weight, lanes, terms, **options):
        super().__init__(activation, weight, lanes, terms, **options)
        self._activations = _layout(activation, lanes)
        self._weights = _layout(weight, lanes)
        self.activation_bits = self._activations.size
        self.weight_bits = self._weights.size

    def decode_activation(self, m, codes):
        return Value.cast(codes)

    def decode_weight(self, m, codes):
        return Value.cast(codes)

    def accumulate(self, m, operands, psum):
        a, w = operands.a(0), operands.w(0)
        a = data.View(self._activations, Cat(a))
        w = data.View(self._weights, Cat(w))
        return psum + tree_sum([a[lane] * w[lane] for lane in range(self.lanes)])


def _layout(fmt, lanes):
    return data.ArrayLayout(signed(fmt.bits) if fmt.signed else unsigned(fmt.bits), lanes)
