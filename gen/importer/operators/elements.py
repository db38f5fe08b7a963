"""Operators that work element by element: arithmetic, batch normalization, clips, slopes, functions
of one number, Max and Min."""

from dataclasses import replace
from typing import Any

import numpy as np
from systolith.gen.importer.align import aligned
from systolith.gen.importer.binary import never_zero, three_signs
from systolith.gen.importer.builder import Builder
from systolith.gen.importer.codes import quantized_function
from systolith.gen.importer.copies import plain
from systolith.gen.importer.nodes import Node
from systolith.gen.importer.rationals import exact, square_root, uniform
from systolith.gen.importer.rows import Role, operator
from systolith.gen.importer.target import Target
from systolith.gen.importer.values import (
    Constant,
    HostInput,
    Inputs,
    Linear,
    Pair,
    QuantizedConstant,
    Value,
    activation,
    constant,
    like,
    per_channel,
    shape_text,
)
from systolith.hw.formats import Int

from . import signs
from .broadcast import by_channel, constant_map, differs_by_position, spread
from .extremes import extreme_of
from .functions import combined, is_sign, leaky, of_function, of_sign
from .kinks import kink_extreme, kink_of, kink_sum
from .pairs import pair

__all__ = ["affine"]


def affine(value: Value, gain: np.ndarray, offset: np.ndarray, node: Node) -> Value:
    """gain * value + offset, with arrays of Fraction [channels]. Raises UserError at `node` where
    limits or a slope of the value would then differ between channels."""
    low, high = value.low, value.high
    if value.slope is not None and ((gain <= 0).any() or (offset != 0).any()):
        if (kink := kink_of(value)) is not None:
            return affine(kink, gain, offset, node)
        node.fail(f"scales or moves the result of {value.nodes[-1]!r}, which has one factor below "
                  "zero and another above; put a quantizer between them")
    if low is not None or high is not None:
        common, moved = uniform(gain), uniform(offset)
        if not any((low, high)) and (gain > 0).all() and not offset.any():
            common, moved = 1, 0                # 0 stays 0
        if common is None or moved is None or common == 0:
            if (kink := kink_of(value)) is not None:
                return affine(kink, gain, offset, node)
            node.fail("scales channels differently after a Relu or Clip; put a quantizer "
                      "between them")
        low, high = (None if bound is None else common * bound + moved for bound in (low, high))
        if common < 0:
            low, high = high, low
    pool = value.pool
    if pool and (gain < 0).any():
        if not isinstance(value.linear, Linear | Pair | None):
            node.fail("has a negative factor after a MaxPool; put the MaxPool after it")
        pool = pool.scaled(gain)
    return replace(value, gain=value.gain * gain, offset=value.offset * gain + offset,
                   low=low, high=high, pool=pool, nodes=[*value.nodes, node.name])


# Element by element.

def _arithmetic(host_operation, combine):
    """The operator Add, Sub, Mul or Div, of two activations or of one and a constant.

    `host_operation` is its name among the host's steps. `combine(numbers, first, node)` gives gain
    and offset for a constant's `numbers`; `first`: the constant is the first operand.
    """
    def computed(builder, node, inputs):
        constants = [isinstance(item, (Constant, QuantizedConstant)) for item in inputs]
        if all(isinstance(item, Value) for item in inputs):
            inputs = aligned(builder, node, inputs)
            values = spread(builder, node, [plain(builder, item, node) for item in inputs])
            sign = {"add": 1, "subtract": -1}.get(host_operation)
            return (sign and kink_sum(node, values, sign)) or combined(
                builder, node, values) or pair(node, values, host_operation)
        if sum(constants) != 1:
            node.fail("needs two activations that the chip has, or one and a constant; an input "
                      "must pass a quantizer first")
        first = constants[0]
        operand, value = inputs if first else inputs[::-1]
        if isinstance(value, HostInput):
            if first and host_operation in ("subtract", "divide"):
                node.fail("the constant must be the second operand where the input is not "
                          "quantized yet")
            array = operand.floats
            shape = np.broadcast_shapes(array.shape, (1, *value.shape))[1:]
            if shape != tuple(value.shape):
                node.fail(f"its constant of shape {list(array.shape)} does not fit "
                          f"{shape_text(value.shape)}")
            return value.then(host_operation, array)
        if differs_by_position(operand.numbers, value):
            return _with_map(builder, node, operand, value, host_operation, first)
        numbers = per_channel(operand.numbers, value, node, "its constant")
        gain, offset = combine(numbers, first, node)
        ones = np.full(len(numbers), exact(1).item(), dtype=object)
        return affine(value, ones * gain, 0 * ones + offset, node)
    return computed


