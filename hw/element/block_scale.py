"""What stands below the elements of a column whose weights are in blocks: the block's scale.

It is one more row of the array. Its word of the weights' bus, the one after that of the last row,
holds the scale's code, and the pixel that is the first to meet the new weights meets the new scale.
"""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.formats import BlockScale

__all__ = ["BlockScaleCell"]


class BlockScaleCell(wiring.Component):
    """A column's sums times the scale of the block of weights that they come from: exact integers.

    Parameters
    ----------
    scale : BlockScale
    sum_bits, bits : int
        Bits of a sum, and of a sum times the largest scale.

    Members
    -------
    swap : In(1)
        In the cycle before a sum comes: from that one on `code` counts.
    code : In(scale.width)
    sum : In(signed(sum_bits))
    o : Out(signed(bits))
        The sum times the scale's factor, `stages` cycles later.
    """

    def __init__(self, *, scale: BlockScale, sum_bits: int, bits: int) -> None:
        self.scale = scale
        super().__init__({"swap": In(1), "code": In(scale.width), "sum": In(signed(sum_bits)),
                          "o": Out(signed(bits))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        man = self.scale.man
        code = Signal(self.scale.width, reset_less=True)
        with m.If(self.swap):
            m.d.sync += code.eq(self.code)
        total, places = self.sum, code[man:]
        if man:
            # The mantissa: its hidden bit, and one addend for each of its own.
            product = Signal(signed(len(self.sum) + man + 1), reset_less=True)
            later = Signal(len(places), name="places", reset_less=True)
            m.d.sync += [product.eq(sum((Mux(code[n], self.sum << n, 0) for n in range(man)),
                                        self.sum << man)), later.eq(places)]
            total, places = product, later
        shifted = Signal(len(self.o), reset_less=True)
        m.d.sync += shifted.eq(total << places)
        m.d.comb += self.o.eq(shifted)
        return m
