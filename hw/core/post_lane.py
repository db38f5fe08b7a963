"""Requantization of one channel: bias, multiplier, rounding, the output format, the clip."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.numbers import MULTIPLIER_BITS, SHIFT_BITS
from systolith.hw.spec.timing import post_lane_latency

from .rounding import clip, nearest, register

__all__ = ["PostLane"]


class PostLane(wiring.Component):
    """One accumulator to one result; a new one every cycle, `latency` cycles later.

    The arithmetic is the numerics page's: s = accumulator + bias, p = s * multiplier + addend,
    rounded at p / 2**shift to the nearest integer or to the nearest float of that many smallest
    subnormals. Bipolar results are the sign of s; the shift, which they have no use for, says by
    its lowest bit that a window's smallest result is wanted. On leaky chips sums s below zero have
    a multiplier, an addend, both with a sign, and a shift of their own.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    accumulator : In(signed(arch.accumulator_bits))
    more : In(1)
        1: instead of the bias, what s was in the cycle before is added; s wraps around.
    parameters : In(arch.parameter_bits)
        From bit 0 up: bias, multiplier, shift, addend, ties (integers); on leaky chips multiplier,
        shift and addend for sums below zero. Addends are the highest bits of numbers of
        MULTIPLIER_BITS bits, ties are those of `rounding.nearest`.
    raw : In(1)
        1: `raw_out` will be used; the multiplier counts as 1, shift and addend as 0.
    zero_point, low, high : In
        The POST instruction's fields; on chips with operands `low` and `high` are as wide as its
        `first_low` and `first_high`. To be held while results are on their way.
    ordered : Out(signed(arch.first_bits))
        The result as an ordered integer: integers' value, floats' sign and magnitude, 0 or 1.
    raw_out : Out(signed(arch.accumulator_bits + 1))
        s itself.
    least : Out(1)
        Along with bipolar results, and on no other chips: 1 where the shift is odd.
    """

    def __init__(self, *, arch: Arch) -> None:
        self.arch = arch
        post = isa.layout(isa.Opcode.POST)
        limits = post["first_low" if arch.operand_depth else "low"].shape
        super().__init__({
            "accumulator": In(signed(arch.accumulator_bits)), "more": In(1),
            "parameters": In(arch.parameter_bits),
            "raw": In(1),
            "zero_point": In(post["zero_point"].shape),
            "low": In(limits), "high": In(limits),
            "ordered": Out(signed(arch.first_bits)),
            "raw_out": Out(signed(arch.accumulator_bits + 1)),
            **({"least": Out(1)} if arch.activation.binary else {}),
        })

    @property
    def latency(self) -> int:
        """Cycles from accumulator and parameters to the results."""
        return post_lane_latency(self.arch)

    def elaborate(self, platform):
        m = Module()
        arch = self.arch
        bits, form = arch.accumulator_bits, arch.activation
        fields = data.View(data.StructLayout({
            "bias": signed(bits), "multiplier": MULTIPLIER_BITS, "shift": SHIFT_BITS,
            **({"addend": arch.addend_bits} if arch.addend_bits else {}),
            **({"ties": arch.tie_bits} if arch.tie_bits else {}),
            **({"below_multiplier": signed(MULTIPLIER_BITS + 1), "below_shift": SHIFT_BITS}
               if arch.leaky else {}),
            **({"below_addend": signed(arch.below_addend_bits)}
               if arch.leaky and arch.addend_bits else {}),
        }), self.parameters)

        total = Signal(signed(bits + 1), reset_less=True)
        m.d.sync += total.eq(self.accumulator + Mux(self.more, total, fields.bias))
        multiplier = register(m, Mux(self.raw, 1, fields.multiplier), "multiplier_1")
        if form.binary:
            m.d.sync += [self.raw_out.eq(total),
                         self.ordered.eq((total >= 0) | (multiplier == 0)),
                         self.least.eq(register(m, fields.shift[0], "least_1"))]
            return m

        shift = register(m, Mux(self.raw, 0, fields.shift), "shift_1")
        addend = (register(m, Mux(self.raw, 0, fields.addend), "addend_1") if arch.addend_bits
                  else Const(0))
        ties = register(m, fields.ties, "ties_1") if arch.tie_bits else Const(0)
        raw, number = register(m, self.raw, "raw_1"), total
        if arch.leaky:
            below = (total < 0) & ~raw

            def choose(name, item):
                other = register(m, fields[f"below_{name}"], f"below_{name}")
                return register(m, Mux(below, other, item), f"{name}_chosen")
            multiplier, shift = choose("multiplier", multiplier), choose("shift", shift)
            addend = choose("addend", addend) if arch.addend_bits else addend
            number, raw = register(m, total, "total_chosen"), register(m, raw, "raw_chosen")
            ties = register(m, ties, "ties_chosen")
        # A second register after the multiplier, for the one inside DSP blocks.
        product = number * multiplier
        for stage in (2, 3):
            product, shift, addend, ties, raw = (
                register(m, item, f"{name}_{stage}") for name, item in
                (("product", product), ("shift", shift), ("addend", addend), ("ties", ties),
                 ("raw", raw)))
        shift, ties, raw = (register(m, item, f"{name}_4") for name, item in
                            (("shift", shift), ("ties", ties), ("raw", raw)))
        lost = Const(0, MULTIPLIER_BITS - arch.addend_bits)
        addend = Cat(lost, addend)
        addend = addend.as_signed() if arch.leaky else addend
        product = register(m, (product + addend)[:len(product)].as_signed()
                           if arch.addend_bits else product, "product_4")

        number, whole = nearest(m, product, shift, form, ties=ties, exact=raw,
                                limit=arch.first_bits, kept=bits + 1)
        value = number if form.floating else number + self.zero_point
        m.d.sync += [self.ordered.eq(clip(value, self.low, self.high)), self.raw_out.eq(whole)]
        return m