def _quotient(numbers, first, node):
    if first or any(item == 0 for item in numbers.flat):
        node.fail("must divide an activation by a constant that is not 0")
    return 1 / numbers, 0


def _with_map(builder, node, operand, value, operation, first):
    """The result for a value and a constant that differs by position."""
    numbers = operand.numbers
    if operation == "divide":
        numbers, operation = _quotient(numbers, first, node)[0], "multiply"
    made, value = constant_map(builder, node, operand, numbers, plain(builder, value, node))
    return pair(node, [made, value] if first else [value, made], operation)


_OF_TWO = Role.ARITHMETIC | Role.ROWS
operator("Add", roles=_OF_TWO)(_arithmetic("add", lambda numbers, first, node: (1, numbers)))
operator("Sub", roles=_OF_TWO)(_arithmetic(
    "subtract", lambda numbers, first, node: (-1, numbers) if first else (1, -numbers)))
operator("Mul", roles=_OF_TWO)(_arithmetic("multiply", lambda numbers, first, node: (numbers, 0)))
operator("Div", roles=_OF_TWO)(_arithmetic("divide", _quotient))


@operator("BatchNormalization", roles=Role.NORM)
def _batch_norm(builder, node, inputs, epsilon=1e-5, momentum=0.9, training_mode=0):
    if training_mode:
        node.fail("was exported in training mode (training_mode is 1), in which its statistics are "
                  "those of each batch; export the model in evaluation mode (PyTorch: "
                  "model.eval())")
    value = activation(inputs, node)
    gamma, beta, mean, variance = (
        constant(item, node, what).numbers.reshape(-1) for item, what in
        zip(inputs[1:], ("its scale", "its bias", "its mean", "its variance"), strict=True))
    channels = value.shape[0] if value.shape else 0
    if {len(item) for item in (gamma, beta, mean, variance)} != {channels}:
        node.fail(f"its parameters must have one number for each of {channels} channels")
    epsilon = exact(np.float32(epsilon)).item()
    if any(item < 0 or item + epsilon <= 0 for item in variance):
        node.fail("its variance must not be negative, and must be positive with epsilon added")
    gain = gamma / np.array([square_root(item + epsilon) for item in variance], dtype=object)
    offset = beta - mean * gain
    shape = (1, -1) + (1,) * (len(value.shape) - 1)
    if isinstance(value, HostInput):
        gain, offset = (item.astype(np.float64).astype(np.float32) for item in (gain, offset))
        return value.then("multiply", gain.reshape(shape)).then("add", offset.reshape(shape))
    # Once more, since the other one may have changed the value.
    for _ in range(2):
        gains, value = by_channel(builder, node, gain.reshape(shape), value, "its parameters")
        offsets, value = by_channel(builder, node, offset.reshape(shape), value, "its parameters")
    return affine(value, gains, offsets, node)


