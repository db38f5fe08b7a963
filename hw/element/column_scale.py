"""Block scaling at a column's bottom: the exact sum of one block times the scales of its operands.

The elements of a column know nothing of scales. Once for each block its sum is multiplied by the
scales of the two blocks that met, and added to a fixed-point window.
"""

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.formats import Float

__all__ = ["BlockAccumulator", "ColumnScale"]


class ColumnScale(wiring.Component):
    """sum * activation scale * weight scale in a window; combinational.

    Scales are floats without sign: their mantissas multiply by shifting and adding, 1, 1.5 or 2.25
    with one bit each (MLS), 1 without (MX); their exponents shift. Bits below the window are cut,
    which rounds toward minus infinity; what is beyond it saturates. Codes of NaN must not come in.

    Parameters
    ----------
    sum_bits, sum_exponent : int
        A column's sum is an image of so many bits times 2**sum_exponent.
    activation_scale, weight_scale : Float
        Without sign; raises ValueError otherwise.
    exponent, bits : int
        The window: its lowest bit weighs 2**exponent.

    Members
    -------
    sum : In(signed(sum_bits))
    activation_code, weight_code : In
        Codes of the scales.
    o : Out(signed(bits))
    """

    def __init__(self, *, sum_bits: int, sum_exponent: int, activation_scale: Float,
                 weight_scale: Float, exponent: int, bits: int) -> None:
        for scale in (activation_scale, weight_scale):
            if scale.signed or scale.radix != 2:
                raise ValueError(f"scales must be floats without sign of radix 2, not {scale!r}")
        self.sum_exponent = sum_exponent
        self.activation_scale = activation_scale
        self.weight_scale = weight_scale
        self.exponent = exponent
        super().__init__({
            "sum": In(signed(sum_bits)), "activation_code": In(activation_scale.width),
            "weight_code": In(weight_scale.width), "o": Out(signed(bits)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = len(self.o)
        term, left = self.sum, Const(0, 1)
        places = self.sum_exponent - self.exponent
        for name, scale, code in (("activation", self.activation_scale, self.activation_code),
                                  ("weight", self.weight_scale, self.weight_code)):
            product = Signal(signed(len(term) + scale.man + 1), name=f"{name}_product")
            m.d.comb += product.eq(sum((Mux(code[n], term << n, 0) for n in range(scale.man)),
                                       term << scale.man))
            term = product
            left = left + code[scale.man:]
            places += scale.exponent

        # One shift to the right, from so far left that nothing can be left of it in the window.
        right = Signal(range(len(term) + bits + 1))
        distance = bits - places - left
        m.d.comb += right.eq(Mux(distance < 0, 0, Mux(distance > len(term) + bits,
                                                      len(term) + bits, distance)))
        shifted = Signal(signed(len(term) + bits))
        m.d.comb += shifted.eq((term << bits) >> right)
        m.d.comb += self.o.eq(_saturated(shifted, bits))
        return m


class BlockAccumulator(wiring.Component):
    """The sum of scaled blocks in a window, saturating with every block, in their order.

    Parameters
    ----------
    scale : ColumnScale
        Says how sums are scaled, and the window.

    Members
    -------
    sum, activation_code, weight_code : In
        A block's sum and the codes of its scales, as `ColumnScale` takes them.
    valid, first : In(1)
        A block's sum comes; the window is set to it instead of adding it.
    total : Out(signed(bits))
        The window, from the next cycle on.
    """

    def __init__(self, scale: ColumnScale) -> None:
        self.scale = scale
        super().__init__({
            "sum": In(scale.sum.shape()), "activation_code": In(len(scale.activation_code)),
            "weight_code": In(len(scale.weight_code)), "valid": In(1), "first": In(1),
            "total": Out(scale.o.shape()),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.scale = scale = self.scale
        m.d.comb += [scale.sum.eq(self.sum), scale.activation_code.eq(self.activation_code),
                     scale.weight_code.eq(self.weight_code)]
        total = Signal(signed(len(self.total) + 1))
        m.d.comb += total.eq(Mux(self.first, 0, self.total) + scale.o)
        with m.If(self.valid):
            m.d.sync += self.total.eq(_saturated(total, len(self.total)))
        return m


def _saturated(value, bits):
    """A signed Value in `bits` bits."""
    largest = (1 << (bits - 1)) - 1
    fits = (value >> (bits - 1)) == value[-1].replicate(len(value)).as_signed()
    return Mux(fits, value[:bits].as_signed(), Mux(value[-1], ~largest, largest))
