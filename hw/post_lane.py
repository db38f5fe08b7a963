"""Requantization of one channel: bias, multiplier, rounding, the output format, the clip."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .arch import MULTIPLIER_BITS, SHIFT_BITS
from .formats import Bipolar, Float

__all__ = ["PostLane"]


class PostLane(wiring.Component):
    """One accumulator to one result; a new one every cycle, `latency` cycles later.

    The arithmetic is the numerics page's: s = accumulator + bias, p = s * multiplier, rounded to
    even at p / 2**shift (integers) or to the nearest float of that many smallest subnormals.
    Bipolar results are the sign of p.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    accumulator : In(signed(arch.accumulator_bits))
    parameters : In(arch.parameter_bits)
        From bit 0 up: bias, multiplier, shift.
    raw : In(1)
        1: `raw_out` will be used; the multiplier counts as 1 and the shift as 0.
    zero_point, low, high : In(signed(17))
        As in the instruction; to be held while results are on their way.
    ordered : Out(signed(width + 1))
        The result as an ordered integer: integers' value, floats' sign and magnitude, 0 or 1.
    raw_out : Out(signed(arch.accumulator_bits + 1))
        s itself.
    """

    def __init__(self, *, arch):
        self.arch = arch
        super().__init__({
            "accumulator": In(signed(arch.accumulator_bits)),
            "parameters": In(arch.parameter_bits),
            "raw": In(1),
            "zero_point": In(signed(17)), "low": In(signed(17)), "high": In(signed(17)),
            "ordered": Out(signed(arch.activation.width + 1)),
            "raw_out": Out(signed(arch.accumulator_bits + 1)),
        })

    @staticmethod
    def latency_of(arch):
        """Cycles from accumulator and parameters to the results."""
        return 2 if isinstance(arch.activation, Bipolar) else 7

    @property
    def latency(self):
        return self.latency_of(self.arch)

    def elaborate(self, platform):
        m = Module()
        bits, form = self.arch.accumulator_bits, self.arch.activation
        fields = data.View(data.StructLayout({
            "bias": signed(bits), "multiplier": MULTIPLIER_BITS, "shift": SHIFT_BITS,
        }), self.parameters)

        def register(value, name):
            signal = Signal(value.shape(), name=name, reset_less=True)
            m.d.sync += signal.eq(value)
            return signal

        total = register(self.accumulator + fields.bias, "total")
        scale = register(Mux(self.raw, 1, fields.multiplier), "scale")
        negative = total < 0
        if isinstance(form, Bipolar):
            m.d.sync += [self.raw_out.eq(total), self.ordered.eq(~negative | (scale == 0))]
            return m

        shift = register(Mux(self.raw, 0, fields.shift), "shift_1")
        raw = register(self.raw, "raw_1")
        magnitude = register(Mux(negative, -total, total)[:bits + 1], "magnitude")
        negative = register(negative, "negative_2")
        scale, shift, raw = register(scale, "scale_2"), register(shift, "shift_2"), \
            register(raw, "raw_2")
        product = register(magnitude * scale, "product_3")
        negative, shift, raw = (register(negative, "negative_3"), register(shift, "shift_3"),
                                register(raw, "raw_3"))
        # A second register behind the multiplier, for the one inside DSP blocks.
        product = register(product, "product_4")
        negative, shift, raw = (register(negative, "negative_4"), register(shift, "shift_4"),
                                register(raw, "raw_4"))

        # How far the result's last bit stands above the product's.
        above = Signal(range(len(product)))
        if isinstance(form, Float):
            for position in range(form.man + 1, len(product)):
                with m.If(product[position]):
                    m.d.comb += above.eq(position - form.man)
            exponent = Mux(raw | (above <= shift), 0, (above - shift)[:len(above)])
            amount = register(shift + exponent, "amount")
            exponent = register(exponent, "exponent_5")
        else:
            amount, exponent = register(shift, "amount"), None
        product, negative = register(product, "product_5"), register(negative, "negative_5")

        shifted = Cat(0, product) >> amount
        lost = Cat(((amount > position + 1) & product[position])
                   for position in range(min(len(product), (1 << len(amount)) - 1))).any()
        whole, half = shifted[1:], shifted[0]
        total = whole + (half & (lost | whole[0]))
        limit, kept = form.width + 1, max(bits + 1, form.width + 1)
        rounded = register(total[:kept], "rounded")
        too_large = register(total[kept:].any(), "too_large")
        negative = register(negative, "negative_6")

        small = Signal(limit)           # enough to see that it exceeds every result
        m.d.comb += small.eq(Mux(too_large | rounded[limit:].any(), (1 << limit) - 1,
                                 rounded[:limit]))
        if isinstance(form, Float):
            exponent = register(exponent, "exponent_6")
            code = small + (exponent << form.man)
            result = Mux(code > form.max_code, form.max_code, code)[:form.width - 1]
            value = Mux(negative, -result, result)
        else:
            value = Mux(negative, -small, small) + self.zero_point
        clipped = Mux(value < self.low, self.low, Mux(value > self.high, self.high, value))
        m.d.sync += [self.ordered.eq(clipped),
                     self.raw_out.eq(Mux(negative, -rounded[:bits + 1], rounded[:bits + 1]))]
        return m
