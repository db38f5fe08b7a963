"""Sums and products of two activations: layers whose results are combined with an operand.

Such a layer reads one of the two unchanged, with weights of 1, and has the other as its operand.
Where a convolution computes one of them and nothing else reads it, that convolution takes the
layer's place (`passes.sums`), and the sum costs nothing.
"""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import gcd, lcm
from types import NoneType
from typing import Any

import numpy as np
from systolith.gen.importer.builder import Builder
from systolith.gen.importer.kinds import given, quantized
from systolith.gen.importer.layers import identity, quantizing_layer
from systolith.gen.importer.nodes import Node
from systolith.gen.importer.rationals import exact, uniform
from systolith.gen.importer.reach import image_limits
from systolith.gen.importer.requantize import offsets, offsets_fit, scaling
from systolith.gen.importer.target import Target
from systolith.gen.importer.ties import EVEN, ODD, ties_of_sum
from systolith.gen.importer.values import Linear, Pair, Value, like, shape_text
from systolith.hw.spec.numbers import FIRST_BITS, GAIN_BITS
from systolith.sim.model.conv import Conv
from systolith.sim.model.geometry import Geometry
from systolith.sim.model.requantization import Below, Operand, Requantization
from systolith.sim.model.weights import Weights

from .digits import gains
from .sums import added_up

__all__ = ["late_sum", "pair"]

#: The least first steps that one of a combined result with late slopes must have.
_FINE = 64


def pair(node: Node, inputs: Sequence[Value], operation: str) -> Value:
    """The sum, difference or product (`operation`: "add", "subtract", "multiply") of two
    activations. Raises UserError at `node` for other operations and for shapes that do not fit."""
    if operation not in ("add", "subtract", "multiply"):
        node.fail("needs a constant as one of its operands; two activations are not supported")
    first, second = inputs
    for item in inputs:
        if operation == "multiply" and not isinstance(item.linear, (Linear, Pair, NoneType)):
            node.fail(f"combines the result of {item.nodes[-1]!r} with another tensor before it is "
                      "quantized; put a quantizer between them")
    sign = -1 if operation == "subtract" else 1
    turned = _pixel(first) and not _pixel(second)
    if turned:
        first, second = second, first
    if tuple(second.map) not in (tuple(first.map), (first.map[0], 1, 1)) or (
            len(first.shape) != len(second.shape) and second.map != first.map):
        node.fail(f"combines {shape_text(first.shape)} with {shape_text(second.shape)}; supported "
                  "are equal shapes, and one pixel [N, C, 1, 1] with a whole map")
    # first - second is -(second - first).
    ones = np.full(first.map[0], exact(sign if turned else 1).item(), dtype=object)
    return like(first, Value(first.source, first.shape, first.map, ones, 0 * ones,
                             nodes=[node.name],
                             linear=Pair(node.name, first, second, operation == "multiply",
                                         sign)))


def _pixel(value):
    return tuple(value.map[1:]) == (1, 1)


@quantized.register
def _(both: Pair, builder, value, target, name, node):
    if value.slope is not None and not value.pool and target.format.uniform and not target.sign:
        made = late_sum(builder, replace(value, slope=None), value.slope, 0 * value.gain, target,
                        name, node)
        if made is not None:
            return made
    target = target.within(value, node)
    sums = _added_values(builder, value, target, node)
    if sums is not None:
        return builder.quantize(sums, target, name, node)
    if target.format.binary:
        target = target.as_integers
    name = builder.add_tensor(name, both.first.map, target)
    builder.add_layer(_combined_layer(builder, value, target, name, node))
    return builder.variant(name, value.pool, target.low, target.high, value.nodes, node)


@given.register
def _(both: Pair, builder, value, decoder, node):
    if both.product:
        return node.fail(f"its product {both.name!r} is an output of the network before it is "
                         "quantized; put a quantizer after it")
    value = added_up(builder, value, None, node)
    return given(value.linear, builder, value, decoder, node)


