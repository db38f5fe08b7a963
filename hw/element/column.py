"""Processing elements below each other, with the skew of their operands: a dot product a cycle."""

from amaranth.hdl import Cat, Const, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .arithmetic import Arithmetic
from .element import ProcessingElement

__all__ = ["Column"]


class Column(wiring.Component):
    """Elements below each other; a word of all rows' codes meets another of weights.

    Parameters
    ----------
    rules : Arithmetic
    rows : int

    Members
    -------
    a, w : In
        Codes of all rows and their lanes, row 0 and lane 0 lowest; any number each cycle.
    psum, total : Out
        The partial sum that leaves the last row, and the column's sum that it stands for; `latency`
        cycles after the codes.
    """

    def __init__(self, rules: Arithmetic, rows: int) -> None:
        self.rules = rules
        self.rows = rows
        self.latency = rules.stages + rows      # of the sum, from the vector with the codes
        super().__init__({
            "a": In(rows * rules.lanes * rules.activation.width),
            "w": In(rows * rules.lanes * rules.weight.width),
            "psum": Out(signed(rules.psum_bits)), "total": Out(signed(rules.sum_bits)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        psum = Const(self.rules.head(self.rows), signed(self.rules.psum_bits))
        for row in range(self.rows):
            m.submodules[f"row{row}"] = element = ProcessingElement(self.rules, shadow=False)
            codes = [port.word_select(row, len(port) // self.rows) for port in (self.a, self.w)]
            value = Cat(self.rules.decode_activation(m, codes[0]),
                        self.rules.decode_weight(m, codes[1]))
            for later in range(row):
                previous, value = value, Signal(len(value), name=f"row{row}_{later}")
                m.d.sync += value.eq(previous)
            m.d.comb += [Cat(element.a_in, element.w_in).eq(value), element.swap_in.eq(1),
                         element.psum_in.eq(psum)]
            psum = element.psum_out
        m.d.comb += [self.psum.eq(psum), self.total.eq(self.rules.total(psum, self.rows))]
        return m
