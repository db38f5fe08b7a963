"""Requantization of one channel: bias, multiplier, rounding, the output format, the clip."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .arch import FIRST_BITS, MULTIPLIER_BITS, SHIFT_BITS
from .formats import Bipolar, Float
from .rounding import CYCLES, clip, nearest, register

__all__ = ["PostLane"]


class PostLane(wiring.Component):
    """One accumulator to one result; a new one every cycle, `latency` cycles later.

    The arithmetic is the numerics page's: s = accumulator + bias, p = s * multiplier, rounded to
    even at p / 2**shift (integers) or to the nearest float of that many smallest subnormals.
    Bipolar results are the sign of p; the shift, which they have no use for, says by its lowest bit
    that a window's smallest result is wanted. On leaky chips sums s below zero have a multiplier
    with a sign and a shift of their own.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    accumulator : In(signed(arch.accumulator_bits))
    more : In(1)
        1: instead of the bias, what s was in the cycle before is added; s wraps around.
    parameters : In(arch.parameter_bits)
        From bit 0 up: bias, multiplier, shift; on leaky chips multiplier, shift and sign (1:
        negative) for sums below zero.
    raw : In(1)
        1: `raw_out` will be used; the multiplier counts as 1 and the shift as 0.
    zero_point : In(signed(16))
    low, high : In(signed(FIRST_BITS)), or signed(16) on chips without operands
        As in the instruction; to be held while results are on their way.
    ordered : Out(signed(arch.first_bits))
        The result as an ordered integer: integers' value, floats' sign and magnitude, 0 or 1.
    raw_out : Out(signed(arch.accumulator_bits + 1))
        s itself.
    least : Out(1)
        Along with bipolar results, and on no other chips: 1 where the shift is odd.
    """

    def __init__(self, *, arch):
        self.arch = arch
        limits = signed(FIRST_BITS if arch.operand_depth else 16)
        super().__init__({
            "accumulator": In(signed(arch.accumulator_bits)), "more": In(1),
            "parameters": In(arch.parameter_bits),
            "raw": In(1),
            "zero_point": In(signed(16)),
            "low": In(limits), "high": In(limits),
            "ordered": Out(signed(arch.first_bits)),
            "raw_out": Out(signed(arch.accumulator_bits + 1)),
            **({"least": Out(1)} if isinstance(arch.activation, Bipolar) else {}),
        })

    @staticmethod
    def latency_of(arch):
        """Cycles from accumulator and parameters to the results."""
        return 2 if isinstance(arch.activation, Bipolar) else 4 + CYCLES + 1

    @property
    def latency(self):
        return self.latency_of(self.arch)

    def elaborate(self, platform):
        m = Module()
        bits, form = self.arch.accumulator_bits, self.arch.activation
        fields = data.View(data.StructLayout({
            "bias": signed(bits), "multiplier": MULTIPLIER_BITS, "shift": SHIFT_BITS,
            **({"below_multiplier": MULTIPLIER_BITS, "below_shift": SHIFT_BITS, "below_sign": 1}
               if self.arch.leaky else {}),
        }), self.parameters)

        total = Signal(signed(bits + 1), reset_less=True)
        m.d.sync += total.eq(self.accumulator + Mux(self.more, total, fields.bias))
        scale = register(m, Mux(self.raw, 1, fields.multiplier), "scale")
        negative = total < 0
        if isinstance(form, Bipolar):
            m.d.sync += [self.raw_out.eq(total), self.ordered.eq(~negative | (scale == 0)),
                         self.least.eq(register(m, fields.shift[0], "least_1"))]
            return m

        shift = register(m, Mux(self.raw, 0, fields.shift), "shift_1")
        raw = register(m, self.raw, "raw_1")
        magnitude = register(m, Mux(negative, -total, total)[:bits + 1], "magnitude")
        if self.arch.leaky:
            below = negative & ~raw
            scale = Mux(below, register(m, fields.below_multiplier, "below_multiplier"), scale)
            shift = Mux(below, register(m, fields.below_shift, "below_shift"), shift)
            negative = negative & ~(below & register(m, fields.below_sign, "below_sign"))
        negative = register(m, negative, "negative_2")
        scale, shift, raw = register(m, scale, "scale_2"), register(m, shift, "shift_2"), \
            register(m, raw, "raw_2")
        product = register(m, magnitude * scale, "product_3")
        negative, shift, raw = (register(m, negative, "negative_3"), register(m, shift, "shift_3"),
                                register(m, raw, "raw_3"))
        # A second register behind the multiplier, for the one inside DSP blocks.
        product = register(m, product, "product_4")
        negative, shift, raw = (register(m, negative, "negative_4"), register(m, shift, "shift_4"),
                                register(m, raw, "raw_4"))

        number, rounded, negative = nearest(
            m, product, negative, shift, form, exact=raw,
            limit=self.arch.first_bits, kept=max(bits + 1, self.arch.first_bits))
        value = number if isinstance(form, Float) else number + self.zero_point
        m.d.sync += [self.ordered.eq(clip(value, self.low, self.high)),
                     self.raw_out.eq(Mux(negative, -rounded[:bits + 1], rounded[:bits + 1]))]
        return m
