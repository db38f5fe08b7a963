"""The quantizers of QONNX: FloatQuant, Quant (IntQuant), BipolarQuant, Trunc, MultiThreshold; and
FormatQuant for formats that these cannot express.

Quant adds its zero point before it rounds, the chip after: with an odd zero point, the chip rounds
ties to the odd integer.
"""

from dataclasses import replace
from fractions import Fraction
from math import gcd

import numpy as np
from systolith.gen.importer.file import QONNX
from systolith.gen.importer.groups import each, in_range_of_each, in_scale_of_each
from systolith.gen.importer.rationals import exact, uniform
from systolith.gen.importer.rows import Role, operator
from systolith.gen.importer.target import Target
from systolith.gen.importer.values import (
    Constant,
    Linear,
    QuantizedConstant,
    Value,
    activation,
    constant,
    like,
)
from systolith.hw.formats import Bipolar, Float, Int, parse
from systolith.sim.model import numerics

from .stairs import moved_to_nearest, staircase

__all__: list[str] = []

#: Attribute rounding_mode: what rounds constants.
_TO_WHOLE = {"ROUND": np.rint, "FLOOR": np.floor, "CEIL": np.ceil}


def _scale(inputs, node):
    if len(inputs) < 2 or inputs[0] is None:
        node.fail("must have an input and a scale")
    item = constant(inputs[1], node, "its scale")
    array = item.numbers.astype(np.float64)
    if not array.size:
        node.fail(f"its scale {item.name!r} is empty, and must hold one number or one for each "
                  "channel")
    wrong = ~(np.isfinite(array) & (array > 0))
    if wrong.any():
        index = tuple(int(n) for n in np.argwhere(wrong)[0])
        node.fail(f"its scale {item.name!r} must be finite and positive, not {array[index]} "
                  f"(at index {list(index)})")
    return array


def _whole(inputs, index, node, what):
    """An input that is one integer."""
    if len(inputs) <= index:
        node.fail(f"must have {what}, input {index}")
    array = constant(inputs[index], node, what).numbers.reshape(-1)
    if len(array) == 0 or any(item != array[0] for item in array) or array[0].denominator != 1:
        node.fail(f"{what} must be one whole number, not {[float(item) for item in array[:8]]}")
    if abs(array[0]) >= 1 << 31:
        node.fail(f"{what} is {float(array[0]):.3g}, far beyond what a format has")
    return int(array[0])


def _whole_numbers(inputs, index, node, what):
    """An input of integers, as an int64 array; one number where all are the same."""
    if len(inputs) <= index:
        node.fail(f"must have {what}, input {index}")
    array = constant(inputs[index], node, what).numbers
    if uniform(array) is not None:
        return np.array(_whole(inputs, index, node, what))
    if any(item.denominator != 1 or abs(item) >= 1 << 31 for item in array.flat):
        node.fail(f"{what} must be whole numbers, not "
                  f"{[float(item) for item in array.reshape(-1)[:8]]}")
    return array.astype(np.int64)


def _rounding(node, given, accepted=("ROUND",)):
    """The rounding mode that an attribute gives, one of `accepted`; None: the first one."""
    mode = str(accepted[0] if given is None else given).upper()
    mode = {"HALF_EVEN": "ROUND"}.get(mode, mode)
    if mode not in accepted:
        node.fail(f"attribute rounding_mode must be {' or '.join(map(repr, accepted))} (ROUND: to "
                  f"nearest, ties to even), not {given!r}")
    return mode


def _apply(builder, node, value, target, scale, limits=None):
    """The value, or the constant, that a quantizer with this target makes. `limits`: (lows, highs),
    ordered integers of each channel; None: those of the target."""
    if isinstance(value, (Constant, QuantizedConstant)):
        real = value.floats
        try:
            scale = np.broadcast_to(scale.astype(np.float32), real.shape)
        except ValueError:
            node.fail(f"its scale of shape {list(scale.shape)} does not fit a constant of shape "
                      f"{list(real.shape)}")
        quotient = real / scale if not target.format.binary else real
        if target.zero_point or target.odd:
            quotient = numerics.round_reals(quotient, target.odd) + target.zero_point
        codes = target.format.encode(quotient)
        order = np.clip(target.format.ordered(codes), target.low, target.high)
        codes = target.format.from_ordered(order)
        images, form = target.format.image(codes) - target.zero_point, target.format
        if target.zero_point:
            form = _format_of(images, form.width)
        return QuantizedConstant(value.name, images, scale.astype(np.float64), form)
    channels, own = None, scale.size != 1 and (scale != scale.flat[0]).any()
    if own:
        if target.format.binary:
            node.fail("signs of activations must have one scale")
        scales = each(exact(scale), value, node, "its scale")
        limits = limits or [[end] * len(scales) for end in (target.low, target.high)]
        target = replace(target, scale=1.0)
        source, channels = in_scale_of_each(
            builder, value, target, scales.astype(np.float64), [target.zero_point] * len(scales),
            limits, node.outputs[0], node)
    elif limits is None:
        source = builder.quantize(value, target, node.outputs[0], node)
    else:
        lows, highs = limits
        source, channels = in_range_of_each(builder, value, target, lows, highs, node.outputs[0],
                                            node)
    tensor = builder.tensors[source]
    gain = np.full(tensor.shape[0], target.unit, dtype=object)
    gain = gain * scales if own else gain
    return like(value, Value(source, tuple(value.shape), tensor.shape, gain,
                             -target.zero_point * gain, channels=channels))