def _added_values(builder, value, target, node):
    """A sum as the results of one convolution, where no layer with one operand can compute what
    `target` quantizes; else None."""
    both = value.linear
    if both.product:
        return None
    if target.format.binary or target.sign:
        return None
    codes = [_is_code(item) for item in (both.first, both.second)]
    whole = both.second.map == both.first.map
    one = (codes[1] and (codes[0] or _is_first(both.first))) or (
        whole and codes[0] and _is_first(both.second))
    plainly = all(item.low is None and item.high is None and item.slope is None
                  for item in (both.first, both.second))
    moved = value.offset.any() or not all(_has_zero(item) for item, code in zip(
        (both.first, both.second), codes, strict=True) if code)
    if one and uniform(value.gain) and (plainly or not moved) and value.slope is None and not (
            value.pool and value.pool.least):
        return None
    return added_up(builder, value, target, node)


def _is_code(value):
    """Whether a value can be an operand: codes of one scale."""
    return (value.linear is None and value.slope is None and bool(uniform(value.gain))
            and not (value.pool and value.pool.least))


def _has_zero(value):
    """Whether 0 is a whole number of steps of the codes, so that a zero point can express it."""
    offset = uniform(value.offset)
    return offset is not None and (offset / value.gain[0]).denominator == 1


def _is_first(value):
    """Whether the results of a convolution can be the first results of a layer with an operand."""
    return isinstance(value.linear, Linear) and not (value.pool and value.pool.least)


def _combined_layer(builder, value, target, output, node):
    """The layer that quantizes a Pair into the tensor `output`."""
    both = value.linear
    factors, added = value.gain, value.offset
    if target.sign and (factors > 0).all():
        # A positive factor changes no sign.
        factors, added = factors / factors, added / factors
    scale = uniform(factors)
    if not scale or (both.product and any(added)):
        node.fail(f"quantizes the result of {both.name!r} after an addition or a scale per "
                  f"channel; put a quantizer right after {both.name!r}")
    first, second, signs = _sides(both, node)
    source, gain, zero, rest = _operand(builder, second, node, both.product)
    added = added / scale + signs[1] * rest
    if any(added) or (first.linear is None and any(
            _operand(builder, first, node, both.product)[3])):
        first = _moved(builder, first, signs[0] * added, target, node)
    reach = [abs(item - zero) for item in image_limits(builder, source)]
    if first.linear is None:
        conv, unit, builder.sums[output] = _as_it_is(builder, first, node)
    else:
        step = 1 if target.sign else target.unit / abs(scale)
        conv, unit = _finely(builder, first, target,
                             _largest_first(both, target, scale, gain, max(reach)), step, node)
    factors = ([scale * gain * unit, Fraction(0)] if both.product else
               [signs[0] * scale * unit, signs[1] * scale * gain])
    if target.sign:
        integers, shift, ties = _gains_of_sign(factors), 0, EVEN
        target = replace(target, zero_point=-1 if target.strict else 1)
    else:
        factors = [item / target.unit for item in factors]
        integers, shift = gains(factors, node)
        codes = first.linear is None and not both.product and all(
            builder.tensors[name].format.uniform for name in (conv.input, source))
        low, high = (item - int(zero) for item in image_limits(builder, source))
        ties = ties_of_sum(factors, target, [
            (conv.requantization.low, conv.requantization.high), (low, high)] if codes else None)
        builder.notes.add("combined", both.name, _off(
            conv, factors, integers, shift, reach, both.product, first.linear is not None))
    operand = Operand(source, both.product, integers[0], integers[1], int(zero), shift, ties,
                      zero_point=target.zero_point, low=target.low, high=target.high)
    return replace(conv, name=builder.unique(both.name), output=output, operand=operand,
                   nodes=(*first.nodes, *value.nodes))


