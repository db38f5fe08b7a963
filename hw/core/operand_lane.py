"""What one result and its operand give to the post lane, which makes their scaled sum or product of
it."""

from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.timing import (
    folded_operands,
    gain_by_pooling,
    operand_image_bits,
    operand_lane_latency,
    pooled_bits,
    product_latency,
)

from .products import folded_product, product, register

__all__ = ["OperandLane", "product_apart", "turn_shapes"]

_LAYOUT = isa.layout(isa.Opcode.POST)


def turn_shapes(arch: Arch) -> dict[str, Any]:
    """Shapes of what an operand lane of the chip gives to its post lane, by name."""
    first, other = operand_image_bits(arch)
    product, addend = signed(first + other), signed(other + arch.gain_bits)
    if product_apart(arch):
        return {"number": signed(first), "product": product, "addend": addend}
    return {"number": product, "addend": addend}


def product_apart(arch: Arch) -> bool:
    """Whether a product comes beside the number, of which one is 0: built without DSP blocks, for
    parts whose LUTs have inputs left where it is added."""
    return arch.post_luts and not arch.slope_offsets


class OperandLane(wiring.Component):
    """One channel's first result and operand, to what the lane takes `latency` cycles later; new
    ones every second cycle.

    With c the first result and r the operand's distance from its zero point, both as images
    (integers: c as it is), the post lane computes c * gain + r * operand_gain, or c * r * gain for
    a product: number * gain + addend, with what comes from here. Where slopes come late it
    multiplies c + r * operand_gain.

    Parameters
    ----------
    arch : Arch
        With operands, and a format other than bipolar.

    Members
    -------
    first : In(signed(pooled_bits(arch)))
        c as an ordered integer.
    operand : In(activation.width)
        A code.
    combination, operand_gain, operand_zero : In
        The POST instruction's fields (`combination`: its operand), to be held while results are on
        their way; `operand_zero` is a number of the activation format.
    load : In(1)
        On chips with `timing.gain_by_pooling`, instead of `operand_gain`: it stands at `first`.
    entering : In(1)
        The result and the operand are there.
    valid : In(1)
        The result is there in the next cycle; else what comes is 0.
    number : Out, addend : Out
        As the post lane takes them: c with the addend r * operand_gain, or c * r with 0. With
        slopes that come late the number is c + r * operand_gain, with 0.
    product : Out
        With `product_apart` c * r, and the number is then 0.
    """

    def __init__(self, *, arch: Arch) -> None:
        self.arch = arch
        super().__init__({
            "first": In(signed(pooled_bits(arch))), "operand": In(arch.activation.width),
            "combination": In(_LAYOUT["operand"].shape),
            **({"load": In(1)} if gain_by_pooling(arch) else
               {"operand_gain": In(signed(arch.gain_bits))}),
            "operand_zero": In(_LAYOUT["operand_zero"].shape),
            "entering": In(1), "valid": In(1),
            **{name: Out(shape) for name, shape in turn_shapes(arch).items()},
        })

    @property
    def latency(self) -> int:
        """Cycles from the first result and the operand to number and addend."""
        return operand_lane_latency(self.arch)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        form, bits = self.arch.activation, operand_image_bits(self.arch)
        first, other = self.first, self.operand
        if form.floating:
            top = form.width - 1
            first = Cat(Mux(first < 0, -first, first)[:top], first < 0)
            first, other = self._later(m, "code", first, other)
            first, other = self._later(m, "image", *(
                Cat(_image(code[:top], form), code[top]) for code in (first, other)))
            first, other = (_signed(image[:-1], image[-1]) for image in (first, other))
        else:
            other = other.as_signed() - self.operand_zero
        is_product, loads = self.combination == isa.Combination.PRODUCT, gain_by_pooling(self.arch)
        factor = first if loads else Mux(is_product, first[:bits[0]].as_signed(), self.operand_gain)
        first, other = first[:bits[0]].as_signed(), other[:bits[1]].as_signed()
        if folded_operands(self.arch):
            entering = self.entering
            for stage in range(2 * form.floating):
                entering = register(m, entering, f"entering_{stage}")
            held = []
            for name, value in (("first", first), ("other", other), ("factor", factor)):
                held.append(Signal(value.shape(), name=f"{name}_held", reset_less=True))
                takes = entering
                if name == "factor" and loads:
                    takes = self.load | (entering & is_product)
                with m.If(takes):
                    m.d.sync += held[-1].eq(value)
            first, other, factor = held
            scaled = folded_product(m, factor, other, register(m, entering, "entered"), "scaled")
            first, = self._later(m, "second", first)        # the next one is two cycles later
            for stage in range(self._spare(2)):
                first, scaled = self._later(m, f"spare_{stage}", first, scaled)
        else:
            first, other, factor = self._later(m, "signed", first, other, factor)
            cycles = product_latency(self.arch, len(other), len(factor), False)
            # Multipliers are far away: where there is time, a wire alone leads to their registers.
            for stage in range(self._spare(cycles)):
                first, other, factor = self._later(m, f"spare_{stage}", first, other, factor)
            scaled = product(m, other, factor, None, "scaled", luts=self.arch.post_luts)
            for stage in range(cycles):
                first, = self._later(m, f"product_{stage}", first)
        if self.arch.slope_offsets:
            whole = is_product | (self.combination == isa.Combination.LATE)
            self._give(m, "number", Mux(is_product, 0, first) + Mux(whole, scaled, 0), Const(1))
            self._give(m, "addend", scaled, ~whole)
        else:
            if product_apart(self.arch):
                self._give(m, "number", first, ~is_product)
                self._give(m, "product", scaled, is_product)
            else:
                self._give(m, "number", Mux(is_product, scaled, first), Const(1))
            self._give(m, "addend", scaled, ~is_product)
        return m

    def _spare(self, cycles):
        """Cycles that are left besides the images, the factors, a product of `cycles` and the
        choice of an output."""
        return self.latency - 2 - 2 * self.arch.activation.floating - cycles

    def _give(self, m, name, value, counts):
        """An output, which its register's reset makes 0 where it does not count."""
        port = getattr(self, name)
        kept = Signal.like(port, name=f"{name}_out", reset_less=True)
        m.d.comb += port.eq(kept)
        with m.If(self.valid & counts):
            m.d.sync += kept.eq(value)
        with m.Else():
            m.d.sync += kept.eq(0)

    @staticmethod
    def _later(m, stage, *values):
        """The values one cycle later."""
        return [register(m, value, f"{stage}_{n}") for n, value in enumerate(values)]


def _image(magnitude, form):
    """The image of a float's magnitude code."""
    mantissa, exponent = magnitude[:form.man], magnitude[form.man:]
    if form.family == "logarithm":
        significand = Array(Const(constant, form.table_bits + 1) for constant in form.table)
        return (significand[mantissa] & magnitude.any().replicate(form.table_bits + 1)) << exponent
    if form.hidden_at_zero:
        return (mantissa + (magnitude.any() << form.man)) << exponent
    normal = exponent != 0
    # The least exponents, 0 and 1, weigh the same: the leading one is all that differs.
    return (mantissa + (normal << form.man)) << (exponent - normal)[:form.exp]


def _signed(magnitude, negative):
    return Mux(negative, -magnitude, Const(0, signed(2)) + magnitude)