@operator("FloatQuant", roles=Role.QUANTIZER | Role.ROWS, domains=QONNX)
def _float_quant(builder, node, inputs, has_inf=0, has_nan=0, has_subnormal=0,
                 rounding_mode=None, saturation=1):
    scale = _scale(inputs, node)
    _rounding(node, rounding_mode)
    node.expect("saturation", saturation, (1,))
    node.expect("has_subnormal", has_subnormal, (1,))
    for attribute, value in (("has_inf", has_inf), ("has_nan", has_nan)):
        # They only say why max_val may be less than the largest code.
        node.expect(attribute, value, (0, 1))
    exponent, mantissa, bias = (
        _whole(inputs, n, node, what) for n, what in
        ((2, "its exponent bit width"), (3, "its mantissa bit width"), (4, "its exponent bias")))
    if exponent < 1 or mantissa < 0 or exponent + mantissa > 15:
        node.fail("supports floats of 1 to 15 exponent and mantissa bits together, at least 1 of "
                  f"them exponent, not {exponent} and {mantissa}")
    format = Float(exponent, mantissa, bias)
    top = format.max_code
    if len(inputs) > 5 and inputs[5] is not None:
        numbers = constant(inputs[5], node, "its largest value").numbers.reshape(-1)
        if len(numbers) != 1 or numbers[0] <= 0:
            node.fail("its largest value must be one positive number")
        limit = float(numbers[0])
        top = int(format.encode(limit))
        largest = float(format.decode(format.max_code))
        if limit < largest and float(format.decode(top)) != limit:
            node.fail(f"its largest value {limit} must have a code in {format}")
    target = Target(format, float(scale.flat[0]), 0, -top, top)
    return _apply(builder, node, inputs[0], target, scale)