def late_sum(builder: Builder, value: Value, slope: np.ndarray, after: np.ndarray, target: Target,
             name: str, node: Node) -> str | None:
    """The tensor of a value that is the sum of a convolution and a quantized map, with numbers
    below zero multiplied by `slope` and `after` added then (arrays of Fraction [channels]), by one
    layer of a chip with offsets; None where that has none or cannot compute it.

    First results have steps of which a whole number are a step of the map, so that their sum is
    exact before it is multiplied.
    """
    both, scale = value.linear, uniform(value.gain)
    assert isinstance(both, Pair)
    first, second, signs = both.first, both.second, [1, both.sign]
    if first.linear is None:
        first, second, signs = second, first, signs[::-1]
    if not builder.offsets or both.product or not scale or scale < 0 or not (
            _is_code(second) and isinstance(first.linear, Linear) and first.map == both.first.map):
        return None
    if any(item is not None for item in (first.low, first.high, first.slope, first.pool)):
        return None
    source, gain, zero, rest = _operand(builder, second, node)
    own = signs[0]
    moved = replace(first, gain=own * first.gain,
                    offset=own * first.offset + value.offset / scale + signs[1] * rest)
    most = (1 << FIRST_BITS - 1) - 1
    reach = max(abs(item - zero) for item in image_limits(builder, source))
    largest = max(_largest(builder, moved))
    if (slope > 0).all():
        # Beyond this, the result saturates for every operand.
        ends = [abs(target.unit * (end - target.zero_point) - item) / scale / min(1, factor)
                for end in (target.low - 1, target.high + 1)
                for item, factor in zip(after, slope, strict=True)]
        largest = min(largest, max(ends) + abs(gain) * reach)
    times = min(1 << FIRST_BITS - 2, int(abs(gain) * most / largest))
    if not times:
        return None
    unit = abs(gain) / times
    step = scale * unit / target.unit               # of a first result, in those of the target
    if step > Fraction(1, _FINE) or not offsets_fit(after, target):
        return None
    target = target.within(value, node)
    fine = replace(target, scale=unit, zero_point=0, low=-most - 1, high=most, odd=False)
    conv = quantizing_layer(builder, moved, fine, "", node)
    factor, shift = scaling(step, node)
    below = [scaling(abs(item) * step, node) if item else (0, 0) for item in slope]
    own_below = Below(np.array([m if item > 0 else -m for (m, _), item in zip(
        below, slope, strict=True)]), np.array([s for _, s in below]), np.zeros(len(slope), int))
    builder.notes.add("combined", both.name, step / 2 * max(1, *map(abs, slope)))
    operand = Operand(source, False, factor, signs[1] * (times if gain > 0 else -times), int(zero),
                      shift, ODD if target.odd else EVEN, zero_point=target.zero_point,
                      low=target.low, high=target.high)
    name = builder.add_tensor(name, first.map, target)
    assert conv.requantization is not None
    builder.add_layer(replace(
        conv, name=builder.unique(both.name), output=name, operand=operand,
        nodes=tuple(dict.fromkeys([*first.nodes, *value.nodes])),
        requantization=replace(conv.requantization, below=own_below,
                               offset=offsets(after, target), late=True)))
    return name


def _sides(both, node):
    """(value whose layer combines, value that is its operand, signs of the two)."""
    first, second, signs = both.first, both.second, [1, both.sign]
    if second.linear is not None and first.linear is None and second.map == first.map:
        first, second, signs = second, first, signs[::-1]
    if second.linear is not None:
        node.fail(f"quantizes the result of {both.name!r}, whose inputs are both not quantized; "
                  "put a quantizer after one of them")
    if isinstance(first.linear, Pair):
        inner = first.linear.name
        node.fail(f"quantizes the result of {both.name!r}, which reads that of {inner!r} before it "
                  f"is quantized; put a quantizer after {inner!r}")
    return first, second, signs


def _largest_first(both, target, scale, gain, reach):
    """The largest first result that matters; None: all do. Beyond it, the combined result saturates
    for every operand but 0. `gain`: real number of a step of the operand, which has up to `reach`
    steps."""
    if target.sign:
        # Results whose sign the operand cannot change may have any size.
        return None if both.product else 2 * abs(gain) * reach
    ends = [target.unit * (item - target.zero_point) / scale
            for item in (target.low - 1, target.high + 1)]
    most = max(map(abs, ends))
    return most / abs(gain) if both.product else most + abs(gain) * reach


def _off(conv, factors, integers, shift, reach, product, rounded):
    """How far a combined result can be off before it is rounded, in steps of the target: because
    the first results are `rounded` (if they are) by half of their step, and because both factors
    are."""
    own = conv.requantization
    first, second = max(abs(own.low), abs(own.high)), max(reach)
    errors = [abs(factor - Fraction(integer, 1 << shift)) for factor, integer in
              zip(factors, integers, strict=True)]
    half = abs(factors[0]) / 2 * rounded
    if product:
        return (half + first * errors[0]) * second
    # A result within its limits has a first result that is no further off than the operand.
    return half + first * errors[0] + second * errors[1]


