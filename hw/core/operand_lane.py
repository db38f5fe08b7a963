"""One result combined with its operand: their scaled sum or product, rounded and clipped."""

from amaranth.hdl import Const, Module, Mux, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.timing import operand_lane_latency

from .rounding import clip, nearest, register

__all__ = ["OperandLane"]

_LAYOUT = isa.layout(isa.Opcode.POST)


class OperandLane(wiring.Component):
    """One channel's sum or product with an operand; a new one every cycle, `latency` cycles later.

    With c the first result and r the operand's distance from its zero point, both as images
    (integers: c as it is), t = c * gain + r * operand_gain, or c * r * gain for a product. The
    result is t / 2**shift, rounded as the numerics page says, plus the zero point, clipped.

    Parameters
    ----------
    arch : Arch
        With a format other than bipolar.

    Members
    -------
    first : In(signed(arch.first_bits))
        c as an ordered integer.
    operand : In(activation.width)
        A code.
    product, gain, operand_gain, operand_zero, zero_point, low, high : In
        The POST instruction's fields, to be held while results are on their way; `operand_zero` is
        a number of the activation format.
    shift, ties : In
        The fields `operand_shift` and `operand_ties`, likewise; ties as `rounding.nearest` has
        them.
    ordered : Out(signed(arch.last_bits))
        The result as an ordered integer.
    """

    def __init__(self, *, arch: Arch) -> None:
        self.arch = arch
        super().__init__({
            "first": In(signed(arch.first_bits)), "operand": In(arch.activation.width),
            **{name: In(_LAYOUT[name].shape) for name in (
                "product", "gain", "operand_gain", "operand_zero", "zero_point", "low", "high")},
            "shift": In(_LAYOUT["operand_shift"].shape), "ties": In(_LAYOUT["operand_ties"].shape),
            "ordered": Out(signed(arch.last_bits)),
        })

    @property
    def latency(self) -> int:
        """Cycles from the first result and the operand to the result."""
        return operand_lane_latency(self.arch)

    def elaborate(self, platform):
        m = Module()
        form = self.arch.activation
        if form.floating:
            magnitude = Mux(self.first < 0, -self.first, self.first)[:form.width - 1]
            first = _signed(_image(magnitude, form), self.first < 0)
            other = _signed(_image(self.operand[:form.width - 1], form),
                            self.operand[form.width - 1])
        else:
            first = self.first
            other = (self.operand.as_signed() - self.operand_zero)[:form.width + 1].as_signed()
        first, other = register(m, first, "first_1"), register(m, other, "other_1")
        both = len(first) + len(other)

        # Two multipliers in a row: a sum uses one for each, a product both. Each has a second
        # register after it, for the one inside DSP blocks.
        scaled = register(m, first * Mux(self.product, other, self.gain), "scaled_2")
        other = register(m, other, "other_2")
        scaled, other = register(m, scaled, "scaled_3"), register(m, other, "other_3")
        factor = Mux(self.product, scaled[:both].as_signed(), other)
        second = register(m, factor * Mux(self.product, self.gain, self.operand_gain), "second_4")
        scaled = register(m, scaled, "scaled_4")
        second, scaled = register(m, second, "second_5"), register(m, scaled, "scaled_5")

        total = register(m, second + Mux(self.product, 0, scaled), "total")
        number, _ = nearest(m, total, self.shift, form, ties=self.ties, limit=self.arch.last_bits)
        value = number if form.floating else number + self.zero_point
        m.d.sync += self.ordered.eq(clip(value, self.low, self.high))
        return m


def _image(magnitude, form):
    """The image of a float's magnitude code."""
    mantissa, exponent = magnitude[:form.man], magnitude[form.man:]
    normal = exponent != 0
    # The least exponents, 0 and 1, weigh the same: the leading one is all that differs.
    return (mantissa + (normal << form.man)) << (exponent - normal)[:form.exp]


def _signed(magnitude, negative):
    return Mux(negative, -magnitude, Const(0, signed(2)) + magnitude)