def _range(bits, signed, narrow):
    """(smallest, largest) code of `bits` bits; `narrow`: without the code that has no counterpart
    of the other sign, or the largest unsigned one."""
    if signed:
        return narrow - (1 << (bits - 1)), (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1 - narrow


@operator("IntQuant", "Quant", roles=Role.QUANTIZER | Role.ROWS, domains=QONNX)
def _quant(builder, node, inputs, signed=1, narrow=1, rounding_mode=None):
    scale, value = _scale(inputs, node), inputs[0]
    rounding = _rounding(node, rounding_mode, ("ROUND", "FLOOR", "CEIL"))
    node.expect("signed", signed, (0, 1))
    node.expect("narrow", narrow, (0, 1))
    zeros, widths = (_whole_numbers(inputs, n, node, what) for n, what in
                     ((2, "its zero point"), (3, "its bit width")))
    if zeros.size > 1 or widths.size > 1:
        return _quant_of_each(builder, node, value, scale, (zeros, widths), (signed, narrow),
                              rounding)
    zero, bits = zeros.item(), widths.item()
    if bits == 1 and signed:
        if zero:
            node.fail("its zero point must be 0 where the bit width is 1")
        return _bipolar(builder, node, value, scale)
    if bits < 1 or (bits > 16 and not isinstance(value, (Constant, QuantizedConstant))):
        node.fail(f"its bit width must be from 1 to 16, not {bits}")
    low, high = _range(bits, signed, narrow)
    if bits > 16:
        # Biases may have any number of bits: they are added to the exact sum.
        units = exact(np.broadcast_to(scale, value.shape))
        codes = [min(max(round(item + zero), low), high) - zero
                 for item in (value.numbers / units).reshape(-1)]
        return Constant(value.name, np.array(codes, dtype=object).reshape(value.shape) * units)
    if rounding != "ROUND" and isinstance(value, (Constant, QuantizedConstant)):
        return _quant_of_each(builder, node, value, scale, (zeros, widths), (signed, narrow),
                              rounding)
    if rounding != "ROUND":
        return _to_a_side(builder, node, value, scale, (zero, low, high), rounding)
    move = 0 if signed else 1 << (bits - 1)
    target = Target(Int(bits), float(scale.flat[0]), zero - move, low - move, high - move,
                    odd=zero % 2 == 1)
    return _apply(builder, node, value, target, scale)


def _quant_of_each(builder, node, value, scale, numbers, kind, rounding):
    """The result of a Quant whose channels have zero points or bit widths (`numbers`) of their own;
    `kind`: (signed, narrow)."""
    zeros, widths = numbers
    if widths.min() < 1 + kind[0] or widths.max() > 16:
        node.fail(f"its bit widths must be from {1 + kind[0]} to 16, not from {widths.min()} to "
                  f"{widths.max()}")
    bits = int(widths.max())
    if isinstance(value, (Constant, QuantizedConstant)):
        real = value.floats
        try:
            scale, zeros, widths = (np.broadcast_to(item, real.shape) for item in
                                    (scale.astype(np.float32), zeros, widths))
        except ValueError:
            node.fail(f"its scale, zero point or bit width of shapes {list(scale.shape)}, "
                      f"{list(zeros.shape)} and {list(widths.shape)} do not fit a constant of "
                      f"shape {list(real.shape)}")
        ends = {n: _range(n, *kind) for n in set(widths.flat)}
        low, high = (np.vectorize(lambda n, end=end: ends[n][end])(widths) for end in (0, 1))
        images = np.clip(_TO_WHOLE[rounding](real / scale + zeros), low, high).astype(
            np.int64) - zeros
        images, scale, bits = _of_one_scale(images, scale.astype(np.float64), bits)
        return QuantizedConstant(value.name, images, scale, _format_of(images, bits))
    if zeros.size > 1:
        node.fail("activations must have one zero point")
    move = 0 if kind[0] else 1 << (bits - 1)
    zero = zeros.item() - move
    if rounding != "ROUND":
        value = moved_to_nearest(value, each(exact(scale), value, node, "its scale"), rounding,
                                 node)
    widths = each(widths, value, node, "its bit width")
    lows, highs = ([_range(int(n), *kind)[end] - move for n in widths] for end in (0, 1))
    target = Target(Int(bits), float(scale.flat[0]), zero, min(lows), max(highs),
                    odd=zeros.item() % 2 == 1)
    return _apply(builder, node, value, target, scale, (lows, highs))


def _of_one_scale(images, scale, bits):
    """(images, scale, bits) of a constant, in the largest common unit of its scales where these
    differ along more than one axis and codes of 16 bits suffice; else unchanged."""
    differ = [(scale != np.take(scale, [0], axis=n)).any() for n in range(scale.ndim)]
    if sum(differ) < 2:
        return images, scale, bits
    units = exact(np.unique(scale)).reshape(-1)
    unit = units[0]
    for item in units[1:]:
        # The largest common divisor of two fractions.
        unit = Fraction(gcd(unit.numerator * item.denominator, item.numerator * unit.denominator),
                        unit.denominator * item.denominator)
    factors = scale / float(unit)
    if factors.max() >= 1 << 15 or abs(images * factors).max(initial=0) >= 1 << 15:
        return images, scale, bits
    return (images * factors).astype(np.int64), np.full(scale.shape, float(unit)), 2


def _format_of(images, bits):
    """The signed integers of at least `bits` bits that have codes for all of `images`."""
    ends = int(images.min(initial=0)), int(images.max(initial=0))
    return Int(max(bits, max((-1 - ends[0]).bit_length(), ends[1].bit_length()) + 1))


def _bipolar(builder, node, value, scale):
    target = Target(Bipolar(1), float(scale.flat[0]), 0, 0, 1)
    return _apply(builder, node, value, target, scale)


@operator("BipolarQuant", roles=Role.QUANTIZER | Role.ROWS, domains=QONNX)
def _bipolar_quant(builder, node, inputs):
    scale = _scale(inputs, node)
    return _bipolar(builder, node, inputs[0], scale)


def _to_a_side(builder, node, value, scale, numbers, rounding):
    """The result of a Quant with rounding FLOOR or CEIL; `numbers`: zero point and limits."""
    zero, low, high = numbers
    unit = _one_scale(scale, node)
    if rounding == "FLOOR":
        steps = np.array([[Fraction(n - zero) for n in range(low + 1, high + 1)]])
    else:
        steps = np.array([[Fraction(n - 1 - zero) for n in range(low + 1, high + 1)]])
    result = staircase(builder, node, value, steps * unit, strict=rounding == "CEIL")
    return replace(result, gain=result.gain * unit, offset=(result.offset + low - zero) * unit)


def _one_scale(scale, node):
    """The one scale of an activation, as a Fraction."""
    number = uniform(exact(scale))
    if number is None:
        node.fail("activations must have one scale")
    return number


@operator("Trunc", roles=Role.QUANTIZER, domains=QONNX)
def _trunc(builder, node, inputs, signed=1, narrow=0, rounding_mode=None):
    """Trunc: drops the last bits of an integer. Version 1 has 5 inputs; version 2 has 6, the new
    scale among them, and the attributes signed and narrow."""
    if len(inputs) not in (5, 6):
        node.fail(f"must have 5 inputs, or 6 in version 2, not {len(inputs)}")
    value, scale = activation(inputs, node), _one_scale(_scale(inputs, node), node)
    rounding = _rounding(node, rounding_mode, ("FLOOR", "CEIL", "ROUND"))
    node.expect("signed", signed, (0, 1))
    node.expect("narrow", narrow, (0, 1))
    zero, before, after = (_whole(inputs, n, node, what) for n, what in
                           ((2, "its zero point"), (3, "its input bit width"),
                            (len(inputs) - 1, "its output bit width")))
    if not 1 <= after <= 16 or zero:
        node.fail(f"its output bit width must be from 1 to 16 and its zero point 0, not {after} "
                  f"and {zero}")
    if len(inputs) == 6:
        result = _one_scale(_scale([inputs[0], inputs[4]], node), node)
        dropped = max(round(float(np.log2(float(result / scale)))), 0)
    else:
        result, dropped = scale, before - after
        # It does not say whether its input is signed, and does not clip.
        signed = not isinstance(value, Value) or not _never_negative(builder, value)
    if not 0 <= dropped <= 40:
        node.fail(f"drops {dropped} bits, and must drop from 0 to 40")
    low = narrow - (1 << (after - 1)) if signed else 0
    high = (1 << (after - 1)) - 1 if signed else (1 << after) - 1 - narrow
    if rounding == "ROUND":
        move = 0 if signed else 1 << (after - 1)
        unit = scale * (1 << dropped)
        target = Target(Int(after), float(unit), -move, low - move, high - move)
        made = _apply(builder, node, value, target, np.array(float(unit)))
        # Version 1 keeps the old scale although the bits have gone.
        return replace(made, gain=made.gain * (result / unit), offset=made.offset * (result / unit))
    # In units of the input's scale, half a unit off the whole numbers that decide.
    unit, steps = 1 << dropped, []
    for n in range(low + 1, high + 1):
        first = n * unit if rounding == "FLOOR" else (n - 1) * unit + 1
        steps.append((first - Fraction(1, 2)) * scale)
    counted = staircase(builder, node, value, np.array([steps]))
    return replace(counted, gain=counted.gain * result, offset=(counted.offset + low) * result)


def _never_negative(builder, value):
    if value.low is not None and value.low >= 0:
        return True
    tensor = builder.tensors[value.source]
    ends = [int(tensor.format.image(tensor.format.from_ordered(item)))
            for item in builder.limits[value.source]]
    if isinstance(value.linear, Linear):
        # A mean of numbers that are not negative is not negative.
        gain = tensor.scale * 2.0 ** tensor.format.exponent
        return bool((value.linear.weights.images >= 0).all()) and (
            ends[0] - tensor.zero_point) * gain >= 0
    return bool((value.gain * ends[0] + value.offset >= 0).all())


@operator("FormatQuant", roles=Role.QUANTIZER, domains=QONNX)
def _format_quant(builder, node, inputs, format=""):
    """x / scale in the format that the attribute `format` names, times scale."""
    scale = _scale(inputs, node)
    try:
        form = parse(format)
    except ValueError as error:
        node.fail(f"attribute format: {error}")
    if form.uniform or form.binary or form.weight_fault():
        node.fail(f"attribute format must name a float with sign or a sum of powers of two, not "
                  f"{form}: integers are for Quant, signs for BipolarQuant")
    target = Target(form, float(scale.flat[0]), 0, *form.ordered_range)
    if not form.floating and not isinstance(inputs[0], (Constant, QuantizedConstant)):
        node.fail(f"{form} is a format of weights, not of activations; quantize activations to "
                  "integers or floats")
    return _apply(builder, node, inputs[0], target, scale)
