"""Products for DSP blocks, two in one block where the operands are short enough."""

from amaranth.hdl import Cat, Const

from .arithmetic import tree_sum
from .formats import sum_bits

__all__ = ["DspProducts"]

#: Bits of a block's signed operands: those of the ECP5's and within those of all Xilinx families.
_OPERAND = 18


class DspProducts:
    """Dot products by multiplications, to be mapped to DSP blocks.

    Of two lanes, sums a0*w0 + a1*w1 are the middle digit of (a0 + a1*X) * (w1 + w0*X) to the base
    X = 2**digit, if they fit that digit: one multiplication instead of two. Below it is a0*w1,
    which takes one away if it is negative.

    Attributes
    ----------
    activation_bits, weight_bits : int
        Of all lanes, decoded.
    fast_stages, most_stages : int
        The second stage is a register for the product.
    offset : int
    """

    fast_stages = 2
    most_stages = 2
    offset = 0

    def __init__(self, activation, weight, lanes):
        self._formats = activation, weight
        self._digit = sum_bits(activation, weight, 2)
        # Joining two numbers takes one bit more: the lower one may take one away.
        longest = max(activation.width, weight.width) + self._digit + 1
        self._pairs = lanes // 2 if longest <= _OPERAND else 0
        self._alone = lanes - 2 * self._pairs
        self.activation_bits, self.weight_bits = (
            self._pairs * (2 * fmt.width + 1) + self._alone * fmt.width for fmt in self._formats)

    def decode_activation(self, codes):
        return self._decode(codes, *self._formats[:1], [0, 1])

    def decode_weight(self, codes):
        return self._decode(codes, *self._formats[1:], [1, 0])

    def _decode(self, codes, fmt, order):
        """Per pair the lower number's code and the upper number less what the lower takes away."""
        lanes = [codes.word_select(n, fmt.width) for n in range(2 * self._pairs + self._alone)]
        pairs = []
        for n in range(self._pairs):
            low, high = (lanes[2 * n + k] for k in order)
            if fmt.signed:
                high = (high.as_signed() - low[-1])[:fmt.width + 1]
            pairs += [low, Cat(high, Const(0, fmt.width + 1))[:fmt.width + 1]]
        return Cat(*pairs, *lanes[2 * self._pairs:])

    def _factors(self, value, fmt):
        """What is to be multiplied: joined pairs, then single numbers."""
        def number(bits):
            return bits.as_signed() if fmt.signed else bits
        joined = 2 * fmt.width + 1
        pairs, alone = value[:self._pairs * joined], value[self._pairs * joined:]
        factors = []
        for n in range(self._pairs):
            word = pairs.word_select(n, joined)
            sign = word[fmt.width - 1] if fmt.signed else Const(0, 1)
            factors.append(number(Cat(
                word[:fmt.width], sign.replicate(self._digit - fmt.width), word[fmt.width:])))
        return factors + [number(alone.word_select(n, fmt.width)) for n in range(self._alone)]

    def accumulate(self, m, operands, psum, stages):
        terms = []
        activation, weight = self._formats
        for n, (a, w) in enumerate(zip(self._factors(operands.a(0), activation),
                                       self._factors(operands.w(0), weight), strict=True)):
            product = a * w
            if stages > 1:
                product = operands.register(product, f"product{n}")
            if n < self._pairs:
                product = (product[self._digit:2 * self._digit].as_signed()
                           + product[self._digit - 1])
            terms.append(product)
        return psum + tree_sum(terms)
