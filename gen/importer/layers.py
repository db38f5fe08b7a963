"""The layers that quantize values: requantization in integers, with pooling and clipping.

What a layer computes is exact but for two roundings: the scale, to a multiplier of 26 bits, and the
bias, to as many fraction bits (of which the chip holds some). A batch normalization before a binary
quantizer becomes an exact integer threshold.
"""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from systolith.sim.model.conv import Conv
from systolith.sim.model.geometry import Geometry
from systolith.sim.model.placement import Placement
from systolith.sim.model.pool import Pool
from systolith.sim.model.requantization import Requantization
from systolith.sim.model.weights import Weights

from .binary import as_signs, thresholds
from .constant import settle_constant_channels
from .moves_plan import Move
from .nodes import Node
from .rationals import exact
from .requantize import below_zero, best_weight, offsets, requantization
from .target import Target, own_target
from .ties import ties_of
from .values import Linear, Value

if TYPE_CHECKING:
    from .builder import Builder

__all__ = ["copy_layer", "identity", "moving_layer", "quantizing_layer"]


def copy_layer(builder: "Builder", source: str, output: str, pool: Pool | None,
               nodes: Sequence[str], node: Node) -> Conv:
    """The layer that copies the codes of the tensor `source` to the tensor `output`, pooled and
    clipped to the limits of `output`. `nodes`: names of the ONNX nodes that it stands for; errors
    are raised at `node`."""
    old = builder.tensors[source]
    unit = Fraction(old.scale) * Fraction(2) ** old.format.exponent
    gain = np.full(old.shape[0], unit, dtype=object)
    value = Value(source, old.shape, old.shape, gain, -old.zero_point * gain, pool=pool,
                  nodes=list(nodes))
    return quantizing_layer(builder, value, own_target(builder, output), output, node)


def moving_layer(builder: "Builder", source: str, output: str, move: Move, nodes: Sequence[str],
                 node: Node) -> Conv:
    """The layer that copies what a `Move` says from the tensor `source` to the tensor `output`."""
    old, count = builder.tensors[source], len(move.channels)
    ends = [corner + (size - 1) * stride + 1 - whole for corner, size, stride, whole in
            zip(move.corner, move.sizes, move.stride, old.shape[1:], strict=True)]
    unit = Fraction(old.scale) * Fraction(2) ** old.format.exponent
    gain = np.full(count, unit, dtype=object)
    whole = np.array_equal(move.channels, np.arange(old.shape[0]))
    shape = (count, *move.sizes)
    value = Value(source, shape, shape, gain, -old.zero_point * gain, nodes=list(nodes),
                  channels=None if whole else move.channels,
                  pads=(-move.corner[0], -move.corner[1], *ends))
    layer = quantizing_layer(builder, value, own_target(builder, source), output, node)
    return replace(layer, geometry=replace(layer.geometry, stride=move.stride),
                   placement=Placement(move.first_channel, move.step, move.origin))


def identity(builder: "Builder", value: Value, target: Target | None, node: Node) -> Value:
    """A value of codes as a 1 x 1 depthwise convolution, with weights chosen so that quantizing
    every code by `target` (None: raw sums) is as exact as possible."""
    source = builder.tensors[value.source]
    format = builder.weight_format or source.format
    images = format.image(format.finite_codes())
    one, factor = format.copying
    # where a product is no product of images, none but the one that copies is known
    others = images if factor == one else images[:0]
    candidates = [one, *sorted({int(image) for image in others if image > 0} - {one})]
    codes = source.format.image(source.format.finite_codes())
    keys = [(format, source.format, target, *item)
            for item in zip(value.gain, value.offset, strict=True)]
    for key in {*keys} - builder.chosen.keys():
        *_, gain, offset = key
        builder.chosen[key] = best_weight(candidates, codes, gain, offset, target, node)
    weights, ties = (np.array(item) for item in zip(*(builder.chosen[key] for key in keys),
                                                    strict=True))
    channels = len(weights)
    name = next(iter(value.nodes), node.name)
    linear = Linear(name, Weights(weights.reshape(channels, 1, 1, 1), format), (1, 1), (1, 1),
                    value.pads, value.pad_image, ties)
    gain = value.gain / (exact(weights) if factor == one else factor)
    return replace(value, linear=linear, gain=gain)


