"""Weight pools: one code stands for a vector of 8 weights, activations come bit by bit.

A word of activations is a plane: one bit of each of 8 activations for each code. An element adds
the dot product of the plane with its pool vector, 8 weights that the bits let pass; the planes of
an activation, highest first, are put together below the column by doubling (`PlaneAccumulator`).
So a layer takes as many cycles for a pixel as its activations have bits (Li and Gupta, Bit-serial
weight pools, 2022).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import ArrayLike
from systolith.hw.formats import Format, Int
from systolith.hw.formats.blocks import WeightPool

from .arithmetic import Arithmetic, Operands, tree_sum

__all__ = ["Plane", "PlaneAccumulator", "PoolArithmetic"]


@dataclass(frozen=True, repr=True)
class Plane(Int):
    """One bit of each of 8 activations; its products are with the vectors of a `WeightPool`."""

    bits: int = WeightPool.LENGTH
    signed: bool = False

    family = "plane"

    @property
    def name(self) -> str:
        return f"plane{self.bits}"

    def product_image(self, weight: Any, codes: ArrayLike,
                      weight_codes: ArrayLike) -> np.ndarray:
        """The sums of the weights whose bits are 1."""
        return weight.partial_sums()[weight_codes, self._codes(codes)]

    def product_bound(self, weight: Any) -> int:
        return int(abs(weight.partial_sums()).max())


class PoolArithmetic(Arithmetic):
    """Planes of activations with vectors of a pool.

    The pool is a constant. With `at_edge` its vectors are looked up once at the column's top, and
    elements keep weights; else elements keep codes and look up their vectors themselves, which
    takes fewer flip-flops and more logic.

    Parameters
    ----------
    activation : Plane
    weight : WeightPool
    lanes : int
        Vectors of an element.
    terms : int
        Vectors that a partial sum must hold.
    at_edge : bool
    options
        See `Arithmetic`; with two stages dot products have a register.
    """

    fast_stages = 2
    most_stages = 2

    def __init__(self, activation: Format, weight: Any, lanes: int, terms: int, *,
                 at_edge: bool = True, **options: Any) -> None:
        super().__init__(activation, weight, lanes, terms, **options)
        self.at_edge = at_edge
        self.activation_bits = lanes * activation.width
        self.weight_bits = lanes * (weight.LENGTH * weight.weight.width if at_edge
                                    else weight.width)

    def decode_activation(self, m: Module, codes: Value) -> Value:
        return Value.cast(codes)

    def decode_weight(self, m: Module, codes: Value) -> Value:
        if not self.at_edge:
            return Value.cast(codes)
        return Cat(self._looked_up(Value.cast(codes).word_select(lane, self.weight.width))
                   for lane in range(self.lanes))

    def _looked_up(self, code):
        """The weights of a code, side by side."""
        fmt = self.weight.weight
        mask = (1 << fmt.width) - 1
        rows = [sum((weight & mask) << fmt.width * n for n, weight in enumerate(vector))
                for vector in self.weight.vectors]
        return Array(Const(row, fmt.width * self.weight.LENGTH) for row in rows)[code]

    def accumulate(self, m: Module, operands: Operands, psum: Value) -> Value:
        fmt, length = self.weight.weight, self.weight.LENGTH
        shape = signed(fmt.width) if fmt.signed else unsigned(fmt.width)
        planes, codes = Value.cast(operands.a(0)), Value.cast(operands.w(0))
        terms = []
        for lane in range(self.lanes):
            weights = codes.word_select(lane, self.weight_bits // self.lanes)
            if not self.at_edge:
                weights = self._looked_up(weights)
            looked_up = Signal(length * fmt.width, name=f"weights_{lane}")
            m.d.comb += looked_up.eq(weights)
            for n in range(length):
                term = Signal(shape, name=f"term_{lane}_{n}")
                m.d.comb += term.eq(looked_up.word_select(n, fmt.width)
                                    & planes[lane * length + n].replicate(fmt.width))
                terms.append(term)
        dot = tree_sum(terms)
        if self.stages > 1:
            dot = operands.register(dot, "dot")
        return psum + dot


class PlaneAccumulator(wiring.Component):
    """Sums of integers from sums of their planes, highest plane first: total = 2 * total + sum.

    Parameters
    ----------
    sum_bits : int
        Width of a plane's sum.
    activation_bits : int
        The most planes that there are.

    Members
    -------
    sum : In(signed(sum_bits))
    valid : In(1)
        A plane's sum comes.
    first : In(1)
        It is the highest plane of a sum: it overwrites the total.
    negative : In(1)
        The plane counts negative: the highest one of signed activations.
    total : Out(signed(sum_bits + activation_bits))
        From the next cycle on.
    """

    def __init__(self, sum_bits: int, activation_bits: int) -> None:
        super().__init__({
            "sum": In(signed(sum_bits)), "valid": In(1), "first": In(1), "negative": In(1),
            "total": Out(signed(sum_bits + activation_bits)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # -x is ~x + 1.
        plane = Signal(self.sum.shape())
        m.d.comb += plane.eq(self.sum ^ self.negative.replicate(len(plane)))
        with m.If(self.valid):
            m.d.sync += self.total.eq(
                Mux(self.first, 0, self.total << 1) + plane + self.negative)
        return m
