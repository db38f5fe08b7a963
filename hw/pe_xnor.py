"""Binary products: +1 and -1 as single bits, XNOR for the product, counting for the sum."""

from amaranth.hdl import Cat, Mux, Value

from .arithmetic import Arithmetic, tree_sum

__all__ = ["XnorArithmetic"]


class XnorArithmetic(Arithmetic):
    """Lanes of +-1 as bits (1 is +1): valid ? 2 * popcount(a xnor w) - lanes : 0.

    There is no zero, so that a valid bit travels above the activation's lanes.
    """

    def __init__(self, activation, weight, lanes, terms):
        for fmt in (activation, weight):
            if fmt.bits != 1:
                raise ValueError(f"binary operands of the array must be bipolar1, not {fmt}")
        super().__init__(activation, weight, lanes, terms)
        self.activation_bits = lanes + 1
        self.weight_bits = lanes

    def decode_activation(self, m, codes, valid):
        return Cat(Value.cast(codes), valid)

    def decode_weight(self, m, codes):
        return Value.cast(codes)

    def add(self, m, psum, a, w):
        equal = ~(a[:self.lanes] ^ w)
        count = tree_sum([equal[lane] for lane in range(self.lanes)])
        return psum + Mux(a[self.lanes], (count << 1) - self.lanes, 0)