def _clipped(builder, value, low, high, node):
    if isinstance(value, HostInput):
        return value.then("clip", (float("-inf") if low is None else float(low),
                                   float("inf") if high is None else float(high)))
    value = plain(builder, value, node) if any(value.pads) else value
    if is_sign(builder, value) and not value.pool:
        ends = (-np.inf if low is None else low), (np.inf if high is None else high)
        return replace(of_sign(value, lambda numbers: np.minimum(np.maximum(
            numbers, ends[0]), ends[1])), nodes=[*value.nodes, node.name])
    lows = [item for item in (value.low, low) if item is not None]
    highs = [item for item in (value.high, high) if item is not None]
    low, high = max(lows, default=None), min(highs, default=None)
    if low is not None and high is not None and low > high:
        node.fail(f"clips to an empty range, from {float(low):g} to {float(high):g} together with "
                  "the Relu or Clip before it; make the ranges overlap")
    return replace(value, low=low, high=high, nodes=[*value.nodes, node.name])


@operator("Relu", roles=Role.CLIP | Role.ROWS | Role.SCALES)
def _relu(builder, node, inputs):
    return _clipped(builder, activation(inputs, node), exact(0).item(), None, node)


@operator("Clip", roles=Role.CLIP | Role.ROWS)
def _clip(builder, node, inputs, min=None, max=None):
    bounds = [None, None]
    for n, (what, given) in enumerate((("min", min), ("max", max))):
        if given is not None:
            bounds[n] = given
        elif len(inputs) > n + 1 and inputs[n + 1] is not None:
            array = np.asarray(constant(inputs[n + 1], node, what).array).reshape(-1)
            if array.size != 1 or np.isnan(array[0]):
                node.fail(f"{what} must be one number, not {array.tolist()}")
            bounds[n] = array[0]
    low, high = (None if item is None or np.isinf(item) else exact(item).item() for item in bounds)
    return _clipped(builder, activation(inputs, node), low, high, node)


@operator("Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Cos", "Cosh", "Elu",
          "Erf", "Exp", "Floor", "Gelu", "HardSwish", "Log", "Mish", "Reciprocal", "Round", "Selu",
          "Shrink", "Sigmoid", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tan",
          "Tanh", "ThresholdedRelu", roles=Role.FUNCTION)
def _function(builder: Builder, node: Node, inputs: Inputs, **attributes: Any) -> Value:
    """An operator of one input, element by element: ONNX's reference computes it, with its
    attributes."""
    value = activation(inputs, node)
    if isinstance(value, HostInput):
        node.fail("works on the input before it is quantized; put a quantizer before it")
    if not quantized_function(value):
        node.fail(f"reads the result of {value.nodes[-1]!r} before it is quantized; put a "
                  "quantizer between them, so that it is a function of codes")
    made = of_function(builder, node, [value])
    assert made is not None                     # one value is a function of one tensor
    return made


@operator("Sign", roles=Role.FUNCTION)
def _sign(builder, node, inputs):
    """Sign: of sums that are never 0, one of two values; of other sums, one of three; of codes, a
    function."""
    if not isinstance(inputs[0], Value) or not isinstance(inputs[0].linear, Linear):
        return _function(builder, node, inputs)
    value, one = inputs[0], exact(1).item()
    if value.low is None and value.high is None and value.slope is None and never_zero(
            value, builder.tensors[value.source].format):
        return signs.as_numbers(builder, node, signs.Comparison(value, False), one, -one)
    if value.slope is not None and (value.slope <= 0).any():
        node.fail(f"takes the sign of {value.nodes[-1]!r}, whose slope must be positive; put a "
                  "quantizer of more than one bit between them")
    value = three_signs(replace(value, nodes=[*value.nodes, node.name]))
    source = builder.quantize(value, Target(Int(2), 1.0, 0, -1, 1), node.outputs[0], node)
    ones = np.full(value.map[0], one, dtype=object)
    return like(value, Value(source, value.shape, value.map, ones, 0 * ones))


