"""What stands below the elements of a column whose weights are in blocks: the block's scale.

It is one more row of the array. Its word of the weights' bus, the one after that of the last row,
holds the scale's code, and the pixel that is the first to meet the new weights meets the new scale.
"""

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.formats import BlockScale
from systolith.hw.spec.structures import Structure

__all__ = ["BlockScaleCell", "scaled_bits"]


def scaled_bits(scale: BlockScale, sum_bits: int) -> int:
    """Bits of a sum of `sum_bits` bits times the largest scale."""
    return sum_bits + (scale.largest - 1).bit_length()


class BlockScaleCell(wiring.Component):
    """A column's sums times the scale of the block of weights that they come from: exact integers.

    Scales with a mantissa of three bits multiply by 8 to 15 with two additions: 8 + m is 8, 12 or
    16 and one of -2, -1, 0, 1. With one bit of mantissa, LUTs add 0, 1, 2 or 4 sums to two: what
    is left are shifts by even numbers of places. Other widths take an addend for each bit. A DSP
    block multiplies by the whole factor.

    Parameters
    ----------
    scale : BlockScale
    sum_bits, bits : int
        Bits of a sum, and of a sum times the largest scale (`scaled_bits`).
    structure : Structure
        What it is built of; DSP blocks where scales have a mantissa.

    Members
    -------
    swap : In(1)
        In the cycle before a sum comes: from that one on `code` counts.
    code : In(scale.width)
    sum : In(signed(sum_bits))
    o : Out(signed(bits))
        The sum times the scale's factor, one cycle later, two where scales have a mantissa.
    """

    def __init__(self, *, scale: BlockScale, sum_bits: int, bits: int,
                 structure: Structure = Structure.LUT4) -> None:
        self.scale = scale
        self.structure = Structure(structure)
        super().__init__({"swap": In(1), "code": In(scale.width), "sum": In(signed(sum_bits)),
                          "o": Out(signed(bits))})

    @property
    def stages(self) -> int:
        """Cycles from a sum to its product."""
        return 1 + (self.scale.man > 0)

    def expected(self, sums: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """What comes out for sums and codes, by the definition of `BlockScale`: int64 array."""
        return np.asarray(sums, np.int64) * self.scale.factors[codes]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        man = self.scale.man
        if not man:
            self._shifted(m, self.sum, self._held(m, self.code, "places"))
        elif self.structure.is_dsp:
            self._in_a_block(m)
        elif man == 1 and self.structure.is_lut:
            self._in_pairs(m)
        elif man == 3:
            self._in_two_digits(m)
        else:
            code = self._held(m, self.code, "code")
            product = sum((Mux(code[n], self.sum << n, 0) for n in range(man)), self.sum << man)
            self._registered(m, product, code[man:])
        return m

    def _held(self, m, value, name):
        """`value` as it was at the last swap."""
        held = Signal(len(value), name=name, reset_less=True)
        with m.If(self.swap):
            m.d.sync += held.eq(value)
        return held

    def _registered(self, m, product, places):
        """The second cycle: `product`, shifted as the scale said in the first one."""
        before = Signal(signed(len(self.sum) + self.scale.man + 1), name="product",
                        reset_less=True)
        later = Signal(len(places), name="later", reset_less=True)
        m.d.sync += [before.eq(product), later.eq(places)]
        self._shifted(m, before, later)

    def _shifted(self, m, number, places):
        shifted = Signal(len(self.o), name="shifted", reset_less=True)
        m.d.sync += shifted.eq(number << places)
        m.d.comb += self.o.eq(shifted)

    def _in_a_block(self, m):
        man, code = self.scale.man, self.code
        factor = self._held(m, (Cat(code[:man], Const(1, 1)) << code[man:])[
            :self.scale.largest.bit_length()], "factor")
        first, second = (Signal(signed(len(self.o)), name=name, reset_less=True)
                         for name in ("product", "scaled"))
        m.d.sync += [first.eq(self.sum * Cat(factor, Const(0, 1)).as_signed()), second.eq(first)]
        m.d.comb += self.o.eq(second)

    def _in_pairs(self, m):
        """One bit of mantissa, and the lowest place: two sums and 0, 1, 2 or 4 more."""
        code, total = self._held(m, self.code, "code"), self.sum
        more = Signal(signed(len(total) + 2), name="more")
        m.d.comb += more.eq(Mux(code[1], Mux(code[0], total << 2, total << 1),
                                Mux(code[0], total, 0)))
        product = Signal(signed(len(total) + 3), name="product", reset_less=True)
        later = Signal(len(code) - 2, name="later", reset_less=True)
        m.d.sync += [product.eq(more + (total << 1)), later.eq(code[2:])]
        self._shifted(m, product, Cat(Const(0, 1), later))

    def _in_two_digits(self, m):
        """Three bits of mantissa: 8 + m = 4 * (2 + high) + low, high from 0 to 2, low from -2."""
        total, code = self.sum, self.code
        high = self._held(m, (code[2] + code[1])[:2], "high")
        low = self._held(m, code[:2], "low")
        size = len(total)
        more, coarse = (Signal(signed(size + 2), name=name) for name in ("more", "coarse"))
        fine = Signal(signed(size + 1), name="fine")
        less: Value = low[1]
        m.d.comb += [
            more.eq(Mux(high[1], total << 1, Mux(high[0], total, 0))),
            coarse.eq(more + (total << 1)),
            fine.eq(Mux(less, Mux(low[0], ~total, ~(total << 1)), Mux(low[0], total, 0)))]
        # ~x + 1 is -x: the 1 is the carry into one addition.
        product = (Cat(less, fine).as_signed() + Cat(less, Const(0, 2), coarse).as_signed()) >> 1
        self._registered(m, product, self._held(m, code[3:], "places"))
