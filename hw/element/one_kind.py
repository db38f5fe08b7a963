"""An element that multiplies numbers and signs, as one that multiplies the one or the other alone:
for proofs, which know one kind of operands."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Value
from systolith.hw.formats import Bipolar

from .arithmetic import Arithmetic, Operands

__all__ = ["OneKind"]


class OneKind(Arithmetic):
    """The circuit of an arithmetic with `signs`, whose codes are numbers, or signs, in every cycle.

    Where they are signs, each bit of a code is a lane of bipolar numbers.

    Parameters
    ----------
    inner : Arithmetic
        With `signs`.
    are_signs : bool
    """

    def __init__(self, inner: Arithmetic, are_signs: bool) -> None:
        self._inner, self._are_signs = inner, are_signs
        self.most_stages, self.fast_stages = inner.most_stages, inner.fast_stages
        forms, lanes, terms = (inner.activation, inner.weight), inner.lanes, inner.terms
        if are_signs:
            lanes, terms = lanes * inner.activation.width, terms * inner.activation.width
            forms = Bipolar(1), Bipolar(1)
        super().__init__(*forms, lanes, terms, structure=inner.structure, stages=inner.stages,
                         columns=inner.columns)
        self.across = inner.across
        self.activation_bits, self.weight_bits = inner.activation_bits, inner.weight_bits
        self.sum_bits = self.psum_bits = inner.psum_bits

    def _marked(self, codes):
        return Cat(codes, Const(self._are_signs, 1))

    def decode_activation(self, m: Module, codes: Value) -> Value:
        return self._inner.decode_activation(m, self._marked(codes))

    def decode_weight(self, m: Module, codes: Value) -> Value:
        return self._inner.decode_weight(m, self._marked(codes))

    def decode_weights(self, m: Module, codes: Sequence[Value]) -> list[Value]:
        return self._inner.decode_weights(m, list(map(self._marked, codes)))

    def accumulate(self, m: Module, operands: Operands, psum: Value) -> Value:
        return self._inner.accumulate(m, operands, psum)

    def accumulate_columns(self, m: Module, operands: Sequence[Operands],
                           psums: Sequence[Value]) -> list[Value]:
        return self._inner.accumulate_columns(m, operands, psums)

    def head(self, rows: int, signs: bool = False) -> int:
        return self._inner.head(rows, self._are_signs)

    def total(self, psum: Value, rows: int) -> Value:
        return self._inner.total(psum, rows)
