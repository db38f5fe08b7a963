"""The processing element: one multiply-add of L lanes, with its weights held in place."""

from itertools import product
from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.formats import Format
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.rules import ArchError

from .arithmetic import Arithmetic, Operands
from .floats import FloatArithmetic
from .ints import IntArithmetic
from .logs import LnsArithmetic
from .pools import PoolArithmetic
from .xnor import XnorArithmetic

__all__ = ["FAMILIES", "ProcessingElement", "arithmetic", "arithmetic_of"]

_SHIFTED = ("float", "powers", "integer")
#: (family of the activations' format, of the weights'): how they are multiplied.
FAMILIES = {
    **{pair: FloatArithmetic for pair in product(_SHIFTED, _SHIFTED)},
    ("integer", "integer"): IntArithmetic,
    ("bipolar", "bipolar"): XnorArithmetic, ("integer", "bipolar"): XnorArithmetic,
    ("logarithm", "logarithm"): LnsArithmetic,
    ("plane", "pool"): PoolArithmetic,
}


def arithmetic(activation: Format, weight: Format, lanes: int, terms: int,
               **options: Any) -> Arithmetic:
    """The `Arithmetic` of two formats of one family; see there for the parameters.

    Raises ValueError for formats that have no products here.
    """
    family = FAMILIES.get((activation.family, weight.family))
    if family is not None:
        return family(activation, weight, lanes, terms, **options)
    raise ArchError("activation", "and weight must be of one family (float, int and sums of "
                                  f"powers; bipolar; lns), not {activation} and {weight}")


def arithmetic_of(arch: Arch) -> Arithmetic:
    """The `Arithmetic` of a chip's processing elements."""
    signs = {name: True for name, there in (("signs", arch.packed_signs),
                                            ("halves", arch.packed_halves)) if there}
    return arithmetic(arch.activation, arch.weight, arch.lanes, arch.pass_terms,
                      structure=arch.pe_structure, stages=arch.stages, columns=arch.shared_columns,
                      **signs)


class ProcessingElement(wiring.Component):
    """A weight-stationary processing element, or several side by side; nothing in it stalls.

    Activations and flags travel right, partial sums down, one element a cycle; so `a_out`,
    `swap_out`, `load_out` follow their inputs after one cycle. Elements side by side, as many as
    the arithmetic has columns, share one activation register and its flags.

    With `shadow`, weights are double-buffered: `load_in` takes `w_in`, which all elements of a
    column see, into the shadow weights, while the active ones compute. `swap_in` makes the shadow
    weights active; the activation that comes in with it is the first to meet them. In a cycle
    with both, the shadow weights of before become active. With more than one pipeline stage the
    weights of a stage become active when that activation reaches it: the shadow weights must stay
    until `arithmetic.stages` - 1 cycles after the swap.

    Without `shadow`, `swap_in` makes `w_in` of the same cycle active. That is enough inside an
    array, where the words of a column's bus follow each other by one cycle, as its rows do.

    `psum_out` is `psum_in` plus the dot product with the activation that came in `stages` cycles
    before `psum_in`, plus a constant (`Arithmetic.head`); latency 1 + stages cycles from `a_in`,
    one from `psum_in`. No register has a reset.

    With `from_above`, `above_in` makes the activation register take the low bits of `w_in` instead
    of `a_in`: decoded activations come by the column's bus then.

    Parameters
    ----------
    arithmetic : Arithmetic
        With several columns, the ports w and psum are arrays.
    shadow : bool
        Whether weights are double-buffered; else there are no load_in and load_out.
    from_above : bool
        Whether there is `above_in`; not with several columns.

    Attributes
    ----------
    a_in, a_out : Signal(arithmetic.activation_bits)
    w_in : Signal(arithmetic.weight_bits), or of activation_bits if those are more and `from_above`
    psum_in, psum_out : Signal(signed(arithmetic.psum_bits))
    swap_in, swap_out, load_in, load_out, above_in : Signal(1)
    """

    def __init__(self, arithmetic: Arithmetic, *, shadow: bool = True,
                 from_above: bool = False) -> None:
        self.arithmetic = arithmetic
        self.shadow = shadow
        self.from_above = from_above
        weights, psum = arithmetic.weight_bits, signed(arithmetic.psum_bits)
        if from_above:
            weights = max(weights, arithmetic.activation_bits)
        columns = arithmetic.columns
        if columns > 1:
            weights = data.ArrayLayout(weights, columns)
            psum = data.ArrayLayout(psum, columns)
        flags = {"load_in": In(1), "load_out": Out(1)} if shadow else {}
        if from_above:
            flags["above_in"] = In(1)
        super().__init__({
            "a_in": In(arithmetic.activation_bits), "a_out": Out(arithmetic.activation_bits),
            "swap_in": In(1), "swap_out": Out(1), **flags,
            "w_in": In(weights), "psum_in": In(psum), "psum_out": Out(psum),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        a = Signal.like(self.a_out, reset_less=True)
        swap = Signal(reset_less=True)
        a_in = Mux(self.above_in, self.w_in, self.a_in) if self.from_above else self.a_in
        m.d.sync += [a.eq(a_in), swap.eq(self.swap_in)]
        m.d.comb += [self.a_out.eq(a), self.swap_out.eq(swap)]
        if self.shadow:
            load = Signal(reset_less=True)
            m.d.sync += load.eq(self.load_in)
            m.d.comb += self.load_out.eq(load)
        alone = self.arithmetic.columns == 1
        w_in, psum_in, psum_out = ([port] if alone else list(port)
                                   for port in (self.w_in, self.psum_in, self.psum_out))
        prefixes = [""] if alone else [f"column{n}_" for n in range(len(w_in))]
        operands = [self._operands(m, a, *column) for column in zip(w_in, prefixes, strict=True)]
        sums = self.arithmetic.accumulate_columns(m, operands, psum_in)
        for prefix, value, out in zip(prefixes, sums, psum_out, strict=True):
            psum = Signal(signed(self.arithmetic.psum_bits), name=f"{prefix}psum", reset_less=True)
            m.d.sync += psum.eq(value)
            m.d.comb += out.eq(psum)
        return m

    def _operands(self, m, a, w_in, prefix):
        if self.shadow:
            weight = Signal(self.arithmetic.weight_bits, name=f"{prefix}w_shadow", reset_less=True)
            with m.If(self.load_in):
                m.d.sync += weight.eq(w_in)
        else:
            weight = w_in[:self.arithmetic.weight_bits]
        return Operands(m, a, weight, self.swap_in, stays=self.shadow, prefix=prefix)
