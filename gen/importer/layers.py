"""The layers that quantize values: requantization in integers, with pooling and clipping.

What a layer computes is exact but for two roundings: the scale to a multiplier of 26 bits, and the
bias to so many fraction bits (of which the chip holds some). A batch norm before a binary quantizer
becomes an exact integer threshold.
"""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from systolith.sim.model import numerics
from systolith.sim.model.conv import Conv
from systolith.sim.model.geometry import Geometry
from systolith.sim.model.placement import Placement
from systolith.sim.model.pool import Pool
from systolith.sim.model.requantization import Requantization

from .binary import as_signs, thresholds
from .constant import settle_constant_channels
from .requantize import below_zero, best_weight, requantization
from .target import own_target
from .ties import ties_of
from .values import Linear, Value, codes_of, exact

__all__ = ["copy_layer", "identity", "moving_layer", "quantizing_layer"]


def copy_layer(builder, source, output, pool, nodes, node):
    """A layer that only pools and clips."""
    old = builder.tensors[source]
    unit = Fraction(old.scale) * Fraction(2) ** old.format.exponent
    gain = np.full(old.shape[0], unit, dtype=object)
    value = Value(source, old.shape, old.shape, gain, -old.zero_point * gain, pool=pool,
                  nodes=nodes)
    return quantizing_layer(builder, value, own_target(builder, output), output, node)


def moving_layer(builder, source, output, move, nodes, node):
    """A layer that copies what a `Move` says."""
    old, count = builder.tensors[source], len(move.channels)
    ends = [corner + (size - 1) * stride + 1 - whole for corner, size, stride, whole in
            zip(move.corner, move.sizes, move.stride, old.shape[1:], strict=True)]
    unit = Fraction(old.scale) * Fraction(2) ** old.format.exponent
    gain = np.full(count, unit, dtype=object)
    whole = np.array_equal(move.channels, np.arange(old.shape[0]))
    shape = (count, *move.sizes)
    value = Value(source, shape, shape, gain, -old.zero_point * gain, nodes=nodes,
                  channels=None if whole else move.channels,
                  pads=(-move.corner[0], -move.corner[1], *ends))
    layer = quantizing_layer(builder, value, own_target(builder, source), output, node)
    return replace(layer, geometry=replace(layer.geometry, stride=move.stride),
                   placement=Placement(move.first_channel, move.step, move.origin))


def identity(builder, value, target, node):
    """The value as a 1 x 1 depthwise convolution, with weights chosen so that quantizing every
    code by `target` (None: raw) is as exact as possible."""
    source = builder.tensors[value.source]
    format = builder.weight_format or source.format
    images = format.image(format.finite_codes())
    one = int(format.image(format.encode(1.0)))
    candidates = [one, *sorted({int(image) for image in images if image > 0} - {one})]
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
    linear = Linear(name, weights.reshape(channels, 1, 1, 1), format, (1, 1), (1, 1),
                    value.pads, value.pad_image, ties)
    return replace(value, linear=linear, gain=value.gain / exact(weights))


def quantizing_layer(builder, value, target, output, node):
    """The layer that quantizes `value` into the tensor `output`; target None: raw."""
    if value.linear is None:
        value = identity(builder, value, target, node)
    linear, source = value.linear, builder.tensors[value.source]
    images, form = linear.images.copy(), linear.format
    gain, offset = value.gain, value.offset
    below = ties = None
    if target is not None:
        negative = gain < 0
        images[negative] *= -1
        gain = abs(gain)
        if target.format.binary:
            images, form, gain = as_signs(images, form, gain)
            if value.slope is not None and (value.slope <= 0).any():
                node.fail(f"takes the sign of {value.nodes[-1]!r}, whose slope must be "
                          "positive; put a quantizer of more than one bit between them")
            parameters = thresholds(images, gain, offset, source.format, target.strict,
                                    value.window[0] * value.window[1])
        else:
            if form.zero_code is not None:
                gain, offset = settle_constant_channels(
                    images, gain, offset, value.slope, target, source.format,
                    value.window[0] * value.window[1])
            parameters = requantization(images, gain, offset, target, node)
            ties = linear.ties
            if ties is None and target.format.uniform:
                window = value.window[0] * value.window[1]
                ends = (window * np.array(item, object) for item in
                        numerics.sum_ranges(images, source.format))
                ties = ties_of(zip(gain, offset, *ends, strict=True), value.slope, target)
            if value.slope is not None:
                below = below_zero(images, gain, offset, value.slope, parameters, target, node)
    else:
        low, high = numerics.sum_ranges(images, source.format)
        whole = [0 if g == 0 else round(o / g) for g, o in zip(gain, offset, strict=True)]
        whole = [b if lo <= b <= hi else 0 for b, lo, hi in zip(whole, low, high, strict=True)]
        parameters = whole, [1] * len(whole), [0] * len(whole)
    bias, multiplier, shift, *addend = (np.array(item, dtype=np.int64) for item in parameters)
    count = source.shape[0] if value.channels is None else len(value.channels)
    groups = count // images.shape[1]
    pad_code = None
    padded = any(pad > 0 for pad in linear.pads)
    if linear.pad_image and padded:
        pad_code = int(codes_of(source.format, linear.pad_image, node))
    more: dict[str, Any] = {"addend": addend[0] if addend else None, "ties": ties, "below": below}
    own = None if target is None else Requantization(
        multiplier, shift, zero_point=target.zero_point, low=target.low, high=target.high, **more)
    return Conv(
        builder.unique(linear.name), value.source, output, codes_of(form, images, node), form,
        Geometry(linear.stride, linear.dilation, linear.pads, pad_code,
                 linear.pad_image is None and padded, groups),
        bias, own, value.pool or Pool(value.window, sum=value.window != (1, 1)),
        channels=value.channels, nodes=value.nodes)
