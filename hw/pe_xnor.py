"""Binary products: +1 and -1 as single bits, XNOR for the product, counting for the sum."""

from amaranth.hdl import Cat, Const, Value

from .arithmetic import Arithmetic, tree_sum

__all__ = ["XnorArithmetic"]


class XnorArithmetic(Arithmetic):
    """Lanes of +-1 as bits (1 is +1). An element adds the count of equal lanes.

    A column's sum is 2 * count - rows * lanes, so that counting starts from minus half of that.
    """

    psum_scale = 1

    def __init__(self, activation, weight, lanes, terms, **options):
        for fmt in (activation, weight):
            if fmt.bits != 1:
                raise ValueError(f"binary operands of the array must be bipolar1, not {fmt}")
        super().__init__(activation, weight, lanes, terms, **options)
        self.activation_bits = self.weight_bits = lanes
        # From -(terms + 1) // 2, where the last bit of an odd number of terms is left out.
        self.psum_bits = ((terms + 1) // 2).bit_length() + 1

    def decode_activation(self, m, codes):
        return Value.cast(codes)

    def decode_weight(self, m, codes):
        return Value.cast(codes)

    def accumulate(self, m, operands, psum):
        equal = ~(operands.a(0) ^ operands.w(0))
        return psum + tree_sum([equal[lane] for lane in range(self.lanes)])

    def head(self, rows):
        return -((rows * self.lanes + 1) // 2)

    def total(self, psum, rows):
        return Cat(Const(rows * self.lanes % 2, 1), psum).as_signed()
