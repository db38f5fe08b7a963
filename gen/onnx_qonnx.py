"""The quantizers of QONNX: FloatQuant, Quant (IntQuant) and BipolarQuant.

Quant adds its zero point in front of rounding, the chip behind it: with an odd zero point, exact
ties go to the other neighbour.
"""

import numpy as np

from ..hw.formats import Bipolar, Float, Int
from ..sim import numerics
from .onnx_lower import Target
from .onnx_values import Constant, QuantizedConstant, Value, constant, exact

__all__ = ["DOMAINS", "OPERATORS"]

#: Where these operators live, in the order of their age.
DOMAINS = ("finn.custom_op.general", "onnx.brevitas", "qonnx.custom_op.general")


def _scale(inputs, node):
    if len(inputs) < 2 or inputs[0] is None:
        node.fail("must have an input and a scale")
    item = constant(inputs[1], node, "its scale")
    array = item.numbers.astype(np.float64)
    wrong = ~(np.isfinite(array) & (array > 0))
    if wrong.any():
        index = tuple(int(n) for n in np.argwhere(wrong)[0])
        node.fail(f"its scale {item.name!r} must be finite and positive, not {array[index]} "
                  f"(at index {list(index)})")
    return array


def _whole(inputs, index, node, what):
    """An input that is one whole number."""
    if len(inputs) <= index:
        node.fail(f"must have {what}, input {index}")
    array = constant(inputs[index], node, what).numbers.reshape(-1)
    if len(array) == 0 or any(item != array[0] for item in array) or array[0].denominator != 1:
        node.fail(f"{what} must be one whole number, not {[float(item) for item in array[:8]]}")
    return int(array[0])


def _rounding(node):
    mode = str(node.attributes.get("rounding_mode", "ROUND"))
    if mode.upper() not in ("ROUND", "HALF_EVEN"):
        node.fail("attribute rounding_mode must be 'ROUND' (to nearest, ties to even), not "
                  f"{mode!r}")


def _apply(builder, node, value, target, scale):
    """The value, or the constant, that a quantizer with this target makes."""
    if isinstance(value, (Constant, QuantizedConstant)):
        real = value.floats
        try:
            scale = np.broadcast_to(scale.astype(np.float32), real.shape)
        except ValueError:
            node.fail(f"its scale of shape {list(scale.shape)} does not fit a constant of shape "
                      f"{list(real.shape)}")
        quotient = real / scale if not isinstance(target.format, Bipolar) else real
        if target.zero_point:
            quotient = np.rint(quotient).astype(np.float64) + target.zero_point
        order = numerics.ordered(target.format.encode(quotient), target.format)
        codes = numerics.from_ordered(np.clip(order, target.low, target.high), target.format)
        return QuantizedConstant(value.name, target.format.image(codes) - target.zero_point,
                                 scale.astype(np.float64), target.format)
    if scale.size != 1 and (scale != scale.flat[0]).any():
        node.fail("activations must have one scale")
    source = builder.quantize(value, target, node.outputs[0], node)
    tensor = builder.tensors[source]
    gain = np.full(tensor.shape[0], target.unit, dtype=object)
    return Value(source, tuple(value.shape), tensor.shape, gain, -target.zero_point * gain)


def _float_quant(builder, node, inputs):
    scale = _scale(inputs, node)
    _rounding(node)
    node.expect("saturation", 1, (1,))
    node.expect("has_subnormal", 0, (1,))
    for attribute in ("has_inf", "has_nan"):
        # They only say why max_val may be less than the largest code.
        node.expect(attribute, 0, (0, 1))
    exponent, mantissa, bias = (
        _whole(inputs, n, node, what) for n, what in
        ((2, "its exponent bit width"), (3, "its mantissa bit width"), (4, "its exponent bias")))
    if exponent < 1 or mantissa < 0 or exponent + mantissa > 15:
        node.fail("supports floats of 1 to 15 exponent and mantissa bits together, at least 1 of "
                  f"them exponent, not {exponent} and {mantissa}")
    format = Float(exponent, mantissa, bias)
    top = format.max_code
    if len(inputs) > 5 and inputs[5] is not None:
        limit = constant(inputs[5], node, "its largest value").numbers.reshape(-1)
        if len(limit) != 1 or limit[0] <= 0:
            node.fail("its largest value must be one positive number")
        limit = float(limit[0])
        top = int(format.encode(limit))
        largest = float(format.decode(format.max_code))
        if limit < largest and float(format.decode(top)) != limit:
            node.fail(f"its largest value {limit} must have a code in {format}")
    target = Target(format, float(scale.flat[0]), 0, -top, top)
    return _apply(builder, node, inputs[0], target, scale)


def _quant(builder, node, inputs):
    scale, value = _scale(inputs, node), inputs[0]
    _rounding(node)
    signed, narrow = (node.expect(key, 1, (0, 1)) for key in ("signed", "narrow"))
    zero, bits = (_whole(inputs, n, node, what) for n, what in
                  ((2, "its zero point"), (3, "its bit width")))
    if bits == 1 and signed:
        if zero:
            node.fail("its zero point must be 0 where the bit width is 1")
        return _bipolar(builder, node, value, scale)
    if bits < 1 or (bits > 16 and not isinstance(value, (Constant, QuantizedConstant))):
        node.fail(f"its bit width must be from 1 to 16, not {bits}")
    low = narrow - (1 << (bits - 1)) if signed else 0
    high = (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1 - narrow
    if bits > 16:
        # Biases have as many bits as they like: they are added to the exact sum.
        units = exact(np.broadcast_to(scale, value.shape))
        codes = [min(max(round(item + zero), low), high) - zero
                 for item in (value.numbers / units).reshape(-1)]
        return Constant(value.name, np.array(codes, dtype=object).reshape(value.shape) * units)
    move = 0 if signed else 1 << (bits - 1)
    target = Target(Int(bits), float(scale.flat[0]), zero - move, low - move, high - move)
    return _apply(builder, node, value, target, scale)


def _bipolar(builder, node, value, scale):
    target = Target(Bipolar(1), float(scale.flat[0]), 0, 0, 1)
    return _apply(builder, node, value, target, scale)


def _bipolar_quant(builder, node, inputs):
    scale = _scale(inputs, node)
    return _bipolar(builder, node, inputs[0], scale)


#: operator: (function(builder, node, inputs) -> value, attributes that it understands)
OPERATORS = {
    "BipolarQuant": (_bipolar_quant, set()),
    "FloatQuant": (_float_quant, {"has_inf", "has_nan", "has_subnormal", "rounding_mode",
                                  "saturation"}),
    "IntQuant": (_quant, {"signed", "narrow", "rounding_mode"}),
    "Quant": (_quant, {"signed", "narrow", "rounding_mode"}),
}