def _operand(builder, value, node, product=False):
    """(tensor, gain, zero point, rest) of a quantized value: `rest` [channels] is what must be
    added where the zero point cannot express the offset. Raises UserError at `node` for a `product`
    that would have a rest."""
    source, gain, offset = builder.read(value, node)
    form, zero = builder.tensors[source].format, uniform(offset)
    zero = None if zero is None else -zero / gain
    low, high = form.image_range if form.binary or form.uniform else (0, 0)
    if zero is not None and zero.denominator == 1 and low <= zero <= high:
        return source, gain, int(zero), 0 * offset
    if product:
        maker = f"after {value.nodes[-1]!r}" if value.nodes else "before it"
        node.fail("multiplies a value that has no code for 0, since something was added to it; "
                  f"put a quantizer {maker}")
    return source, gain, 0, offset


def _moved(builder, value, added, target, node):
    """A value with the number `added` added to each channel, as the results of a convolution."""
    if value.low is not None or value.high is not None or value.slope is not None:
        node.fail(f"adds something to {value.nodes[-1]!r} after a Relu, Clip or slope; put a "
                  "quantizer between them")
    if not target.format.uniform:
        node.fail("adds a value that has no code for 0, since something was added to it; put a "
                  f"quantizer before it, as results in {target.format} need")
    value = replace(value, offset=value.offset + added)
    return value if value.linear is not None else identity(builder, value, None, node)


def _as_it_is(builder, value, node):
    """(Conv, what one step of its first results stands for, zero point): a layer whose first
    results are the images of a quantized value, less the zero point."""
    source, gain, zero, _ = _operand(builder, value, node)
    form = builder.tensors[source].format
    weight, _ = builder.weights_of_one(source, node)
    factor = weight.copying[1]
    channels = builder.tensors[source].shape[0]
    # It is a power of two: 1 / factor = multiplier / 2**shift.
    signs = form.binary
    low, high = image_limits(builder, source) if signs else builder.limits[source]
    own = Requantization(np.full(channels, 1 << 25),
                         np.full(channels, 25 + factor.bit_length() - 1), low=low - zero,
                         high=high - zero)
    conv = Conv("", source, "", Weights.ones(weight, channels), Geometry(groups=channels),
                np.full(channels, -zero * factor), own)
    return conv, gain, zero


def _finely(builder, value, target, reach, step, node):
    """(Conv, what one step of its first results stands for) of a value that no quantizer follows,
    rounded as finely as first results can be. They hold values up to `reach`; `step` is that of the
    combined result."""
    if not target.format.uniform:
        node.fail(f"adds the result of {value.nodes[-1]!r} before it is quantized; put a quantizer "
                  f"between them, as results in {target.format} need")
    largest = max(_largest(builder, value))
    if value.slope is not None:
        largest *= max(1, *map(abs, value.slope))
    largest = min([largest, *([] if reach is None else [reach])])
    most = (1 << FIRST_BITS - 1) - 1
    unit = Fraction(step)
    while unit * most < largest:
        unit *= 2
    while unit * most / 2 >= largest and largest:
        unit /= 2
    lowest: Any = -most - 1 if value.low is None else max(-most - 1, round(value.low / unit))
    highest: Any = most if value.high is None else min(most, round(value.high / unit))
    fine = replace(target, scale=unit, zero_point=0, low=min(lowest, most),
                   high=max(highest, lowest), sign=False, odd=False)
    return quantizing_layer(builder, value, fine, "", node), unit


def _largest(builder, value):
    """The largest magnitude of each channel of a convolution's results, whatever it reads."""
    low, high = value.linear.weights.sum_ranges(builder.tensors[value.source].format)
    times = value.window[0] * value.window[1]
    return [max(abs(gain * times * item + offset) for item in ends) for gain, offset, *ends in
            zip(value.gain, value.offset, low, high, strict=True)]


def _gains_of_sign(ratios):
    """Even integers in the ratio of two numbers, or as near to it as they can be. Without a shift,
    1 added to the sum of their products never leaves a sign undecided."""
    most = (1 << GAIN_BITS - 2) - 1
    common = lcm(*(item.denominator for item in ratios))
    whole = [int(item * common) for item in ratios]
    whole = [item // gcd(*whole) for item in whole]
    largest = max(map(abs, whole))
    if largest > most:
        whole = [round(Fraction(item * most, largest)) for item in whole]
    return [2 * item for item in whole]


