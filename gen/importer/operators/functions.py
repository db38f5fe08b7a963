"""Functions of one number: operators that work element by element, evaluated for every code.

Whatever is computed element by element from one quantized tensor and constants, quantizers in
between included, is a function of its codes: a `Function`, which ONNX's reference evaluator
computes in float32.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from onnx import TensorProto, defs, helper
from onnx.reference import ReferenceEvaluator
from systolith.gen.importer.builder import Builder
from systolith.gen.importer.codes import Function, ancestors, quantized_function, reals
from systolith.gen.importer.copies import plain
from systolith.gen.importer.nodes import Node
from systolith.gen.importer.rationals import exact, uniform
from systolith.gen.importer.rows import Role, has
from systolith.gen.importer.values import (
    Constant,
    HostInput,
    Inputs,
    Linear,
    Pair,
    QuantizedConstant,
    Symbol,
    Value,
    layout_of,
    like,
)

__all__ = ["combined", "evaluated", "is_sign", "leaky", "of_function", "of_sign"]



def _whole(builder, value, node):
    """The value as a whole tensor, its pooling done."""
    value = plain(builder, value, node)
    if value.slope is not None and not is_sign(builder, value):
        node.fail(f"reads the result of {value.nodes[-1]!r}, whose channels have different slopes, "
                  "before it is quantized; put a quantizer between them")
    if not value.pool:
        return value
    if value.linear is not None:
        node.fail(f"reads a MaxPool of the result of {value.nodes[-1]!r} before it is quantized; "
                  "put a quantizer between them")
    return builder.pooled_codes(value, node)


def evaluated(node: Node, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The result (float32) of a node for the float32 arrays of its inputs, by ONNX's reference
    evaluator. Raises UserError where that fails."""
    names = [f"x{n}" for n in range(len(arrays))]
    part = helper.make_node(node.operator, names, ["y"], **node.attributes)
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape)
              for name, array in zip(names, arrays, strict=True)]
    graph = helper.make_graph([part], "function", inputs, [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[
        helper.make_opsetid("", defs.onnx_opset_version())])
    with np.errstate(all="ignore"):
        try:
            result, = ReferenceEvaluator(model).run(None, dict(zip(names, arrays, strict=True)))
        except Exception as error:
            # The evaluator raises whatever its numpy code meets.
            node.fail(f"cannot be computed: {error}")
    return np.asarray(result, np.float32)


def of_function(builder: Builder, node: Node, inputs: Inputs) -> Value | None:
    """The Function that a node computes from functions of one tensor and constants; None where the
    inputs are no functions of one tensor. Raises UserError."""
    values = [_whole(builder, item, node) for item in inputs if isinstance(item, Value)]
    if all(is_sign(builder, item) for item in values):
        return _of_signs(node, values, inputs)
    if len({(tuple(item.shape), tuple(item.map), layout_of(item).tobytes())
            for item in values}) > 1:
        return None
    lines = [dict(ancestors(builder, value)) for value in values]
    common = [name for name in lines[0] if all(name in line for line in lines)]
    if not common:
        return None
    root, arrays = common[-1], []
    numbers = iter([reals(builder, value, line[root], node)
                    for value, line in zip(values, lines, strict=True)])
    for item in inputs:
        if isinstance(item, Value):
            arrays.append(next(numbers))
        elif isinstance(item, (Constant, QuantizedConstant)):
            array = item.floats.reshape(-1)
            if array.size == 0 or (array != array[0]).any():
                instead = ("put a quantizer before it" if has(
                    node.operator, Role.ARITHMETIC | Role.SLOPE) and any(
                    isinstance(other.linear, Function) for other in values) else "give it one")
                node.fail("is a function of codes and a constant of several numbers, and one is "
                          f"supported; {instead}")
            arrays.append(array[:1])
    value = values[0]
    ones = np.full(value.map[0], exact(1).item(), dtype=object)
    known = builder.functions | builder.rescaled
    nodes = [name for line in lines for tensor in line if tensor != root and tensor in known
             for name in known[tensor][2]]
    nodes = list(dict.fromkeys([*nodes, *(name for item in values for name in item.nodes),
                                node.name]))
    return like(value, Value(root, value.shape, value.map, ones, 0 * ones, nodes=nodes,
                             linear=Function(node.name, evaluated(node, arrays))))


def is_sign(builder: Builder, value: Symbol | None) -> bool:
    """Whether a value is a binary tensor, scaled, moved, clipped or pooled."""
    return (isinstance(value, Value) and value.linear is None and not value.parts
            and builder.tensors[value.source].format.binary)


def of_sign(value: Value, function: Callable[[np.ndarray], np.ndarray]) -> Value:
    """A value that `is_sign`, not pooled, with `function` applied to its two numbers, an array of
    Fraction [2, channels]."""
    low, high = function(_two_numbers(value))
    return replace(value, gain=(high - low) / 2, offset=(high + low) / 2, slope=None, low=None,
                   high=None)


def _two_numbers(value):
    """The two numbers of a value that `is_sign`, for the codes -1 and 1: array of Fraction [2,
    channels]."""
    numbers = np.array([value.offset - value.gain, value.offset + value.gain])
    if value.slope is not None:
        numbers = np.where(numbers < 0, numbers * value.slope, numbers)
    if value.low is not None:
        numbers = np.maximum(numbers, value.low)
    return numbers if value.high is None else np.minimum(numbers, value.high)


def _of_signs(node, values, inputs):
    """The result of a node whose inputs are one binary tensor and constants; None where they are
    several tensors."""
    if len({(item.source, tuple(item.map), tuple(item.shape), layout_of(item).tobytes())
            for item in values}) > 1:
        return None
    arrays, numbers = [], iter(values)
    for item in inputs:
        if isinstance(item, Value):
            arrays.append(_two_numbers(next(numbers)).astype(np.float64).astype(np.float32))
        elif item is not None:
            if item.floats.size != 1:
                node.fail("a function of an activation and a constant is supported where the "
                          "constant is one number; give it one number for all channels")
            arrays.append(item.floats.reshape(1, 1))
    made = evaluated(node, arrays)
    if not np.isfinite(made).all():
        node.fail("its result is not finite for one of the two signs that it reads; choose a "
                  "function that is finite for both")
    return replace(of_sign(values[0], lambda _: exact(made)),
                   nodes=[*values[0].nodes, node.name])


def combined(builder: Builder, node: Node, values: Sequence[Value]) -> Value | None:
    """The Function that a node computes from several activations that are functions of the same
    codes; None where at least one is not. Sums of a tensor and itself with another scale need no
    table, products do."""
    if all(is_sign(builder, item) and item.source == values[0].source for item in values):
        return of_function(builder, node, values)
    if all(map(quantized_function, values)) and (_of_clipped(builder, node, values) or any(
            isinstance(item.linear, Function) or item.source in builder.functions
            or (node.operator == "Mul" and item.source in builder.rescaled) for item in values)):
        return of_function(builder, node, values)
    return None


def _of_clipped(builder, node, values):
    """Whether values are computed from one tensor and one of them has limits or an offset, such as
    x * clip(x + 3), so that a table must compute their sum or product."""
    if len({item.source for item in values}) > 1 or values[0].parts or (
            builder.tensors[values[0].source].format.width > 8):
        return False
    own = {(uniform(item.gain), uniform(item.offset)) for item in values}
    return any((item.low, item.high) != (None, None) for item in values) or (
        node.operator == "Mul" and len(own) > 1)


# Slopes.

def leaky(builder: Builder, node: Node, value: HostInput | Value,
          slopes: np.ndarray | None) -> Value | None:
    """The value with numbers below zero multiplied by `slopes` (array of Fraction [channels]):
    LeakyRelu and PRelu. None where the value is a function of codes, so that a table computes it.
    Raises UserError at `node`."""
    if isinstance(value, HostInput):
        node.fail("reads an input of the network before it is quantized; put a quantizer before "
                  "it")
    assert slopes is not None               # every Value has some
    if quantized_function(value) and (uniform(slopes) is not None
                                      or isinstance(value.linear, Function)):
        return None
    value = plain(builder, value, node)
    if is_sign(builder, value):
        signs = _whole(builder, value, node)
        return replace(of_sign(signs, lambda numbers: np.where(
            numbers < 0, numbers * slopes, numbers)), nodes=[*signs.nodes, node.name])
    sums = isinstance(value.linear, Pair) and not value.linear.product
    if not sums and not isinstance(value.linear, Linear | None):
        node.fail(f"reads the sum {value.nodes[-1]!r} before it is quantized; put a quantizer "
                  "between them")
    if value.low is not None and value.low >= 0:
        return replace(value, nodes=[*value.nodes, node.name])
    if value.low is not None or value.high is not None or value.slope is not None:
        node.fail(f"reads the clipped result of {value.nodes[-1]!r}; put a quantizer between them")
    if value.pool and (slopes < 0).any():
        node.fail("has negative slopes after a MaxPool; put a quantizer between them")
    return replace(value, slope=slopes, nodes=[*value.nodes, node.name])
