"""An element that multiplies numbers and parts of codes, as one that multiplies the one or the
other alone: for proofs, which know one kind of operands."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Value
from systolith.hw.formats import Bipolar, Format, Int

from .arithmetic import Arithmetic, Operands

__all__ = ["OneKind"]


class OneKind(Arithmetic):
    """The circuit of an arithmetic with `signs` or `halves`, whose codes are numbers, or such
    parts, in every cycle.

    Where they are signs, each bit of a code is a lane of bipolar numbers; where they are halves, a
    code is two lanes of integers, whose products count 2**half.

    Parameters
    ----------
    inner : Arithmetic
        With `signs` or `halves`.
    parts : bool
        Whether codes are parts.
    """

    def __init__(self, inner: Arithmetic, parts: bool) -> None:
        self._inner, self._parts = inner, parts
        self._half = inner.activation.width // 2 if inner.halves and parts else 0
        self.most_stages, self.fast_stages = inner.most_stages, inner.fast_stages
        forms: tuple[Format, Format] = inner.activation, inner.weight
        lanes, terms = inner.lanes, inner.terms
        if self._half:
            lanes, terms, forms = 2 * lanes, 2 * terms, (Int(self._half), Int(self._half))
        elif parts:
            lanes, terms = lanes * inner.activation.width, terms * inner.activation.width
            forms = Bipolar(1), Bipolar(1)
        super().__init__(*forms, lanes, terms, structure=inner.structure, stages=inner.stages,
                         columns=inner.columns)
        self.psum_scale = -self._half
        self.across = inner.across
        self.activation_bits, self.weight_bits = inner.activation_bits, inner.weight_bits
        self.sum_bits = self.psum_bits = inner.psum_bits

    def _marked(self, codes):
        return Cat(codes, Const(self._parts, 1))

    def _turned(self, codes):
        """A weight's halves, of which the upper one goes with the lower one of an activation."""
        half = self._half
        return Cat(codes[half:], codes[:half]) if half else codes

    def decode_activation(self, m: Module, codes: Value) -> Value:
        return self._inner.decode_activation(m, self._marked(codes))

    def decode_weight(self, m: Module, codes: Value) -> Value:
        return self._inner.decode_weight(m, self._marked(self._turned(codes)))

    def decode_weights(self, m: Module, codes: Sequence[Value]) -> list[Value]:
        return self._inner.decode_weights(
            m, [self._marked(self._turned(column)) for column in codes])

    def accumulate(self, m: Module, operands: Operands, psum: Value) -> Value:
        return self._inner.accumulate(m, operands, psum)

    def accumulate_columns(self, m: Module, operands: Sequence[Operands],
                           psums: Sequence[Value]) -> list[Value]:
        return self._inner.accumulate_columns(m, operands, psums)

    def head(self, rows: int, signs: bool = False) -> int:
        return self._inner.head(rows, self._parts and self._inner.signs)

    def total(self, psum: Value, rows: int) -> Value:
        return self._inner.total(psum, rows)[self._half:].as_signed()
