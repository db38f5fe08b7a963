"""Channels of different scales in one layer's input.

A convolution reads one scale. Channels of another scale are read with weights multiplied by the
ratio of the scales, where the products have codes; else the convolution is the sum of several, one
for each scale.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
from systolith.hw.formats import Int
from systolith.sim.model.weights import Weights

from .layout import picked
from .nodes import Node
from .rationals import uniform
from .values import Pair, Value, like

if TYPE_CHECKING:
    from .builder import Builder

__all__ = ["MOST", "common_unit", "of_scales", "scaled"]

#: The most convolutions that one is split into.
MOST = 4
#: Bits that weights may grow to where the network's weights have fewer.
_BITS = 8


def scaled(value: Value, gain: np.ndarray, offset: np.ndarray) -> Value | None:
    """gain * value + offset, with numbers [channels]; None where limits or a slope of the value
    would then differ between channels."""
    low, high = value.low, value.high
    if value.slope is not None and ((gain <= 0).any() or offset.any()):
        return None
    ends = [item for item in (low, high) if item is not None]
    if ends:
        common = uniform(gain), uniform(offset)
        if None not in common and common[0]:
            low, high = (None if item is None else item * common[0] + common[1]
                         for item in (low, high))
        elif any(ends) or offset.any() or not ((gain > 0).all() or (gain < 0).all()):
            return None
        if gain[0] < 0:
            low, high = high, low
    pool = value.pool and value.pool.scaled(gain)
    return replace(value, gain=value.gain * gain, offset=value.offset * gain + offset, low=low,
                   high=high, pool=pool)


def common_unit(numbers: Sequence[Fraction]) -> Fraction | None:
    """The largest number of which all (positive) numbers are multiples; None where it is less than
    2**-14 of the first."""
    unit = numbers[0]
    for other in numbers[1:]:
        while other:
            if other < numbers[0] / (1 << 14):
                return None
            unit, other = other, unit % other
    return unit


def of_scales(builder: "Builder", node: Node, value: Value,
              weights: tuple[Weights, np.ndarray], geometry: Callable | None,
              linear: Callable[..., Value]) -> Value:
    """The convolution, in one group, of channels of different scales.

    `weights`: (weights, their scale [O]) and `geometry` are parameters of
    `operators.linear.linear`, which is passed as `linear`. Raises UserError at `node`.
    """
    kernel, scale = weights
    format, images = kernel.format, kernel.images
    padded = geometry is not None and any(
        pad > 0 for pad in geometry(value.map[1:], images.shape[2:])[2])
    if not value.gain.all():
        return _without_constants(builder, node, value, weights, geometry, linear, padded)
    value = builder.codes(value, node)
    zeros = -value.offset / value.gain if padded else 0 * value.gain
    bits = max([_BITS, *(item.width for item in (format, builder.weight_format)
                         if item is not None and item.uniform)])
    runs: list[list[int]] = []      # lists of channels that one convolution reads
    for kind in dict.fromkeys(zip(value.gain, zeros, strict=True)):
        own = [n for n, other in enumerate(zip(value.gain, zeros, strict=True)) if other == kind]
        for run in runs:
            if zeros[run[0]] == kind[1] and _factors(value, images, [*run, *own], bits):
                run += own
                break
        else:
            runs.append(own)
    if len(runs) > MOST:
        node.fail(f"reads channels of {len(runs)} scales whose ratios its weights cannot hold; put "
                  "a quantizer before it, or give the channels one scale")
    results = []
    for run in map(sorted, runs):
        unit, factors = _factors(value, images, run, bits) or (value.gain[run[0]], [1])
        part = picked(builder, node, value, np.array(run))
        part = replace(part, gain=np.full(len(run), unit, dtype=object),
                       offset=part.offset / np.array(factors, dtype=object), nodes=value.nodes)
        some = images[:, run] * np.reshape(factors, (1, -1, 1, 1))
        form = format
        if format.uniform:
            form = Int(max(format.width, int(abs(some).max(initial=0)).bit_length() + 1
                           if len(set(factors)) > 1 else 0))
        results.append(linear(builder, node, part, Weights(some, form), scale, geometry))
    return reduce(lambda total, result: _sum(total, result, node), results)


def _without_constants(builder, node, value, weights, geometry, linear, padded):
    """The convolution of channels some of which a factor of 0 makes constant: these become part of
    the offset."""
    (kernel, scale), images = weights, weights[0].images
    kept, constant = np.flatnonzero(value.gain), np.flatnonzero(value.gain == 0)
    numbers = value.offset[constant]
    if value.low is not None or value.high is not None:
        node.fail("reads channels of different scales after a Relu or Clip; put a quantizer "
                  "between them")
    if not len(kept) or (padded and numbers.any()):
        node.fail("reads channels that a factor of 0 makes constant; put a quantizer before it")
    result = linear(builder, node, picked(builder, node, value, kept),
                    replace(kernel, images=images[:, kept]), scale, geometry)
    added = (images[:, constant].sum(axis=(2, 3)).astype(object) * numbers).sum(axis=1)
    result.offset = result.offset + added * scale * Fraction(2) ** kernel.format.exponent
    return result


def _factors(value, images, run, bits):
    """(unit, factor of each channel): the scale of the channels `run` is unit * factor, and the
    factors times the weights are integers of at most `bits` bits; None where they are not."""
    gains = value.gain[run]
    unit = common_unit([abs(item) for item in gains])
    if unit is None:
        return None
    unit = unit if gains[0] > 0 else -unit
    factors = [item / unit for item in gains]
    if len(set(factors)) == 1:
        return gains[0], [1] * len(run)
    most = (1 << bits - 1) - 1
    if max(map(abs, factors)) > most or any(
            abs(images[:, n]).max() * abs(factor) > most
            for n, factor in zip(run, factors, strict=True)):
        return None
    return unit, [int(item) for item in factors]


def _sum(first, second, node):
    ones = np.full(first.map[0], Fraction(1), dtype=object)
    return like(first, Value(first.source, first.shape, first.map, ones, 0 * ones,
                             nodes=list(dict.fromkeys([*first.nodes, *second.nodes])),
                             linear=Pair(node.name, first, second)))

