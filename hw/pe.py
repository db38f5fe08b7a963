"""The processing element: one multiply-add of L lanes, with its weights held in place."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .formats import Bipolar, Float, Int
from .pe_float import FloatArithmetic
from .pe_int import IntArithmetic
from .pe_xnor import XnorArithmetic

__all__ = ["ProcessingElement", "arithmetic"]

_FAMILIES = ((Int, IntArithmetic), (Float, FloatArithmetic), (Bipolar, XnorArithmetic))


def arithmetic(activation, weight, lanes, terms):
    """The `Arithmetic` of two formats of one family; see there for the parameters.

    Raises ValueError for formats of different families, and for those that have no products
    here: bipolar formats of more than one bit, floats without a sign.
    """
    for formats, family in _FAMILIES:
        if isinstance(activation, formats) and isinstance(weight, formats):
            return family(activation, weight, lanes, terms)
    raise ValueError("activation and weight must be of one family (float, int, bipolar), "
                     f"not {activation} and {weight}")


class ProcessingElement(wiring.Component):
    """A weight-stationary processing element; nothing in it stalls.

    Activations and flags travel right, weights and partial sums down, one element a cycle; so
    `a_out`, `swap_out`, `load_out` follow their inputs after one cycle.

    Weights are double-buffered: `load_in` takes `w_in` into the shadow weights, which are
    `w_out`, while the active ones compute. `swap_in` makes the shadow weights active; the
    activation that comes in with it is the first to meet them. In a cycle with both, the shadow
    weights of before become active.

    `psum_out` is `psum_in` plus the dot product with the activations that came in one cycle
    before `psum_in`: latency 2 cycles from `a_in`, 1 from `psum_in`. No register has a reset.

    Parameters
    ----------
    activation, weight, lanes, terms
        As in `arithmetic`.

    Attributes
    ----------
    a_in, a_out : Signal(arithmetic.activation_bits)
    w_in, w_out : Signal(arithmetic.weight_bits)
    psum_in, psum_out : Signal(signed(arithmetic.psum_bits))
    swap_in, swap_out, load_in, load_out : Signal(1)
    """

    def __init__(self, *, activation, weight, lanes, terms):
        self.activation = activation
        self.weight = weight
        self.lanes = lanes
        self.terms = terms
        self.arithmetic = arithmetic(activation, weight, lanes, terms)
        super().__init__({
            "a_in": In(self.arithmetic.activation_bits),
            "a_out": Out(self.arithmetic.activation_bits),
            "swap_in": In(1), "swap_out": Out(1),
            "load_in": In(1), "load_out": Out(1),
            "w_in": In(self.arithmetic.weight_bits),
            "w_out": Out(self.arithmetic.weight_bits),
            "psum_in": In(signed(self.arithmetic.psum_bits)),
            "psum_out": Out(signed(self.arithmetic.psum_bits)),
        })

    def elaborate(self, platform):
        m = Module()

        a = Signal.like(self.a_out, reset_less=True)
        swap = Signal(reset_less=True)
        load = Signal(reset_less=True)
        w_shadow = Signal.like(self.w_out, reset_less=True)
        w_active = Signal.like(self.w_out, reset_less=True)
        psum = Signal.like(self.psum_out, reset_less=True)

        m.d.sync += [a.eq(self.a_in), swap.eq(self.swap_in), load.eq(self.load_in)]
        m.d.comb += [self.a_out.eq(a), self.swap_out.eq(swap), self.load_out.eq(load)]

        with m.If(self.load_in):
            m.d.sync += w_shadow.eq(self.w_in)
        with m.If(self.swap_in):
            m.d.sync += w_active.eq(w_shadow)
        m.d.comb += self.w_out.eq(w_shadow)

        m.d.sync += psum.eq(self.arithmetic.add(m, self.psum_in, a, w_active))
        m.d.comb += self.psum_out.eq(psum)
        return m