def quantizing_layer(builder: "Builder", value: Value, target: Target | None, output: str,
                     node: Node) -> Conv:
    """The layer that quantizes a value by `target` into the tensor `output`; `target` None: a raw
    layer, whose results are sums. Raises UserError at `node` where the layer's integers would be
    too large, or a weight has no code."""
    if value.linear is None:
        value = identity(builder, value, target, node)
    linear, source = value.linear, builder.tensors[value.source]
    assert isinstance(linear, Linear)
    weights, bias, requantized = _requantized(value, source.format, target, node)
    _check(weights, node)
    count = source.shape[0] if value.channels is None else len(value.channels)
    padded = any(pad > 0 for pad in linear.pads)
    pad_code = None
    if linear.pad_image and padded:
        if not source.format.has_image(linear.pad_image):
            node.fail(f"pads its input with {linear.pad_image} steps, which have no code in "
                      f"{source.format}; put a quantizer before it whose zero point is such a code")
        pad_code = int(source.format.from_image(linear.pad_image))
    return Conv(
        builder.unique(linear.name), value.source, output, weights,
        Geometry(linear.stride, linear.dilation, linear.pads, pad_code,
                 linear.pad_image is None and padded, count // weights.shape[1]),
        bias, requantized, value.pool or Pool(value.window, sum=value.window != (1, 1)),
        channels=value.channels, nodes=tuple(value.nodes))


def _check(weights, node):
    """Raise UserError at `node` where a weight has no code."""
    if not weights.format.has_zero and not weights.images.all():
        node.fail("needs a weight of 0, and binary weights are +1 or -1; quantize the weights to "
                  "more bits, or put the quantizer right after a convolution")
    wrong = weights.images[~weights.has_codes]
    if wrong.size:
        node.fail(f"a weight of {wrong[0]} steps has no code in {weights.format}: a negative scale "
                  "or batch norm changes the sign of weights; quantize weights to a symmetric "
                  "range")


def _requantized(value, format, target, node):
    """(Weights, bias, Requantization or None) of the layer that quantizes the results of a
    convolution of a tensor of `format`."""
    linear, times = value.linear, prod(value.window)
    if target is None:
        low, high = linear.weights.sum_ranges(format)
        whole = [0 if g == 0 else round(o / g) for g, o in
                 zip(value.gain, value.offset, strict=True)]
        return linear.weights, np.array(
            [b if lo <= b <= hi else 0 for b, lo, hi in zip(whole, low, high, strict=True)]), None
    # Weights change their sign, so that gains are positive.
    weights = linear.weights.negated(value.gain < 0)
    gain, offset = abs(value.gain), value.offset

    def ends(weights):
        """Smallest and largest sums of each channel, over the whole window."""
        low, high = weights.sum_ranges(format)
        return times * np.array(low, object), times * np.array(high, object)

    limits = dict(zero_point=target.zero_point, low=target.low, high=target.high)
    if target.format.binary:
        weights, gain = as_signs(weights, gain)
        if value.slope is not None and (value.slope <= 0).any():
            node.fail(f"takes the sign of {value.nodes[-1]!r}, whose slope must be "
                      "positive; put a quantizer of more than one bit between them")
        bias, multiplier, shift = map(np.array, thresholds(
            gain, offset, ends(weights), target.strict))
        return weights, bias, Requantization(multiplier, shift, **limits)
    constant = weights.constant
    if weights.format.has_zero:
        gain, offset, settled = settle_constant_channels(gain, offset, ends(weights), value.slope,
                                                         target, value.after)
        constant = constant | settled
    constant = constant | (gain == 0).astype(bool)
    weights = weights.without(constant)
    parameters = requantization(gain, offset, constant, target, node)
    bias, multiplier, shift, addend = map(np.array, parameters)
    ties, below = linear.ties, None
    if ties is None and target.format.uniform:
        ties = ties_of(zip(gain, offset, *ends(weights), strict=True), value.slope, target,
                       value.after)
    if value.slope is not None:
        below = below_zero(gain, offset, constant, value.slope, parameters, target, node)
    moved = None if value.after is None else np.where(constant, 0, offsets(value.after, target))
    return weights, bias, Requantization(multiplier, shift, addend, ties, below, moved, **limits)