@operator("LeakyRelu", roles=Role.SLOPE | Role.SCALES)
def _leaky_relu(builder, node, inputs, alpha=0.01):
    value = activation(inputs, node)
    alpha = exact(np.float32(alpha)).item()
    slopes = None
    if isinstance(value, Value):
        slopes = np.full(value.map[0], alpha, dtype=object)
    return leaky(builder, node, value, slopes) or of_function(builder, node, [value])


@operator("PRelu", roles=Role.SLOPE | Role.SCALES)
def _prelu(builder, node, inputs):
    value = activation(inputs, node)
    slopes = None
    if isinstance(value, Value):
        slope = constant(inputs[1], node, "its slope").numbers
        slopes, value = by_channel(builder, node, slope, value, "its slope")
    return leaky(builder, node, value, slopes) or of_function(builder, node, [value, inputs[1]])


@operator("HardSigmoid", roles=Role.SLOPE)
def _hard_sigmoid(builder, node, inputs, alpha=0.2, beta=0.5):
    value = activation(inputs, node)
    if not isinstance(value, Value) or quantized_function(value):
        return _function(builder, node, inputs)
    alpha, beta = (exact(np.float32(item)).item() for item in (alpha, beta))
    ones = np.full(value.map[0], exact(1).item(), dtype=object)
    value = affine(value, alpha * ones, beta * ones, node)
    return _clipped(builder, value, exact(0).item(), exact(1).item(), node)


@operator("Abs", roles=Role.ELEMENT)
def _absolute(builder, node, inputs):
    value = activation(inputs, node)
    if isinstance(value, Value) and isinstance(value.linear, Linear):
        return leaky(builder, node, value, np.full(value.map[0], exact(-1).item(), dtype=object))
    return _function(builder, node, inputs)


@operator("Neg", roles=Role.ELEMENT | Role.ROWS)
def _negated(builder, node, inputs):
    value = activation(inputs, node)
    if isinstance(value, HostInput):
        return value.then("multiply", np.float32(-1))
    ones = np.full(value.map[0], exact(1).item(), dtype=object)
    return affine(value, -ones, 0 * ones, node)


@operator("Pow", roles=Role.POWER)
def _power(builder, node, inputs):
    if isinstance(inputs[0], Value) and quantized_function(inputs[0]) and isinstance(
            inputs[1], (Constant, QuantizedConstant)):
        return of_function(builder, node, inputs)
    return node.fail("must have a quantized activation as its base and a constant exponent")


@operator("Max", "Min", roles=Role.EXTREME)
def _extreme(builder, node, inputs):
    """Max and Min of activations and numbers: a Clip, a function, or the larger of maps."""
    values = [item for item in inputs if isinstance(item, Value)]
    if not any(isinstance(item, (Value, HostInput)) for item in inputs):
        node.fail("needs an activation among its inputs")
    value = next(item for item in inputs if isinstance(item, (Value, HostInput)))
    hosts = [item for item in inputs if isinstance(item, HostInput)]
    if len(hosts) + len(values) > max(len(values), 1):
        node.fail("compares an input before it is quantized; put a quantizer before it")
    for item in values[1:]:
        assert isinstance(value, Value)         # of an input and a value, one was refused
        both = spread(builder, node, [plain(builder, part, node) for part in
                                      aligned(builder, node, [value, item])], False)
        value = kink_extreme(node, both, node.operator == "Max") or combined(
            builder, node, both) or extreme_of(
            builder, node, both, node.operator == "Min")
    for item in inputs:
        if isinstance(item, (Constant, QuantizedConstant)):
            number = item.numbers.reshape(-1)
            if isinstance(value, Value) and uniform(number) is None:
                both = constant_map(builder, node, item, item.numbers, plain(builder, value, node))
                value = extreme_of(builder, node, both[::-1], node.operator == "Min")
                continue
            if uniform(number) is None:
                node.fail("its constant must be one number where the input is not quantized")
            low, high = (number[0], None) if node.operator == "Max" else (None, number[0])
            value = _clipped(builder, value, low, high, node)
    return value
