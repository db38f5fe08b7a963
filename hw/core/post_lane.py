"""Requantization of one channel: bias, multiplier, rounding, the output format, the clip."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.numbers import SHIFT_BITS
from systolith.hw.spec.timing import (
    few_stages,
    lane_choice,
    lane_limit_bits,
    lane_number_bits,
    post_lane_latency,
    product_latency,
)

from .operand_lane import product_apart, turn_shapes
from .products import product, register
from .rounding import nearest_float, nearest_integer

__all__ = ["PostLane"]

class PostLane(wiring.Component):
    """One accumulator to one result; a new one every cycle, `latency` cycles later.

    The arithmetic is the numerics page's: s = accumulator + bias, p = s * multiplier + addend,
    rounded at p / 2**shift to the nearest integer or to the nearest float of that many smallest
    subnormals. Bipolar results are the sign of s; the shift, which they have no use for, says by
    its lowest bit that a window's smallest result is wanted. On leaky chips sums s below zero have
    a multiplier, an addend, both with a sign, and a shift of their own; with offsets, one is added
    to p / 2**shift before it is rounded.

    A result that is combined with an operand comes a second time (`again`), as the number and the
    addend that `OperandLane` has made of it; multiplier, shift and ties are then the instruction's.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    accumulator : In(signed(arch.accumulator_bits))
        0 in a second turn.
    counts : In(1), more : In(1)
        The accumulator is one that was read. `more`: instead of the bias, what s was for the one
        before it is added; s wraps around.
    parameters : In(arch.parameter_bits)
        From bit 0 up: bias, multiplier, shift, addend, ties (integers); on leaky chips multiplier,
        shift and addend for sums below zero; an offset. Addends are the highest bits of numbers of
        `multiplier_bits` bits, ties are those of `rounding.nearest`. 0 in a second turn, but for
        the slope below zero and the offset where that turn is `bent`.
    again, number, product, addend, gain, gain_shift, gain_ties : In
        Only on chips with operands: a second turn; what `OperandLane` gives, 0 in a first turn; the
        factor, the shift and the ties.
    bent : In(1), coarse : In(1)
        Only on chips with offsets: slopes below zero and offsets are those of this turn; the unit
        of offsets is that of first results, see `Arch.offset_unit`.
    zero_point, low, high : In
        What is added to an integer, `late[0]` cycles before the result comes, and its limits before
        that is added, `late[1]` cycles before, as ordered integers; of integers all from
        -2**rounded_bits to 2**rounded_bits - 1.
    ordered : Out(signed(arch.first_bits))
        The result as an ordered integer: integers' value, floats' sign and magnitude, 0 or 1.
    raw_out : Out(signed(arch.accumulator_bits + 1))
        s itself, one cycle after the accumulator.
    least : Out(1)
        Along with bipolar results, and on no other chips: 1 where the shift is odd.
    """

    def __init__(self, *, arch: Arch) -> None:
        self.arch = arch
        operands = {
            "again": In(1), **{name: In(shape) for name, shape in turn_shapes(arch).items()},
            "gain": In(signed(arch.gain_bits)), "gain_shift": In(SHIFT_BITS), "gain_ties": In(2),
        } if arch.operand_depth else {}
        bent = {"bent": In(1), "coarse": In(1)} if arch.slope_offsets else {}
        super().__init__({
            "accumulator": In(signed(arch.accumulator_bits)), "counts": In(1), "more": In(1),
            "parameters": In(arch.parameter_bits), **operands, **bent,
            "zero_point": In(signed(arch.rounded_bits + 1)),
            "low": In(signed(lane_limit_bits(arch))), "high": In(signed(lane_limit_bits(arch))),
            "ordered": Out(signed(arch.first_bits)),
            "raw_out": Out(signed(arch.accumulator_bits + 1)),
            **({"least": Out(1)} if arch.activation.binary else {}),
        })

    @property
    def late(self) -> tuple[int, int]:
        """Cycles from the zero point and from the limits to the result that they are for."""
        return 1, 1 if few_stages(self.arch) else 2

    @property
    def latency(self) -> int:
        """Cycles from accumulator and parameters to the results."""
        return post_lane_latency(self.arch)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        arch, form = self.arch, self.arch.activation
        fields = data.View(_parameters(arch), self.parameters)
        number = self._elaborate_sum(m, fields.bias)
        m.d.comb += self.raw_out.eq(number)
        if form.binary:
            zero = register(m, fields.multiplier == 0, "zero")
            m.d.sync += [self.ordered.eq(~number[-1] | zero),
                         self.least.eq(register(m, fields.shift[0], "least_1"))]
            return m

        scaled, shift, ties, offset = self._elaborate_product(m, fields, number)
        m.d.comb += self.ordered.eq(
            nearest_float(m, scaled, shift, form, self.low, self.high) if form.floating else
            nearest_integer(m, scaled, shift, limit=arch.rounded_bits, ties=ties, offset=offset,
                            zero_point=self.zero_point, low=self.low, high=self.high,
                            luts=self.arch.post_luts, few=few_stages(self.arch)))
        return m

    def _elaborate_sum(self, m, bias):
        """s, or the number of a second turn, one cycle later."""
        bits = self.arch.accumulator_bits + 1
        total = Signal(signed(lane_number_bits(self.arch)), reset_less=True)
        if not self.arch.operand_depth:
            m.d.sync += total.eq(self.accumulator + Mux(self.more, total, bias))
            return total
        # A window's sum must outlast the turns of other results between its words.
        window = Signal(signed(bits), reset_less=True)
        number = self.number | self.product if product_apart(self.arch) else self.number
        summed = self.accumulator + Mux(self.more, window, bias | number)
        with m.If(self.counts):
            m.d.sync += window.eq(summed)
        if len(total) == bits:
            m.d.sync += total.eq(summed)
            return total
        m.d.sync += total.eq(summed)
        again = register(m, self.again, "again_sum")
        return Mux(again, total, total[:bits].as_signed())

    def _elaborate_product(self, m, fields, number):
        """p, and with it the shift, the ties and, two cycles later, the offset (None: there is
        none)."""
        arch = self.arch
        items = {"factor": Cat(fields.multiplier, Const(0, 1)).as_signed(), "shift": fields.shift}
        if arch.tie_bits:
            items["ties"] = fields.ties
        lost = Const(0, arch.multiplier_bits - arch.addend_bits)
        if arch.addend_bits:
            items["addend"] = Cat(lost, fields.addend, Const(0, 1)).as_signed()
        if arch.operand_depth:
            items["operand"] = self.addend
        if arch.slope_offsets:
            items["offset"] = self._elaborate_offset(fields.offset)
        slopes = {}
        if arch.leaky:
            slopes = {"factor": fields.below_multiplier, "shift": fields.below_shift}
            if arch.addend_bits:
                slopes["addend"] = Cat(lost, fields.below_addend).as_signed()
        if lane_choice(arch):
            items, slopes = ({name: register(m, item, f"{kind}{name}_1") for name, item in
                              some.items()} for kind, some in (("", items), ("below_", slopes)))
        # Three choices in one LUT of six inputs: a second turn's, a slope's, or the plain one.
        operand = items.pop("operand", None)
        if operand is not None:
            again = register(m, self.again, "again_1") if lane_choice(arch) else self.again
            turn = {"factor": self.gain, "shift": self.gain_shift, "ties": self.gain_ties}
            items |= {name: Mux(again, other, items[name]) for name, other in turn.items()
                      if name in items}
        if arch.leaky:
            straight = (register(m, ~self.bent, "straight") if arch.slope_offsets else
                        again if arch.operand_depth else Const(0))
            below = (number < 0) & ~straight
            items |= {name: Mux(below, slope, items[name]) for name, slope in slopes.items()}
        if lane_choice(arch):
            number = register(m, number, "number_chosen")
        own = items.pop("addend", None)
        items = {name: register(m, item, f"{name}_chosen") for name, item in items.items()}
        addend = self._elaborate_addend(m, operand, own)
        factor = items.pop("factor")
        cycles = product_latency(arch, len(number), len(factor), addend is not None)
        for cycle in range(cycles):
            items = {name: register(m, item, f"{name}_product_{cycle}")
                     for name, item in items.items()}
        scaled = product(m, number, factor, addend, "scaled", luts=arch.post_luts)
        offset = items.get("offset")
        if offset is not None:
            for cycle in range(1 if few_stages(arch) else 3):
                offset = register(m, offset, f"offset_shift_{cycle}")
        return scaled, items["shift"], items.get("ties", Const(0, 2)), offset

    def _elaborate_addend(self, m, operand, own):
        """A turn's addend, one cycle later: an operand's or the turn's own, of which one is 0 (both
        are None where there are none)."""
        some = operand if own is None else own
        if operand is None or own is None:
            return some if some is None else register(m, some, "addend_chosen")
        # an own addend is the shorter one: its sign sets the register's upper bits
        chosen, low = Signal.like(operand, name="addend_chosen", reset_less=True), len(own) - 1
        m.d.sync += chosen[:low].eq(operand[:low] | own[:low])
        with m.If(own[-1]):
            m.d.sync += chosen[low:].eq(-1)
        with m.Else():
            m.d.sync += chosen[low:].eq(operand[low:])
        return chosen

    def _elaborate_offset(self, offset):
        """The offset of this turn, in 2**-OFFSET_FRACTION of its result's steps."""
        place = self.arch.offset_unit(first=True).bit_length() - 1
        if place:
            wide = Cat(Const(0, place), offset).as_signed()
            offset = Mux(self.coarse, wide, offset)
        return Mux(self.bent, offset, 0)


def _parameters(arch):
    """Layout of one channel's parameters."""
    return data.StructLayout({name: signed(bits) if sign else bits
                              for name, (bits, sign) in arch.parameters.items() if bits})
