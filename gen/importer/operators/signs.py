"""Signs: comparisons with constants and of two maps, and the choice between two numbers by a
comparison.

A comparison decides equality too: x >= t and x > t differ in the sign of 0. Both are exact
thresholds on the integer sum; of two maps they are the sign of the difference.
"""

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from systolith.gen.importer.binary import moved_below
from systolith.gen.importer.builder import Builder
from systolith.gen.importer.copies import plain
from systolith.gen.importer.nodes import Node
from systolith.gen.importer.rationals import exact, uniform
from systolith.gen.importer.rows import Role, operator
from systolith.gen.importer.target import Target
from systolith.gen.importer.values import HostInput, Value, activation, constant, like, per_channel
from systolith.hw.formats import Bipolar

from .pairs import pair

__all__ = ["Comparison", "as_numbers", "cast"]

#: Less than numbers that networks compare, and still more than 0 after any scaling.
_LITTLE = np.float32(1e-30)


@dataclass
class Comparison:
    """Whether each element of `value` is at least 0; `strict`: more than 0."""
    value: HostInput | Value
    strict: bool

    @property
    def shape(self) -> tuple:
        """The ONNX shape without the batch dimension."""
        return self.value.shape

    def negated(self) -> "Comparison":
        """Where this comparison does not hold: the negated value is more than 0, or at least 0."""
        return Comparison(_negative(self.value), not self.strict)


def _negative(value):
    if isinstance(value, HostInput):
        return value.then("multiply", np.float32(-1))
    low, high = (None if bound is None else -bound for bound in (value.high, value.low))
    pool = value.pool and value.pool.scaled(-np.ones(len(value.gain)))
    return replace(value, gain=-value.gain, offset=-value.offset, low=low, high=high, pool=pool)


def _compared(strict, more):
    """The operator a > b, a >= b (`more`), a < b or a <= b."""
    def compared(builder, node, inputs):
        if all(isinstance(item, Value) for item in inputs):
            sides = [plain(builder, item, node) for item in inputs]
            return Comparison(pair(node, sides if more else sides[::-1], "subtract"), strict)
        first = not isinstance(inputs[0], (HostInput, Value))
        value = activation(inputs[::-1] if first else inputs, node)
        side = constant(inputs[0 if first else 1], node, "one side")
        if isinstance(value, HostInput):
            value = value.then("subtract", side.floats)
        else:
            numbers = per_channel(side.numbers, value, node, "one side")
            value = moved_below(replace(value, nodes=[*value.nodes, node.name]), numbers,
                                strict == (more != first))
        return Comparison(value if more != first else _negative(value), strict)
    return compared


def as_numbers(builder: Builder, node: Node, comparison: Comparison, yes: Fraction,
               no: Fraction) -> Value:
    """The number `yes` where a comparison holds and `no` elsewhere, as a binary tensor. Raises
    UserError at `node` where both are equal."""
    if yes == no:
        node.fail("chooses between two equal numbers, so its result is constant; replace the node "
                  "by that constant")
    if yes < no:
        return as_numbers(builder, node, comparison.negated(), no, yes)
    value, strict = comparison.value, comparison.strict
    if isinstance(value, HostInput):
        if strict:
            value = value.then("subtract", _LITTLE)
        strict = False
    scale = (yes - no) / 2
    if Fraction(float(scale)) != scale:
        scale = Fraction(float(np.float32(scale)))
    target = Target(Bipolar(1), float(scale), 0, 0, 1, strict)
    source = builder.quantize(value, target, node.outputs[0], node)
    tensor = builder.tensors[source]
    ones = np.full(tensor.shape[0], Fraction(1), dtype=object)
    return like(value, Value(source, tuple(value.shape), tensor.shape, ones * target.unit,
                             ones * (yes + no) / 2))


@operator("Where", roles=Role.COMPARE)
def _where(builder, node, inputs):
    if not isinstance(inputs[0], Comparison):
        node.fail("its condition must be a comparison of an activation with a constant, or with "
                  "another activation")
    yes, no = (uniform(constant(item, node, "each of its choices").numbers) for item in inputs[1:])
    if yes is None or no is None:
        node.fail("must choose between two numbers, not between arrays")
    return as_numbers(builder, node, inputs[0], yes, no)


@operator("Not", roles=Role.COMPARE)
def _not(builder, node, inputs):
    if not isinstance(inputs[0], Comparison):
        node.fail("its input must be a comparison of an activation with a constant")
    return inputs[0].negated()


def cast(builder: Builder, node: Node, comparison: Comparison) -> Value:
    """A comparison as the numbers 0 and 1."""
    one = exact(1).item()
    return as_numbers(builder, node, comparison, one, 0 * one)


operator("Greater", roles=Role.COMPARE)(_compared(True, True))
operator("GreaterOrEqual", roles=Role.COMPARE)(_compared(False, True))
operator("Less", roles=Role.COMPARE)(_compared(True, False))
operator("LessOrEqual", roles=Role.COMPARE)(_compared(False, False))
